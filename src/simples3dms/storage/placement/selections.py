"""A part of a tenant's blobs, and what two conditions have in common: pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any
from uuid import UUID

from simples3dms.storage.placement.values import Match, match_document


@dataclass(frozen=True, slots=True)
class Selection:
    """Blobs that meet `only`, and for which the first of `rules` that they match says yes, or none and `otherwise`.

    Ages are counted at the moment `at` (None: now). Besides, whatever meets `only` and lies in `lone_store_id` alone.
    """

    only: Match | None = None
    rules: tuple[tuple[Match, bool], ...] = ()
    otherwise: bool = True
    at: datetime | None = None
    lone_store_id: UUID | None = None

    @property
    def is_all(self) -> bool:
        return self.only is None and self.otherwise and all(is_in for _, is_in in self.rules)

    @property
    def is_none(self) -> bool:
        return self.lone_store_id is None and not self.otherwise and not any(is_in for _, is_in in self.rules)

    def document(self) -> dict[str, Any] | None:
        """As the database reads it; None: all blobs."""
        if self.is_all:
            return None
        return {
            "only": match_document(self.only or Match()),
            "rules": [{"match": match_document(match), "in": is_in} for match, is_in in self.rules],
            "else": self.otherwise,
        }


class Unclear(ValueError):
    """Which content types two lists of patterns have in common can't be said in patterns."""


def both(one: Match, other: Match) -> Match | None:
    """What meets both conditions; None: nothing can. Raises Unclear."""
    types: tuple[str, ...] = one.content_types or other.content_types
    if one.content_types and other.content_types:
        types = tuple(dict.fromkeys(_common(one.content_types, other.content_types)))
        if not types:
            return None
    read = Match(
        types,
        _most(one.min_bytes, other.min_bytes),
        _least(one.max_bytes, other.max_bytes),
        _most(one.min_age_days, other.min_age_days),
        _least(one.max_age_days, other.max_age_days),
    )
    is_empty = _is_crossed(read.min_bytes, read.max_bytes) or _is_crossed(read.min_age_days, read.max_age_days)
    return None if is_empty else read


def _common(ones: Iterable[str], others: tuple[str, ...]) -> Iterator[str]:
    for one in ones:
        for other in others:
            if fnmatchcase(one, other):
                yield one
            elif fnmatchcase(other, one):
                yield other
            elif _may_meet(one, other):
                raise Unclear(f"{one} and {other}")


def _may_meet(one: str, other: str) -> bool:
    """Whether something might fit both patterns, neither of which holds the other."""
    if "*" not in one or "*" not in other:
        return False
    head, other_head = one.partition("*")[0], other.partition("*")[0]
    tail, other_tail = one.rpartition("*")[2], other.rpartition("*")[2]
    return (head.startswith(other_head) or other_head.startswith(head)) and (
        tail.endswith(other_tail) or other_tail.endswith(tail)
    )


def _most(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)


def _least(one: int | None, other: int | None) -> int | None:
    return min((value for value in (one, other) if value is not None), default=None)


def _is_crossed(least: int | None, most: int | None) -> bool:
    return least is not None and most is not None and least > most
