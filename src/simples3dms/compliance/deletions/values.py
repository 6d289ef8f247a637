"""A tenant's deletion."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


class State(StrEnum):
    """requested > purging > removing > done; or cancelled while it is only requested."""

    REQUESTED = "requested"
    CANCELLED = "cancelled"
    PURGING = "purging"
    REMOVING = "removing"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Deletion:
    """How far a tenant's deletion is. `kept_document_id`: what holds it up, where a hold or a retention does."""

    id: UUID
    tenant_id: UUID
    state: str
    reason: str
    requested_at: datetime
    requested_by: UUID | None
    requested_by_name: str
    waits_until: datetime
    is_waiting: bool
    confirmed_at: datetime | None
    confirmed_by_name: str | None
    finished_at: datetime | None
    kept_document_id: UUID | None
    error_code: str | None
    document_count: int
    version_count: int
    size_bytes: int
    manifest_digest: bytes
    certificate: dict[str, Any] | None
    fence: int
    attempt: int


@dataclass(frozen=True, slots=True)
class DueDeletion:
    """A deletion with work to do, for the watchdog."""

    tenant_id: UUID
    id: UUID


@dataclass(frozen=True, slots=True)
class Doomed:
    """One version of a document that goes: a line of what the manifest's digest is made of."""

    number: int
    digest: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tenant's objects are in a store."""

    store_id: UUID
    prefix: str


@dataclass(frozen=True, slots=True)
class Trace:
    """A column in which a tenant's id may stand: of rows that are the tenant's, or (`is_list`) in a list of ids."""

    table: str
    column: str
    is_list: bool


@dataclass(frozen=True, slots=True)
class Child:
    """A table whose rows hang on rows of another, and have to go before those."""

    table: str
    column: str
    parent_column: str
