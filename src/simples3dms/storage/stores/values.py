"""Stores and grants, without their secrets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Store:
    """One configured place. `settings` holds nothing secret."""

    id: UUID
    name: str
    kind: str
    settings: dict[str, Any]
    created_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True)
class GrantedStore:
    """A store that a tenant may use, and the prefix that is the tenant's own in it."""

    id: UUID
    name: str
    kind: str
    prefix: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Whether a store works now; if not, the stable code and a sentence that says what to do."""

    ok: bool
    code: str | None = None
    message: str | None = None
