"""Documents and versions as users see them, and the uploads that become them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class Document:
    """The user's thing at its newest version. `sha256` is hexadecimal; `deleted_at` is set while it is in the trash."""

    id: UUID
    name: str
    content_type: str
    size_bytes: int
    sha256: str
    version: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Version:
    """One numbered state of a document. `original_created_at`: when it was made where it was taken over from."""

    number: int
    size_bytes: int
    sha256: str
    content_type: str
    created_at: datetime
    original_created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """Where the bytes of a version are, how we know, and what keeps them at the store itself.

    `error`: why a removal or a lock is still to be done. `lock`: `not_used` (the store's settings name none), `none`
    (nothing is wanted), `set` (the store said it keeps at least what is wanted), `waiting` (not yet, or something that
    is not wanted any more is still there). `lock_wanted_*` is what the records ask for, `lock_set_*` what the store
    last said, at `lock_set_at`.
    """

    version_number: int
    store: str
    state: str
    evidence: str | None
    evidence_at: datetime | None
    created_at: datetime
    error: str | None
    lock: str
    lock_wanted_hold: bool
    lock_wanted_mode: str | None
    lock_wanted_until: datetime | None
    lock_set_hold: bool
    lock_set_mode: str | None
    lock_set_until: datetime | None
    lock_set_at: datetime | None


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """What is announced before the first byte: a new document, or with `document_id` a new version of one.

    `size_bytes` and `sha256` (32 bytes) are held against what arrives, where they are given.
    """

    name: str
    content_type: str
    document_id: UUID | None = None
    size_bytes: int | None = None
    sha256: bytes | None = None
    idempotency_key: str | None = None
    original_created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class UploadRow:
    """An upload session as recorded."""

    id: UUID
    fingerprint: bytes
    document_id: UUID | None
    replica_id: UUID
    state: str
    result_document_id: UUID | None
    result_version: int | None
    fence: int
    is_leased: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tenant takes or has reserved."""

    documents: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class UploadResult:
    """What an upload became. `replayed`: an earlier request with the same key did it, and this one changed nothing."""

    document: Document
    version: Version
    replayed: bool


@dataclass(frozen=True, slots=True)
class Download:
    """An open download: `length` bytes from `start`, of which the first are there already."""

    document: Document
    version: Version
    start: int
    length: int
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class StoreReason:
    """Why a store holds bytes of a version, or is to.

    `role`: what the placement wants it for (`write`, `copy`, `drawn copy`), or None. `verdict`: `there`, `owed`,
    `lacking` (wanted, not there, and nothing owed yet), `extra` (there, and not wanted: read all the same, until a
    migration takes it away), `going`. `weight` and `draw`: its share of new writes and what it drew for these bytes,
    where several stores share them out; the greatest draw wins. `read_place`: its place in the
    order in which this process would ask now (None: it would not), and why that is.
    """

    store: str
    role: str | None
    verdict: str
    weight: int | None
    draw: float | None
    state: str | None
    evidence: str | None
    evidence_at: datetime | None
    debt: str | None
    debt_reason: str | None
    read_place: int | None
    read_reason: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why the bytes of a version are where they are. `rule`: the number of the rule that holds, from 1; None: none."""

    version_number: int
    content_type: str
    size_bytes: int
    age_days: int
    placement_version: int
    rule: int | None
    is_migrating: bool
    read_preference: str
    stores: list[StoreReason]
