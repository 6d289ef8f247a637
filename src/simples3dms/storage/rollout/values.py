"""For whom a kind of store is there, what a change of that would do, and what tenants may bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Reach(StrEnum):
    """For which tenants a kind is there."""

    OFF = "off"
    CHOSEN = "chosen"
    PERCENT = "percent"
    EVERYONE = "everyone"


class Attach(StrEnum):
    """Who may add a store of a kind."""

    OPERATORS = "operators"
    TENANTS = "tenants"


@dataclass(frozen=True, slots=True)
class Change:
    """A rollout as it is to be. Chosen tenants are reached under `chosen` and under `percent`, which adds others."""

    reach: Reach = Reach.EVERYONE
    percent: float = 0.0
    tenant_ids: Sequence[UUID] = ()
    attach: Attach = Attach.OPERATORS


@dataclass(frozen=True, slots=True)
class Rollout:
    """A kind's rollout in force. Version 0 is what holds where nobody has set one."""

    kind: str
    version: int
    reach: str
    percent: float
    tenant_ids: list[UUID]
    attach: str
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a change would do, counted. `kept`: of those that lose the kind, who has it in use, and goes on using it."""

    version: int
    gained: int
    lost: int
    kept: int
    reached: int
    tenants: int


@dataclass(frozen=True, slots=True)
class OwnStoreRule:
    """What stores of a kind tenants may bring. `hosts`: where they may be; `regions`: empty for any."""

    kind: str
    hosts: list[str]
    regions: list[str]
    most_per_tenant: int
    bounds: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Least and greatest value of each setting of the layers that a tenant may tune; the others it may not."""
    updated_at: datetime | None = None
