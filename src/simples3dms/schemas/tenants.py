"""Tenants."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from simples3dms.schemas.base import Request, Response


class CreateTenant(Request):
    slug: str
    name: str


class SuspendTenant(Request):
    reason: str = Field(min_length=1, max_length=500, description="For the audit, and for whoever asks why.")


class Tenant(Response):
    id: UUID
    slug: str
    name: str
    created_at: datetime
    suspended_at: datetime | None = None
    suspension_reason: str | None = None
