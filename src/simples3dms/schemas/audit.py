"""Audit events, checkpoints, keys and the trail."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from simples3dms.schemas.base import Request, Response


class AuditEvent(Response):
    """`seq` is its number in the chain: null for the moment until it is sealed."""

    seq: int | None = None
    id: UUID
    at: datetime
    principal_id: UUID | None
    principal_name: str
    action: str
    target_type: str
    target_id: str
    outcome: str
    details: dict[str, Any]


class AuditCheckpoint(Response):
    """A signed statement of a chain's head, as `audit verify` reads it. Signed is the rest of it, in canonical JSON."""

    at: str = Field(description="UTC, with six decimals.")
    format: str
    hash: str = Field(description="Hexadecimal.")
    key_id: str
    seq: int
    signature: str = Field(description="Ed25519, hexadecimal.")
    tenant_id: UUID


class AuditCheckpoints(Response):
    """A page, newest first. `next_before` is the `before` of the next page, or null on the last one."""

    items: list[AuditCheckpoint]
    next_before: int | None = None


class AuditKey(Response):
    """A public key. The one that is not retired signs; those that are have signed."""

    key_id: str
    public_key: str = Field(description="Ed25519, 32 bytes, hexadecimal.")
    created_at: datetime
    retired_at: datetime | None


class AuditTrail(Response):
    """What is kept: the events `first_seq` to `last_seq`, for so many days; null: for good."""

    first_seq: int
    last_seq: int
    checkpoint_seq: int
    retention_days: int | None
    least_retention_days: int


class SetRetention(Request):
    days: int | None = Field(ge=1, le=36_500, description="Null: for good.")
