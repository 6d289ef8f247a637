"""Migrations."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from simples3dms.schemas.base import Request, Response

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
    source: str | None = Field(default=None, description="The store to move from: the present write target.")
    proof: str = Field(default="read-back", pattern=PROOF, description=PROOF_MEANING)


class MigrationPlan(Response):
    blob_count: int
    size_bytes: int
    blockers: list[str]
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
