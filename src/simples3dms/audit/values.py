"""One recorded act."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Who did what to which target; `action` is `noun.past`, `outcome` is done, refused or failed."""

    id: UUID
    at: datetime
    principal_id: UUID | None
    principal_name: str
    action: str
    target_type: str
    target_id: str
    outcome: str
    details: dict[str, Any]
