"""For whom kinds of stores are there, and what tenants may bring."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from simples3dms.schemas.base import Request, Response


class PlanRollout(Request):
    """Chosen tenants go with `chosen` and with `percent`, which adds others to them."""

    reach: Literal["off", "chosen", "percent", "everyone"]
    percent: float = Field(default=0, ge=0, le=100, allow_inf_nan=False, description="With the reach `percent`.")
    tenants: list[str] = Field(default_factory=list, max_length=1000, description="Short names or ids.")
    attach: Literal["operators", "tenants"] = Field(
        default="operators", description="Who may add a store of it; tenants besides need a rule for own stores."
    )


class SetRollout(PlanRollout):
    expected_version: int | None = Field(default=None, description="The preview's: refused if another is in force.")


class Rollout(Response):
    """Version 0: nobody has set one; the kind is there for everyone, and operators attach it."""

    kind: str
    version: int
    reach: str
    percent: float
    tenant_ids: list[UUID]
    attach: str
    updated_at: datetime | None


class RolloutPreview(Response):
    """What a change would do. Who loses a kind that it has in use (`kept`) goes on using it, and begins nothing new."""

    version: int
    gained: int
    lost: int
    kept: int
    reached: int
    tenants: int


class SetOwnStoreRule(Request):
    hosts: list[str] = Field(
        max_length=100,
        description="Where stores may be: a host or `*.host` (https), `http://host:9000`, or `*`: anywhere by https.",
    )
    regions: list[str] = Field(default_factory=list, max_length=100, description="Empty: any.")
    most_per_tenant: int = Field(default=1, ge=0, le=100)
    bounds: dict[str, tuple[float, float]] = Field(
        default_factory=dict, description="What of the layers' settings a tenant may tune, from and to."
    )


class OwnStoreRule(Response):
    """What stores of a kind a tenant may bring."""

    kind: str
    hosts: list[str]
    regions: list[str]
    most_per_tenant: int
    bounds: dict[str, tuple[float, float]]
    updated_at: datetime | None
