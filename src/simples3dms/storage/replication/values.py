"""How far a store is behind what it is to hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Lag:
    """Copies that are owed, by what becomes of them, and the age of the oldest one that is pending.

    `lag_seconds`: by the database's clock; 0 where none is pending. A failed copy is tried no more by itself.
    """

    pending_count: int
    pending_bytes: int
    failed_count: int
    failed_bytes: int
    waived_count: int
    oldest_at: datetime | None
    lag_seconds: float

    def is_later_than(self, seconds: float) -> bool:
        """Whether it is behind by more than that; 0 is a limit that nothing passes."""
        return 0 < seconds < self.lag_seconds


@dataclass(frozen=True, slots=True)
class StoreLag(Lag):
    """Of one store: of one tenant's blobs, or of everybody's."""

    store_id: UUID
    store: str
    is_brought: bool


@dataclass(frozen=True, slots=True)
class TenantLag(Lag):
    """Of one tenant at a store."""

    tenant_id: UUID
    tenant: str
