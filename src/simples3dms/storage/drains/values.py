"""Drains, their tenants, and in which cohort each tenant is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from simples3dms.storage.blobs.proofs import READ_BACK, Proof


class DrainState(StrEnum):
    RUNNING = "running"
    CONFIRMING = "confirming"
    PAUSED = "paused"
    STEPPING_BACK = "stepping_back"
    HALTED = "halted"
    DONE = "done"
    CANCELLED = "cancelled"


#: States in which a store takes no new tenants.
OPEN = frozenset(DrainState) - {DrainState.DONE, DrainState.CANCELLED}


class Place(StrEnum):
    """Where a tenant of a drain is."""

    WAITING = "waiting"
    MOVING = "moving"
    CUT_OVER = "cut_over"
    MOVED = "moved"
    FAILED = "failed"
    BLOCKED = "blocked"
    STEPPED_BACK = "stepped_back"


@dataclass(frozen=True, slots=True)
class DrainPlan:
    """What an operator asks for. `steps`: shares of the tenants in percent, rising, the last one 100."""

    steps: tuple[int, ...] = (100,)
    automatic: bool = False
    most_active: int = 4
    finalize_after_seconds: int | None = None
    most_failed_percent: int = 10
    most_read_ms: int | None = None
    proof: Proof = READ_BACK
    """Of each of its migrations."""


@dataclass(frozen=True, slots=True)
class DrainRow:
    """A drain as recorded. `step` counts from 0."""

    id: UUID
    store_id: UUID
    target_store_id: UUID
    store: str
    target: str
    state: str
    steps: list[int]
    step: int
    automatic: bool
    most_active: int
    finalize_after_seconds: int | None
    most_failed_percent: int
    most_read_ms: int | None
    proof: str
    read_ms: int | None
    slow_count: int
    listed_after: UUID | None
    is_listed: bool
    reason: str | None
    created_at: datetime
    finished_at: datetime | None
    fence: int


@dataclass(frozen=True, slots=True)
class DrainTenant:
    """One tenant of a drain, and what is in its way."""

    tenant_id: UUID
    slug: str
    step: int
    state: str
    migration_id: UUID | None
    code: str | None
    message: str | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Progress:
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


@dataclass(frozen=True, slots=True)
class StepCounts:
    """Of the tenants up to the present step."""

    waiting: int
    active: int
    cut_over: int
    moved: int
    failed: int
    started: int
    """Of the present step alone, as `step_failed` is: what its error rate is measured by."""
    step_failed: int


@dataclass(frozen=True, slots=True)
class Drain:
    """A drain with its progress."""

    id: UUID
    store: str
    target: str
    state: str
    steps: list[int]
    percent: int
    automatic: bool
    most_active: int
    finalize_after_seconds: int | None
    most_failed_percent: int
    most_read_ms: int | None
    proof: str
    read_ms: int | None
    reason: str | None
    created_at: datetime
    finished_at: datetime | None
    progress: Progress


def position(tenant_id: UUID) -> int:
    """Where a tenant stands among all, from 0 to 99. It never changes, so a greater share holds a smaller one."""
    return int.from_bytes(hashlib.sha256(b"drain:" + tenant_id.bytes).digest()[:8], "big") % 100


def step_of(tenant_id: UUID, steps: Sequence[int]) -> int:
    """The first step whose share reaches the tenant; the last one reaches all."""
    return next(index for index, percent in enumerate(steps) if position(tenant_id) < percent)


def is_failing(counts: StepCounts, most_failed_percent: int) -> bool:
    """Whether more of the step's migrations have failed than may."""
    return counts.step_failed > 0 and counts.step_failed * 100 > most_failed_percent * counts.started
