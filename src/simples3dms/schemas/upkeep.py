"""Upkeep of what lies in stores: scrubs, and replicas that were found wrong or gone."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from pydantic import Field

from simples3dms.schemas.base import Request, Response
from simples3dms.schemas.costs import OwnPrices


class StartScrub(Request):
    store: str = Field(description="A store that is granted to the tenant.")
    level: Literal["light", "deep"] = Field(
        default="light",
        description="`light`: is each replica there, and of the right size? `deep`: read it back and compare its "
        "SHA-256; that is a download, at the store's price.",
    )


class Scrub(Response):
    """A scrub of the tenant's replicas in one store, with its progress. Counts are of what it found itself."""

    id: UUID
    store: str
    level: str
    state: str = Field(description="`running`, `paused` or `done`.")
    is_scheduled: bool
    progress: float = Field(description="The share that is done, from 0 to 1.")
    checked_count: int
    checked_bytes: int = Field(description="Read and compared by a deep one.")
    suspect_count: int = Field(description="Replicas with other bytes, of another size, or that can't be read.")
    missing_count: int = Field(description="Replicas that are not there.")
    lost_count: int = Field(
        description="Blobs of which that left no good replica anywhere. Nothing of them is deleted."
    )
    error_code: str | None = Field(description="Why it waits, or was paused.")
    error_message: str | None
    created_at: datetime
    finished_at: datetime | None


class DoubtfulReplica(Response):
    """A replica that was found wrong or gone, and that has not been copied anew yet."""

    id: UUID
    blob_id: UUID
    document_id: UUID | None = Field(description="One that needs it.")
    document_name: str | None
    store: str
    state: str = Field(description="`suspect`: wrong, or unreadable; `missing`: not there.")
    error: str | None
    since: datetime
    is_lost: bool = Field(description="No good replica is left: bring the bytes back, or accept the loss.")


class RestoreGuard(Response):
    """Whether removals from stores are held back, since the records may be older than what lies there."""

    held_at: datetime | None = Field(description="Null: they are not.")
    held_reason: str | None
    confirmed_at: datetime | None = Field(description="When an operator last let them go on.")
    confirmed_by_name: str | None


class DeclareRestore(Request):
    reason: str = Field(min_length=1, max_length=500, description="Which backup, and why; it is kept in the audit.")


class RepairReplicas(Request):
    store: str | None = Field(default=None, description="Only what is doubtful there; null: everywhere.")
    after: UUID | None = Field(default=None, description="The `next_after` of the request before.")


class Repaired(Response):
    count: int = Field(description="Doubtful replicas that a fresh copy is owed for now.")
    next_after: UUID | None = Field(description="Go on after it; null: that was all.")


class TrustStore(Request):
    reason: str = Field(min_length=1, max_length=500, description="What was found out; it is kept in the audit.")


class SetPrice(OwnPrices):
    """All of it: what is left out is as the price list of the store's service says, or not known."""

    price_per_gib_month: Decimal | None = Field(
        ge=0, lt=1_000_000, decimal_places=6, description="What a GiB costs there a month; null: nobody has said."
    )


class StartReconcile(Request):
    store: str = Field(description="A store that is granted to the tenant.")
    older_than_days: float = Field(
        default=7, ge=0, le=36_500, description="What came to the store later than that is passed over."
    )


class Reconcile(Response):
    """What a store lists of the tenant, compared with the records. Nothing is removed unless that is asked for."""

    id: UUID
    store: str
    state: str = Field(description="`running`, `done`; `removing`, `removed`.")
    is_scheduled: bool
    older_than_days: float
    is_sorted: bool = Field(
        description="False: the store lists in an order of its own; missing ones were not looked for."
    )
    listed_count: int
    listed_bytes: int
    unexplained_count: int = Field(description="Objects that no record explains.")
    unexplained_bytes: int
    hidden_count: int = Field(description="Further versions of objects that the records know.")
    hidden_bytes: int
    unfinished_count: int = Field(description="Uploads in parts without a record.")
    compared_count: int = Field(description="Replicas that were looked for in the listing.")
    missing_count: int = Field(description="Those that the store does not have: they are copied anew.")
    lost_count: int = Field(description="Blobs of which that left no good replica anywhere.")
    cost_per_month: Decimal | None = Field(description="Of what is unexplained or hidden, by the store's price.")
    removable_count: int = Field(description="To be typed back to have it removed; up to 10,000 are kept by name.")
    removed_count: int
    kept_count: int = Field(description="Not removed after all: explained by now, changed, or refused by the store.")
    error_code: str | None = Field(description="Why it waits.")
    error_message: str | None
    created_at: datetime
    finished_at: datetime | None


class SetReconcileSchedule(Request):
    every_days: float | None = Field(
        ge=0.01, le=3650, description="Each tenant's place in the store so often; null: only by hand."
    )
    older_than_days: float = Field(
        default=7, ge=0, le=36_500, description="What came to the store later than that is passed over."
    )


class ReconcileSchedule(Response):
    every_days: float
    older_than_days: float
    next_at: datetime = Field(description="Not before then for the next place that is due.")


class ReconcilePlaces(Response):
    place_count: int = Field(description="Tenants that the store is granted to.")
    due_count: int
    running_count: int = Field(description="By hand or by itself.")


class ReconcileResult(Response):
    """What the newest reconcile of one tenant's place has found."""

    tenant_id: UUID
    tenant: str = Field(description="Its short name.")
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


class StoreSchedule(Response):
    """Whether a store is reconciled by itself, and what was found there."""

    store: str
    schedule: ReconcileSchedule | None = Field(description="Null: only by hand.")
    places: ReconcilePlaces
    results: list[ReconcileResult] = Field(description="Of up to 100 places; those where something was found first.")


class ReconcileFinding(Response):
    kind: str = Field(description="`object`, `version` or `upload`.")
    key: str
    version_id: str
    size_bytes: int
    modified_at: datetime | None
    state: str = Field(description="`found`, `removed` or `kept`.")
    error: str | None


class RemoveUnexplained(Request):
    count: int = Field(ge=1, description="How many things that are: `removable_count`, typed back.")
