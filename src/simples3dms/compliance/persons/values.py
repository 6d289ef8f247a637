"""Erasures, and the lines of a report."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Person:
    """A user, as far as this slice needs to know."""

    id: UUID
    email: str
    is_operator: bool
    is_auditor: bool
    created_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Erasure:
    """A person's erasure: the account is gone at once, the documents that were named go one after the other."""

    id: UUID
    user_id: UUID
    state: str
    reason: str
    requested_at: datetime
    requested_by_name: str
    account: dict[str, Any]
    documents: list[dict[str, Any]]
    finished_at: datetime | None
    certificate: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Reference:
    """A table whose rows belong to a user (or, where the column may be empty, only name one)."""

    table: str
    column: str
    is_optional: bool
    shown: list[str]
    """Columns that may be shown: no digest, no secret, no key."""


@dataclass(frozen=True, slots=True)
class Membership:
    tenant_id: UUID
    tenant: str
    role: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Act:
    """An audit event by the person or about them."""

    id: UUID
    tenant_id: UUID
    at: datetime
    principal_id: UUID | None
    principal_name: str
    action: str
    target_type: str
    target_id: str
    outcome: str
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A version that the person uploaded."""

    tenant_id: UUID
    document_id: UUID
    number: int
    name: str
    content_type: str
    size_bytes: int
    created_at: datetime
