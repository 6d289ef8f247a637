"""Drains of stores."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from simples3dms.schemas.base import Request, Response
from simples3dms.schemas.migrations import PROOF, PROOF_MEANING

TenantState = Literal["waiting", "moving", "cut_over", "moved", "failed", "blocked", "stepped_back"]


class StartDrain(Request):
    target: str = Field(description="The store to move everything to.")
    steps: list[int] = Field(
        default_factory=lambda: [100],
        min_length=1,
        max_length=20,
        description="Shares of the tenants in percent, rising to 100. Who is in which is a hash of the tenant's id.",
    )
    automatic: bool = Field(default=False, description="Begin each step by itself; else it is confirmed.")
    most_active: int = Field(default=4, description="So many tenants move bytes at once.")
    finalize_after_seconds: int | None = Field(
        default=None, description="The roll-back window of each migration; null: somebody finalizes each."
    )
    most_failed_percent: int = Field(default=10, description="With more failures in a step it halts and steps back.")
    most_read_ms: int | None = Field(
        default=None, description="With slower reads at the target (median, three looks in a row) it does so too."
    )
    proof: str = Field(default="read-back", pattern=PROOF, description=PROOF_MEANING)


class DrainProgress(Response):
    """How many tenants are where, and what their migrations have moved."""

    waiting: int
    moving: int
    cut_over: int
    moved: int
    failed: int
    blocked: int
    stepped_back: int
    copied_bytes: int
    total_bytes: int


class Drain(Response):
    id: UUID
    store: str
    target: str
    state: Literal["running", "confirming", "paused", "stepping_back", "halted", "done", "cancelled"]
    steps: list[int]
    percent: int = Field(description="The share of the tenants that has its turn now.")
    automatic: bool
    most_active: int
    finalize_after_seconds: int | None
    most_failed_percent: int
    most_read_ms: int | None
    proof: str = Field(default="read-back", description="What proves a copy in each of its migrations.")
    read_ms: int | None = Field(
        description="What reads at the target took when they were last looked at; 2147483647: they failed."
    )
    reason: str | None = Field(description="Why it has halted.")
    created_at: datetime
    finished_at: datetime | None
    progress: DrainProgress


class DrainTenant(Response):
    """One tenant, and what is in its way."""

    tenant_id: UUID
    slug: str
    step: int = Field(description="Counted from 0.")
    state: TenantState
    migration_id: UUID | None
    code: str | None
    message: str | None
    updated_at: datetime
