"""Service principals."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from simples3dms.schemas.base import Request, Response


class CreateService(Request):
    name: str
    role: Literal["owner", "administrator", "editor", "viewer", "auditor"]


class CreatePlatformService(Request):
    name: str
    platform_role: Literal["operator", "auditor"] | None = None


class CreateServiceToken(Request):
    name: str = Field(min_length=1, max_length=100)
    expires_in_days: float | None = Field(default=None, gt=0, le=3650)
    scopes: list[str] | None = Field(default=None, description="Permissions that it is bounded to. Empty: by its role.")


class Service(Response):
    """`email` is its name among members and in the audit; nobody gets mail there."""

    id: UUID
    email: str
    role: str | None
    is_operator: bool
    is_auditor: bool
    created_at: datetime
    disabled_at: datetime | None
