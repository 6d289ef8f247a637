"""What the guard knows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Guard:
    """Since when and why removals are held back (None: they are not); who last let them go on.

    `is_same`: the row was written by this very database, and not by one that this is a copy of.
    """

    held_at: datetime | None
    held_reason: str | None
    confirmed_at: datetime | None
    confirmed_by_name: str | None
    is_same: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a tenant's audit had come by these records, and where its later copies would lie."""

    tenant_id: UUID
    prefix: str
    seq: int
