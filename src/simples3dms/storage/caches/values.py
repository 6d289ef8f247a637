"""Caches and what lies in them."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class CachePlace:
    """A cache that a tenant's documents may lie in, and the blob that was looked for in it, if it has it."""

    store_id: UUID
    prefix: str
    jurisdiction: str | None
    max_bytes: int
    allowed: list[str] | None
    """Where the tenant's documents may lie; None: anywhere."""
    entry_id: UUID | None
    key: str | None
    is_use_old: bool | None
    """Whether it was noted some time ago that the entry is used."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of a cache: bytes that are there, or about to be, or about to go. Good as long as its fence stands."""

    tenant_id: UUID
    id: UUID
    store_id: UUID
    key: str
    size_bytes: int
    fence: int


@dataclass(frozen=True, slots=True)
class Overfull:
    """A cache that holds more than it may."""

    store_id: UUID
    surplus_bytes: int


@dataclass(frozen=True, slots=True)
class Unusable:
    """A cache that holds something of a tenant's, and what tells whether it may."""

    tenant_id: UUID
    store_id: UUID
    jurisdiction: str | None
    allowed: list[str] | None
    is_closed: bool
    """Disabled, or granted to the tenant no more."""
