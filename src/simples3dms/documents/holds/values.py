"""Holds and retention as people see them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class RetentionMode(StrEnum):
    """Who may end a retention early: an owner with a reason (`governance`), or nobody (`compliance`)."""

    GOVERNANCE = "governance"
    COMPLIANCE = "compliance"


@dataclass(frozen=True, slots=True)
class Hold:
    """A named reason to keep a document. In force until it is released."""

    id: UUID
    document_id: UUID
    name: str
    reason: str
    placed_at: datetime
    placed_by: str
    released_at: datetime | None
    released_by: str | None
    release_reason: str | None


@dataclass(frozen=True, slots=True)
class Retention:
    """What keeps a document now. `is_retained`: the time has not come yet, by the database's clock."""

    document_id: UUID
    retain_until: datetime | None
    mode: str | None
    is_retained: bool
    hold_count: int

    @property
    def is_kept(self) -> bool:
        return self.is_retained or self.hold_count > 0
