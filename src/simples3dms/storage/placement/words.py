"""A placement in words: read into a policy, with every fault named, and put back into words."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final
from uuid import UUID

from simples3dms.errors import Invalid
from simples3dms.storage.placement.router import Copy
from simples3dms.storage.placement.values import (
    Across,
    Grant,
    Layout,
    LayoutWords,
    Match,
    Placement,
    PlacementRow,
    Policy,
    PolicyWords,
    ReadPreference,
    Rule,
    RuleWords,
    Spread,
    SpreadWords,
    Standing,
)
from simples3dms.storage.stores.jurisdictions import is_inside
from simples3dms.storage.stores.traits import DISTANCES

MOST_SHARES: Final = 10
MOST_COPIES: Final = 10
MOST_RULES: Final = 20
MOST_PATTERNS: Final = 20
LARGEST_WEIGHT: Final = 10_000
MOST_DAYS: Final = 100_000
MOST_ACKS: Final = 4
_PATTERN: Final = re.compile(r"[a-z0-9!#$&^_.+*-]{1,100}/[a-z0-9!#$&^_.+*-]{1,100}")


def to_policy(
    grants: Sequence[Grant],
    words: PolicyWords,
    *,
    closed: Collection[str] = (),
    allowed: Collection[str] | None = None,
    held: Collection[UUID] = (),
) -> Policy:
    """A policy from store names. Raises Invalid (`placement_invalid`) with all that is wrong, field by field.

    Further copies are drawn among the granted stores that the tenant may begin to use: of no `closed` kind, inside the
    `allowed` jurisdictions; one that is `held` by the policy in force may stay.
    """
    open_ids = {g.store_id for g in grants if not g.is_cache and (g.kind not in closed or g.store_id in held)}
    reader = _Reader(
        grants, {g.store_id for g in grants if g.store_id in open_ids and is_inside(g.jurisdiction, allowed)}
    )
    layout = reader.layout(words, "")
    if len(words.rules) > MOST_RULES:
        reader.blame("rules", f"A placement has up to {MOST_RULES} rules.")
    rules = tuple(
        Rule(reader.match(rule.match, f"rules.{n}.match."), reader.layout(rule, f"rules.{n}."))
        for n, rule in enumerate(words.rules[:MOST_RULES])
    )
    read = tuple(dict.fromkeys(reader.store(name, "read") for name in words.read))
    reader.finish()
    return Policy(
        layout.write_store_id,
        read_store_ids=read,
        rules=rules,
        read_preference=ReadPreference(words.read_preference),
        hedge=words.hedge,
    ).with_layout(layout)


def checked_match(match: Match, at: str) -> Match:
    """The conditions, as rules have them. Raises Invalid (`placement_invalid`) with all that is wrong."""
    reader = _Reader((), ())
    read = reader.match(match, at)
    reader.finish()
    return read


class _Reader:
    """Reads words, and gathers what is wrong with them."""

    def __init__(self, grants: Sequence[Grant], open_ids: Collection[UUID]) -> None:
        self._by_name = {grant.name: grant for grant in grants}
        self._open_ids = open_ids
        self._faults: list[dict[str, str]] = []

    def blame(self, field: str, message: str) -> None:
        if {"field": field, "message": message} not in self._faults:
            self._faults.append({"field": field, "message": message})

    def finish(self) -> None:
        if self._faults:
            message = " ".join(dict.fromkeys(fault["message"] for fault in self._faults[:3]))
            raise Invalid(message, code="placement_invalid", fields=self._faults)

    def store(self, name: str, field: str) -> UUID:
        grant = self._by_name.get(name)
        if grant is None:
            self.blame(field, f"There is no store {name!r} granted to this tenant.")
            return UUID(int=0)
        if grant.is_cache:
            self.blame(field, f"{name} is a cache: what it holds is no copy, so no placement names it.")
        return grant.store_id

    def layout(self, words: LayoutWords, at: str) -> Layout:
        weights = self._weights(words, at)
        copies = tuple(self.store(name, f"{at}copies") for name in words.copies)
        if words.write in words.copies or len(set(words.copies)) != len(words.copies):
            self.blame(f"{at}copies", "Each store may be named once among the write target and the copies.")
        if len(words.copies) > MOST_COPIES:
            self.blame(f"{at}copies", f"Up to {MOST_COPIES} stores hold copies.")
        layout = Layout(self.store(words.write, f"{at}write"), copies, weights)
        spread = self._spread(words.spread, layout, f"{at}spread") if words.spread else None
        kept = 1 + len(copies) + (words.spread.copies if words.spread else 0)
        if not 1 <= words.min_acks <= min(MOST_ACKS, kept):
            self.blame(
                f"{at}min_acks",
                f"An upload waits for 1 to {MOST_ACKS} stores, and for no more than the {kept} that hold its bytes.",
            )
        return Layout(layout.write_store_id, copies, weights, spread, words.min_acks)

    def _weights(self, words: LayoutWords, at: str) -> tuple[tuple[UUID, int], ...]:
        weights = words.shares
        ids = tuple((self.store(name, f"{at}shares"), weight) for name, weight in weights.items())
        if weights and (words.write not in weights or set(weights) & set(words.copies) or len(weights) > MOST_SHARES):
            self.blame(
                f"{at}shares",
                f"Shares name the write target and up to {MOST_SHARES - 1} other stores, none of which holds copies.",
            )
        if any(not 1 <= weight <= LARGEST_WEIGHT for weight in weights.values()):
            self.blame(f"{at}shares", f"A share is a whole number from 1 to {LARGEST_WEIGHT}.")
        return ids if len(ids) > 1 else ()

    def _spread(self, words: SpreadWords, layout: Layout, field: str) -> Spread | None:
        if not 1 <= words.copies <= MOST_COPIES:
            self.blame(field, f"Up to {MOST_COPIES} further copies can be asked for.")
            return None
        named = {*layout.write_store_ids, *layout.copy_store_ids}
        grants = [g for g in self._by_name.values() if g.store_id in named or g.store_id in self._open_ids]
        groups = {g.store_id: group for g in grants if (group := g.group(words.across)) is not None}
        free = tuple(s for s in groups if s in self._open_ids and s not in named)
        for store_id in named - groups.keys():
            grant = next((g for g in grants if g.store_id == store_id), None)
            if grant is not None:
                self.blame(field, f"Nobody has said where {grant.name} lies, so copies can't be kept apart from it.")
        for write in layout.write_store_ids:
            taken = {groups.get(store_id) for store_id in (write, *layout.copy_store_ids)}
            # Another write target is no candidate: whether it is free would depend on the blob.
            room = len({groups[store_id] for store_id in free} - taken)
            if room < words.copies:
                self.blame(
                    field,
                    f"{words.copies} further copies across {words.across} need as many other {words.across}; there "
                    f"{'is' if room == 1 else 'are'} {room} among the stores that this tenant may use.",
                )
                break
        return Spread(words.copies, Across(words.across), free, tuple(groups.items()))

    def match(self, match: Match, at: str) -> Match:
        patterns = tuple(dict.fromkeys(pattern.lower() for pattern in match.content_types))
        if len(patterns) > MOST_PATTERNS or not all(_PATTERN.fullmatch(pattern) for pattern in patterns):
            self.blame(
                f"{at}content_types",
                f"Up to {MOST_PATTERNS} content types such as application/pdf or image/*, without parameters.",
            )
        self._range(f"{at}max_bytes", match.min_bytes, match.max_bytes, 2**62)
        self._range(f"{at}max_age_days", match.min_age_days, match.max_age_days, MOST_DAYS)
        read = Match(patterns, match.min_bytes, match.max_bytes, match.min_age_days, match.max_age_days)
        if read == Match():
            self.blame(at.rstrip("."), "A rule names at least one condition; what no rule matches follows the rest.")
        return read

    def _range(self, field: str, least: int | None, most: int | None, limit: int) -> None:
        if any(not 0 <= value <= limit for value in (least, most) if value is not None):
            self.blame(field, f"A whole number from 0 to {limit}.")
        if least is not None and most is not None and least > most:
            self.blame(field, "The greatest is smaller than the least: nothing would match.")


def in_words(row: PlacementRow, grants: Sequence[Grant]) -> Placement:
    """The policy in force with store names; of a store that is granted no more, its id."""
    words = policy_in_words(row.policy, {grant.store_id: grant.name for grant in grants})
    return Placement(
        **{name: getattr(words, name) for name in PolicyWords.__dataclass_fields__},
        version=row.version,
        updated_at=row.updated_at,
    )


def policy_in_words(policy: Policy, names: Mapping[UUID, str]) -> PolicyWords:
    own = _layout_in_words(policy.layout, names)
    rules = tuple(_rule_in_words(rule, names) for rule in policy.rules)
    read = tuple(_name(store_id, names) for store_id in policy.read_store_ids)
    return PolicyWords(
        own.write, own.copies, own.shares, own.spread, own.min_acks, read, rules, policy.read_preference, policy.hedge
    )


def _rule_in_words(rule: Rule, names: Mapping[UUID, str]) -> RuleWords:
    own = _layout_in_words(rule.layout, names)
    return RuleWords(own.write, own.copies, own.shares, own.spread, own.min_acks, rule.match)


def _layout_in_words(layout: Layout, names: Mapping[UUID, str]) -> LayoutWords:
    return LayoutWords(
        _name(layout.write_store_id, names),
        tuple(_name(store_id, names) for store_id in layout.copy_store_ids),
        {_name(store_id, names): weight for store_id, weight in layout.write_weights},
        SpreadWords(layout.spread.copy_count, layout.spread.across) if layout.spread else None,
        layout.min_acks,
    )


def _name(store_id: UUID, names: Mapping[UUID, str]) -> str:
    return names.get(store_id, str(store_id))


def read_reason(policy: Policy, copy: Copy, standing: Standing | None) -> str:
    """Why a copy has its place in the order of reading."""
    if copy.state != "live":
        return "doubted: only where no other copy can be read"
    if standing is None:
        return "unknown store"
    if standing.is_resting:
        return "disabled, or left alone for a while after faults"
    if policy.read_preference is ReadPreference.NEAREST:
        return DISTANCES[standing.distance]
    if policy.read_preference is ReadPreference.CHEAPEST:
        return "price not known" if standing.price is None else f"{standing.price} USD per GiB"
    if policy.read_preference is ReadPreference.FASTEST:
        return (
            "not measured yet"
            if standing.seconds is None
            else f"first byte after {standing.seconds * 1000:.0f} ms, measured by this process"
        )
    return "listed" if copy.store_id in policy.read_store_ids else "in the placement's order"
