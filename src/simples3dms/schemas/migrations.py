"""Migrations."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from simples3dms.schemas.base import Request, Response
from simples3dms.schemas.costs import Cost
from simples3dms.schemas.stores import Match

PROOF: Final = r"^(read-back|provider-checksum|sample=[1-9][0-9]?)$"
PROOF_MEANING: Final = (
    "What proves a copy: `read-back` (its bytes are read at the target and compared), `provider-checksum` (the target "
    "reports the right checksum, where its probe showed that it computes them), or `sample=10` (the same, but of so "
    "many percent the bytes are read back)."
)


class Window(Request):
    """Hours of the week, by the clock on the wall of a zone."""

    model_config = ConfigDict(from_attributes=True)

    days: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] = Field(
        min_length=1, max_length=7, description="The days on which it opens."
    )
    opens: str = Field(max_length=5, examples=["22:00"])
    closes: str = Field(max_length=5, description="No later than `opens`: on the day after.", examples=["06:00"])
    zone: str = Field(max_length=64, description="IANA time zone.", examples=["Europe/Vienna"])


class Schedule(Request):
    """What a migration does by itself, and when."""

    automatic_cutover: bool = Field(default=False, description="Cut over as soon as everything is proven.")
    finalize_after_seconds: int | None = Field(
        default=None,
        ge=0,
        le=366 * 86_400,
        description="The roll-back window: so long after the cut-over it finalizes by itself. Null: a person does.",
    )
    windows: list[Window] = Field(
        default_factory=list, max_length=20, description="Copying and emptying rest outside of these; empty: never."
    )


class PlanMigration(Schedule):
    target: str = Field(description="The store to move to.")
    source: str | None = Field(
        default=None, description="The store to move from: the present write target, or with `only` that of a rule."
    )
    only: Match | None = Field(
        default=None, description="Move only what meets this: the placement gets a rule for it. Null: everything."
    )
    canary: bool = Field(
        default=False, description="Write a few small objects to the target first, read them back, and remove them."
    )
    proof: str = Field(default="read-back", pattern=PROOF, description=PROOF_MEANING)


class Time(Response):
    """How long copying would take."""

    least_seconds: float | None = Field(description="Null: nothing bounds it.")
    most_seconds: float | None = Field(description="Null: nobody knows.")
    basis: Literal["between_stores", "to_store", "canary", "none"] = Field(
        description="What it is told from: copies of the last 30 days between these stores, or from any other to the "
        "target; what the canary measured; or nothing but what the stores may be asked for."
    )


class Canary(Response):
    """What came of a few small objects at the target: each written, read back, compared and removed."""

    at: datetime
    object_count: int
    size_bytes: int
    write_seconds: float | None = Field(description="Of the small ones, as are the next two; null: it came not so far.")
    read_seconds: float | None
    delete_seconds: float | None
    write_bytes_per_second: float | None = Field(description="Of the larger one, alone.")
    read_bytes_per_second: float | None
    error_code: str | None = Field(description="Null: all went well. Else the migration can't be started as planned.")
    error_message: str | None


class MigrationPlan(Response):
    """As things were when it was planned. Cost and time are of what is moved."""

    blob_count: int
    size_bytes: int
    left_count: int = Field(description="Blobs that stay: a rule keeps them elsewhere, or they don't meet `only`.")
    left_bytes: int
    is_exact: bool = Field(
        description="False: so large a catalogue was counted in part. There is more of all, and cost and time are of "
        "what was counted."
    )
    blockers: list[str]
    moved_count: int | None = Field(description="Those that are not at the target yet.")
    moved_bytes: int | None
    cost: Cost | None = Field(description="Null in plans of earlier versions.")
    time: Time | None = Field(description="Of copying, while its windows are open.")
    canary: Canary | None = Field(description="Null: none was asked for.")
    probe_verdict: str | None = Field(description="Of the target's last probe: green, amber, red, or unreachable.")
    probed_at: datetime | None
    read_back_percent: int = Field(
        default=100,
        description="Of so many percent of the blobs the bytes are read at the target again; of all, where it is not "
        "known to compute the checksums that it reports.",
    )


class Migration(Response):
    """A migration with its progress. The counts are for people; cut-over is decided by the records."""

    id: UUID
    source: str
    target: str
    only: Match | None
    state: str
    resume_state: str | None
    automatic_cutover: bool
    finalize_after_seconds: int | None
    finalize_at: datetime | None = Field(description="While it soaks: when it finalizes by itself.")
    windows: list[Window]
    proof: str = Field(default="read-back", description=PROOF_MEANING)
    resting: bool = Field(description="Whether it waits for its next window.")
    opens_at: datetime | None = Field(description="While it rests: when its next window opens.")
    plan: MigrationPlan
    copied_count: int
    copied_bytes: int
    total_count: int
    total_bytes: int
    pending_count: int
    failed_count: int
    waived_count: int
    proven: bool
    error_code: str | None
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    cut_over_at: datetime | None
    finished_at: datetime | None


class TransferFailure(Response):
    """One item that was given up, or left behind."""

    id: UUID
    blob_id: UUID
    document_id: UUID | None
    document_name: str | None
    error_kind: str | None
    error_message: str | None
    attempt: int
    state: str = Field(description="`failed`, or `waived`: the migration goes on without it.")
    waived_reason: str | None
    waived_at: datetime | None


class WaiveFailures(Request):
    failure_ids: list[UUID] = Field(min_length=1, max_length=100, description="Items of the list of failures.")
    reason: str = Field(min_length=1, max_length=500, description="Why they may stay behind; it is kept in the audit.")


class Waived(Response):
    count: int


class RetryFailures(Request):
    failure_ids: list[UUID] | None = Field(default=None, max_length=1000, description="Empty: all of them.")


class Retried(Response):
    count: int
