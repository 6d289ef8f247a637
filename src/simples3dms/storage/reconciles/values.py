"""A comparison of one tenant's place in a store with the records, and what it found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, Literal
from uuid import UUID

FindingKind = Literal["object", "version", "upload"]

#: Findings that are kept by name, and can be removed by them; all are counted. Remove some, and compare again.
MOST_FINDINGS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Reconcile:
    """`unexplained_*`: objects that no record explains, older than `older_than_days`; `hidden_*`: further versions of
    keys that the records know; `unfinished_count`: uploads in parts without a record; `missing_count`: replicas that
    the listing lacks and the store does not have. `position`: the last key that was compared."""

    id: UUID
    store_id: UUID
    store: str
    prefix: str
    state: str
    is_scheduled: bool
    older_than_days: float
    position: str | None
    is_sorted: bool
    created_at: datetime
    finished_at: datetime | None
    listed_count: int
    listed_bytes: int
    unexplained_count: int
    unexplained_bytes: int
    hidden_count: int
    hidden_bytes: int
    unfinished_count: int
    compared_count: int
    missing_count: int
    lost_count: int
    removed_count: int
    kept_count: int
    error_code: str | None
    error_message: str | None
    price_per_gib_month: Decimal | None
    fence: int
    attempt: int

    @property
    def removable_count(self) -> int:
        """What a removal would try to remove: what is kept by name."""
        return min(MOST_FINDINGS, self.unexplained_count + self.hidden_count + self.unfinished_count)

    @property
    def cost_per_month(self) -> Decimal | None:
        """What the unexplained and hidden bytes cost, by the store's price."""
        if self.price_per_gib_month is None:
            return None
        gib = Decimal(self.unexplained_bytes + self.hidden_bytes) / 2**30
        return (gib * self.price_per_gib_month).quantize(Decimal("0.000001"))


@dataclass(frozen=True, slots=True)
class Finding:
    """Something at a store that no record explains. `upload`: its version is the upload's id."""

    kind: FindingKind
    key: str
    version_id: str
    size_bytes: int
    modified_at: datetime | None
    state: str = "found"
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """A key that the records know, at one store."""

    key: str
    version_id: str | None
    state: str
    replica_id: UUID | None
    blob_id: UUID | None
    digest: bytes | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class DueReconcile:
    tenant_id: UUID
    id: UUID


@dataclass(frozen=True, slots=True)
class Schedule:
    """By itself every so many days, at each tenant's place in a store; `next_at`: not before then for the next one."""

    every_days: float
    older_than_days: float
    next_at: datetime


@dataclass(frozen=True, slots=True)
class Places:
    """Tenants' places in a store: how many, how many of them are due, and at how many one is under way."""

    place_count: int
    due_count: int
    running_count: int


@dataclass(frozen=True, slots=True)
class DuePlace:
    """Where the next one by itself is due, at a store where none is under way."""

    tenant_id: UUID
    store_id: UUID


@dataclass(frozen=True, slots=True)
class Result:
    """What the newest one that came to its end has found at a tenant's place."""

    tenant_id: UUID
    tenant: str
    reconcile_id: UUID
    is_scheduled: bool
    state: str
    finished_at: datetime
    unexplained_count: int
    unexplained_bytes: int
    hidden_count: int
    unfinished_count: int
    missing_count: int
    lost_count: int


@dataclass(frozen=True, slots=True)
class StoreFound:
    """What no record explains at a store, over all tenants, as far as anybody has looked; since the first of it."""

    store_id: UUID
    store: str
    is_brought: bool
    place_count: int
    unexplained_count: int
    unexplained_bytes: int
    since: datetime
