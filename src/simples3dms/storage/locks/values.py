"""What should keep a replica at its store, and what does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from simples3dms.providers.base import LockMode, ObjectLock

#: A retention is ended by shortening it to a moment ahead: this far, by clocks that may differ a little.
ENDING = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class DueLock:
    """A replica whose lock at the store is to be looked at; what is recorded counts while the fence stands.

    `asked_*`: what we may have asked of the store at some time, and so may take back; anything else there is not ours.
    `kept_until`: a retention that was there before ours, below which ours is never shortened.
    """

    replica_id: UUID
    store_id: UUID
    key: str
    version_id: str | None
    fence: int
    at: datetime
    """The database's time of the claim."""
    hold: bool
    mode: LockMode | None
    until: datetime | None
    asked_hold: bool
    asked_until: datetime | None
    kept_until: datetime | None = None
    claim: int = 0

    @property
    def is_idle(self) -> bool:
        """Nothing is wanted, and nothing of ours may be there."""
        return not self.hold and self.until is None and not self.asked_hold and self.asked_until is None


@dataclass(frozen=True, slots=True)
class Change:
    """What a store is to be asked, in this order."""

    hold: bool | None = None
    mode: LockMode | None = None
    until: datetime | None = None
    bypass: bool = False

    @property
    def is_none(self) -> bool:
        return self.hold is None and self.mode is None


def plan_change(due: DueLock, found: ObjectLock) -> Change:
    """What brings the lock that was found to what is wanted. Lengthens and hardens at will; takes back only what is
    ours, and nothing of a retention for compliance."""
    hold: bool | None = None
    if due.hold != found.held and (due.hold or due.asked_hold):
        hold = due.hold
    in_force = found.until is not None and found.until > due.at
    if due.mode is None or due.until is None:
        if not in_force or found.mode != "governance" or not _is_ours(due, found):
            return Change(hold)
        ends = _floor((due.at + ENDING).replace(microsecond=0), due)
        return Change(hold, "governance", ends, bypass=True) if found.until and found.until > ends else Change(hold)
    if not in_force:
        return Change(hold, due.mode, due.until)
    assert found.until is not None
    hardens = due.mode == "compliance" and found.mode == "governance"
    if found.mode == "compliance" and due.mode == "governance":
        return Change(hold)  # nothing softens it, and lengthening it would be harder than what was asked for
    if due.until > found.until:
        return Change(hold, due.mode, due.until, bypass=hardens)
    if hardens:
        return Change(hold, due.mode, due.until, bypass=True)
    ends = _floor(due.until, due)
    if ends < found.until and found.mode == "governance" and _is_ours(due, found):
        return Change(hold, due.mode, ends, bypass=True)
    return Change(hold)


def kept_before(due: DueLock, found: ObjectLock) -> datetime | None:
    """Until when somebody else's retention keeps the replica that is about to be retained by us; None: none does."""
    in_force = found.until is not None and found.until > due.at
    return due.kept_until if not in_force or _is_ours(due, found) else found.until


def _floor(until: datetime, due: DueLock) -> datetime:
    return until if due.kept_until is None else max(until, due.kept_until)


def _is_ours(due: DueLock, found: ObjectLock) -> bool:
    return due.asked_until is not None and found.until is not None and found.until <= due.asked_until


def is_enough(due: DueLock, found: ObjectLock) -> bool:
    """Whether the store keeps the replica at least as well as is wanted."""
    if due.hold and not found.held:
        return False
    if due.mode is None or due.until is None:
        return True
    hard = found.mode == due.mode or found.mode == "compliance"
    return hard and found.until is not None and found.until >= due.until


def is_too_much(due: DueLock, found: ObjectLock) -> bool:
    """Whether the store still keeps by something of ours that nothing asks for any more."""
    if found.held and due.asked_hold and not due.hold:
        return True
    ends = _floor(max(due.until or due.at, due.at + ENDING), due)
    return found.mode == "governance" and found.until is not None and found.until > ends and _is_ours(due, found)
