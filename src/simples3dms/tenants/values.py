"""A tenant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Tenant:
    """`slug` is the short name used in addresses and commands. Suspended: its documents are kept, and not served."""

    id: UUID
    slug: str
    name: str
    created_at: datetime
    suspended_at: datetime | None = None
    suspension_reason: str | None = None
