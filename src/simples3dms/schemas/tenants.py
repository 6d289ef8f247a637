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
    deleting_at: datetime | None = None


class SetSettings(Request):
    """Fields that are left out stay as they are; null: nothing is set."""

    trash_days: float | None = Field(default=None, description="Days until what is in the trash is purged.")
    retention_days: int | None = Field(default=None, description="Days that each new version is retained for.")
    retention_mode: str | None = Field(default=None, description="governance or compliance; goes with the days.")
    region: str | None = Field(default=None, description="One of the words that the operator allows.")
    allowed_jurisdictions: list[str] | None = Field(
        default=None, description="Where bytes may be: codes like DE, EU, EEA. Null: anywhere."
    )
    migration_letters: bool | None = Field(
        default=None, description="Whether people who may run migrations are told by mail of each change. Null: yes."
    )
    expected_version: int | None = Field(default=None, description="Refuse if another version is in force.")


class SetLimits(Request):
    """Fields that are left out stay as they are; null: no limit."""

    largest_upload_bytes: int | None = None
    most_documents: int | None = Field(default=None, description="Documents at a time, the trash included.")
    most_bytes: int | None = Field(default=None, description="Bytes at a time, all versions and the trash included.")
    expected_version: int | None = Field(default=None, description="Refuse if another version is in force.")


class TenantSettings(Response):
    """What is set for a tenant; null where nothing is. `version` 0: nothing was ever set."""

    version: int
    trash_days: float | None
    retention_days: int | None
    retention_mode: str | None
    region: str | None
    allowed_jurisdictions: list[str] | None
    migration_letters: bool | None
    largest_upload_bytes: int | None
    most_documents: int | None
    most_bytes: int | None
    updated_at: datetime | None
