"""A service principal as it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Service:
    """`email` is its name among members and in the audit; `role` is what it is in its tenant, if it has one."""

    id: UUID
    email: str
    role: str | None
    is_operator: bool
    is_auditor: bool
    created_at: datetime
    disabled_at: datetime | None
