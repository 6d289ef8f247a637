"""A tenant, and what is set for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Tenant:
    """`slug` is the short name used in addresses and commands. Suspended: its documents are kept, and not served.
    `deleting_at`: its deletion was confirmed, and nothing brings it back."""

    id: UUID
    slug: str
    name: str
    created_at: datetime
    suspended_at: datetime | None = None
    suspension_reason: str | None = None
    deleting_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """What is set for one tenant; None: nothing, and the installation's own value counts where there is one.

    `trash_days`: days until what is in the trash is purged. `retention_days` and `retention_mode`: what each new
    version is retained for. `allowed_jurisdictions`: codes such as `DE`, `EU`, `EEA`; None: any.
    `migration_letters`: whether its people are told by mail what becomes of its migrations; None: they are.
    `largest_upload_bytes`, `most_documents`, `most_bytes`: limits, which operators set.
    """

    version: int = 0
    trash_days: float | None = None
    retention_days: int | None = None
    retention_mode: str | None = None
    region: str | None = None
    allowed_jurisdictions: list[str] | None = None
    migration_letters: bool | None = None
    largest_upload_bytes: int | None = None
    most_documents: int | None = None
    most_bytes: int | None = None
    updated_at: datetime | None = None
