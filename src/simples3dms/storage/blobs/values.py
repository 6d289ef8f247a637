"""Blobs, replicas, and the claims under which they are written and removed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from simples3dms.storage.caches.values import CachePlace

#: Bodies up to this size are held whole, so that they are verified before their first byte is passed on.
SMALL_BYTES = 1024 * 1024
#: The state, among replicas to be read, of what is none: an entry of a cache.
CACHED = "cached"
#: Why a removal waits: the store itself keeps the object, by a hold or a retention that is not over.
OBJECT_LOCKED = "object_locked"


@dataclass(frozen=True, slots=True)
class Blob:
    """Immutable bytes: `digest` is their SHA-256 (32 bytes)."""

    id: UUID
    seq: int
    digest: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Replica:
    """One recorded copy. `evidence`: `written` (hashed on the way out), `provider-checksum` (the store reports the
    checksum that we know of the same bytes), `read-back` (read again and compared), or `doubted` (it was found wrong or
    gone since)."""

    id: UUID
    blob_id: UUID
    store_id: UUID
    key: str
    version_id: str | None
    state: str
    evidence: str | None
    evidence_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ReadReason:
    """A store that a copy would be read from, and why at this place of the order."""

    store_id: UUID
    reason: str


@dataclass(frozen=True, slots=True)
class WriteTicket:
    """The right to write one key once: a `writing` row, ours as long as its fence stands."""

    replica_id: UUID
    store_id: UUID
    key: str
    fence: int


@dataclass(frozen=True, slots=True)
class Written:
    """What a finished write has to record."""

    ticket: WriteTicket
    version_id: str | None
    digest: bytes
    size_bytes: int
    evidence: str = "read-back"
    """How a copy was proven. Of a new blob's first replica nobody has asked yet: that one is `written`."""


@dataclass(frozen=True, slots=True)
class Doomed:
    """A retiring replica claimed for removal. `allowed` says that the records permit it (promise 2)."""

    id: UUID
    blob_id: UUID | None
    store_id: UUID
    key: str
    version_id: str | None
    evidence: str | None
    fence: int
    attempt: int
    size_bytes: int | None
    allowed: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """What could not be removed, why, and until when it is of no use to try again, where that is known."""

    item: Doomed
    error: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A replica that is suspect or missing and that nobody sees to yet."""

    tenant_id: UUID
    blob_id: UUID
    store_id: UUID


@dataclass(frozen=True, slots=True)
class DoubtfulOne:
    """A doubtful replica of the tenant's."""

    id: UUID
    blob_id: UUID
    store_id: UUID


def as_replica(place: CachePlace, blob: Blob) -> Replica:
    """What a cache has, among the replicas to be read."""
    assert place.entry_id is not None
    assert place.key is not None
    return Replica(place.entry_id, blob.id, place.store_id, place.key, None, CACHED, None, None, datetime.now(UTC))
