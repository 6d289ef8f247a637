"""Refused attempts, recorded by the door that refuses them: the first of each kind at once, repeats as a count.

Whoever is refused can't fill the disk: of one process, so many kinds a minute have events of their own, and all others
share one; strangers and people who are known each have that room for themselves. Counts live in memory: a crash loses
those of the last minute, and never a first attempt's event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import structlog

from simples3dms.audit import repository
from simples3dms.audit.values import AuditEvent
from simples3dms.context import PLATFORM, SOMEBODY, Principal
from simples3dms.db.session import Database
from simples3dms.kit.ids import new_id

log = structlog.get_logger(__name__)

_MOST_KINDS: Final = 100
_LONGEST_TEXT: Final = 320


@dataclass(frozen=True, slots=True)
class Refusal:
    """Who was refused what, and whose chain is to hold it. Two are alike if all but their details are.

    `apart`: what else tells two apart; it is never written.
    """

    chain_id: UUID
    principal: Principal
    action: str
    target_type: str
    target_id: str
    details: Mapping[str, Any] = field(default_factory=dict, compare=False)
    apart: str = field(default="", repr=False)


#: What stands for all further kinds of a minute: of people who are known, of strangers.
_OTHERS: Final = Refusal(PLATFORM, Principal(None, "several"), "access.refused", "operation", "several")
_STRANGERS: Final = Refusal(PLATFORM, SOMEBODY, "sign_in.refused", "user", "several")


@dataclass(slots=True)
class _Tally:
    first: Refusal
    count: int = 1


class Refusals:
    """Notes what a process refuses. Never raises, and never holds up an answer for longer than one short insert."""

    def __init__(self, database: Database, *, window_seconds: float = 60.0, most_kinds: int = _MOST_KINDS) -> None:
        self._database = database
        self._window_seconds = window_seconds
        self._most_kinds = most_kinds
        self._tallies: dict[Refusal, _Tally] = {}
        self._closing: asyncio.Task[None] | None = None

    async def note(self, refusal: Refusal) -> None:
        """Record it, or count it if the like of it was recorded within the minute."""
        kind, is_stranger = refusal, refusal.principal.id is None
        if kind not in self._tallies:
            count = sum((one.principal.id is None) == is_stranger for one in self._tallies)
            if count >= self._most_kinds:
                kind = _STRANGERS if is_stranger else _OTHERS
        tally = self._tallies.get(kind)
        if tally is None:
            tally = self._tallies[kind] = _Tally(kind)
            self._begin()
            await self._write(tally.first, {})
        else:
            tally.count += 1

    async def close(self) -> None:
        """Record the counts of the minute that has begun."""
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        await self._end()

    def _begin(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close_later())

    async def _close_later(self) -> None:
        await asyncio.sleep(self._window_seconds)
        self._closing = None
        await self._end()

    async def _end(self) -> None:
        tallies, self._tallies = list(self._tallies.values()), {}
        for tally in tallies:
            if tally.count > 1:
                more = {"repeated": tally.count - 1, "within_seconds": self._window_seconds}
                await self._write(tally.first, more)

    async def _write(self, refusal: Refusal, more: Mapping[str, Any]) -> None:
        event = AuditEvent(
            id=new_id(),
            at=datetime.now(UTC),
            principal_id=refusal.principal.id,
            principal_name=_text(refusal.principal.name),
            action=refusal.action,
            target_type=refusal.target_type,
            target_id=_text(refusal.target_id),
            outcome="refused",
            details={name: _text(value) if isinstance(value, str) else value for name, value in refusal.details.items()}
            | dict(more),
        )
        try:
            async with self._database.platform() as uow:
                await repository.insert(uow, refusal.chain_id, event)
        except Exception:
            # The answer is a refusal all the same; the log has what the audit could not take.
            log.exception("refusal.not_recorded", action=refusal.action, code=refusal.details.get("code"))


def _text(value: str) -> str:
    """Somebody else's text as a column can hold it: no NUL, no lone surrogate, and not without end."""
    clean = value.replace("\x00", "\ufffd").encode(errors="replace").decode()
    return clean if len(clean) <= _LONGEST_TEXT else clean[: _LONGEST_TEXT - 1] + "\u2026"
