"""Deletions of tenants, erasures of persons."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from simples3dms.schemas.base import Request, Response


class RequestDeletion(Request):
    short_name: str = Field(max_length=100, description="The tenant's short name, typed again.")
    reason: str = Field(min_length=1, max_length=500)


class ConfirmDeletion(Request):
    short_name: str = Field(max_length=100, description="The tenant's short name, typed again.")


class Deletion(Response):
    """How far a tenant's deletion is: requested, purging, removing, done; or cancelled.

    `kept_document_id` and `error_code`: what holds it up, if anything does.
    """

    id: UUID
    tenant_id: UUID
    state: str
    reason: str
    requested_at: datetime
    requested_by_name: str
    waits_until: datetime
    confirmed_at: datetime | None
    confirmed_by_name: str | None
    finished_at: datetime | None
    kept_document_id: UUID | None
    error_code: str | None
    document_count: int
    version_count: int
    size_bytes: int


class Certificate(Response):
    """What was done, when, and by whom; with the digest of what was removed."""

    certificate: dict[str, Any]


class NamedDocument(Request):
    tenant: str = Field(max_length=100)
    document: UUID


class RequestErasure(Request):
    reason: str = Field(min_length=1, max_length=500)
    documents: list[NamedDocument] = Field(
        default=[], max_length=1000, description="To be purged with the account; what is kept stays, and is told."
    )


class Erasure(Response):
    """A person's erasure: open until the named documents were seen to; then there is a certificate."""

    id: UUID
    user_id: UUID
    state: str
    reason: str
    requested_at: datetime
    requested_by_name: str
    finished_at: datetime | None
    certificate: dict[str, Any] | None
