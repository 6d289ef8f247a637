"""One recorded act, its place in the chain, and what is signed of a chain."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Who did what to which target; `action` is `noun.past`, `outcome` is done, refused or failed.

    `seq` is its number in the tenant's chain: None for the moment until it is sealed.
    """

    id: UUID
    at: datetime
    principal_id: UUID | None
    principal_name: str
    action: str
    target_type: str
    target_id: str
    outcome: str
    details: dict[str, Any]
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class ChainedEvent:
    """An event as the chain sees it: `details` is JSON as the database spells it."""

    id: UUID
    at: datetime
    principal_id: UUID | None
    principal_name: str
    action: str
    target_type: str
    target_id: str
    outcome: str
    details: str
    seq: int | None
    hash: bytes | None


@dataclass(frozen=True, slots=True)
class Head:
    """Where a tenant's chain ends, where it begins (after `cut_seq`), and what is signed of it."""

    tenant_id: UUID
    seq: int
    hash: bytes
    cut_seq: int
    checkpoint_seq: int
    retention_days: int | None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The signed statement that the tenant's chain had this head at this time."""

    tenant_id: UUID
    seq: int
    hash: bytes
    at: datetime
    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """The signed statement that events up to `seq`, whose hash was `hash`, were removed: older than `days`."""

    tenant_id: UUID
    seq: int
    hash: bytes
    at: datetime
    days: int
    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs or has signed checkpoints, without its secret."""

    key_id: str
    public_key: bytes
    created_at: datetime
    retired_at: datetime | None


@dataclass(frozen=True, slots=True, repr=False)
class SealedKey:
    """The key that signs now, its secret sealed."""

    key_id: str
    public_key: bytes
    seal_key_id: str
    wrapped_key: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Uncopied:
    """A checkpoint that is to be copied into the tenant's stores."""

    tenant_id: UUID
    seq: int


@dataclass(frozen=True, slots=True)
class Trail:
    """What a tenant's audit holds now: events `first_seq` to `last_seq`, and for how long they are kept."""

    first_seq: int
    last_seq: int
    checkpoint_seq: int
    retention_days: int | None
    least_retention_days: int


@dataclass(frozen=True, slots=True)
class Search:
    """Which events; None where it does not matter. `action` may be `document.*`. `until` itself is left out."""

    principal: str | None = None
    action: str | None = None
    target_type: str | None = None
    target_id: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None
