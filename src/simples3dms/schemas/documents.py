"""Documents, versions, replicas."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from simples3dms.schemas.base import Response


class Document(Response):
    """A document at its newest version. `sha256` is hexadecimal; `deleted_at` is set while it is in the trash."""

    id: UUID
    name: str
    content_type: str
    size_bytes: int
    sha256: str
    version: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


class Version(Response):
    number: int
    size_bytes: int
    sha256: str
    content_type: str
    created_at: datetime
    original_created_at: datetime | None = None


class StoreReason(Response):
    """Why a store holds bytes of a version, or is to. `draw`: what it drew where stores share writes out: most wins."""

    store: str
    role: Literal["write", "copy", "drawn copy"] | None
    verdict: Literal["there", "owed", "lacking", "extra", "going"]
    weight: int | None
    draw: float | None
    state: str | None
    evidence: str | None
    evidence_at: datetime | None
    debt: str | None
    debt_reason: str | None
    read_place: int | None
    read_reason: str | None


class Explanation(Response):
    """Why the bytes of a version are where they are. `rule` is the number of the placement's rule that holds, from 1;
    null: its own layout does. While `is_migrating`, a migration owns the placement."""

    version_number: int
    content_type: str
    size_bytes: int
    age_days: int
    placement_version: int
    rule: int | None
    is_migrating: bool
    read_preference: Literal["listed", "nearest", "cheapest", "fastest"]
    stores: list[StoreReason]


class Replica(Response):
    """Where the bytes of a version are, and how that is known: `written`, `provider-checksum` or `read-back`.

    `lock` says whether the store itself keeps them: `not_used` by this store, `none` wanted, `set`, or `waiting`.
    What the records ask for is in `lock_wanted_*`, what the store last said it keeps in `lock_set_*`. `error` is why a
    removal or a lock is still to be done.
    """

    version_number: int
    store: str
    state: str
    evidence: str | None
    evidence_at: datetime | None
    created_at: datetime
    error: str | None
    lock: Literal["not_used", "none", "set", "waiting"]
    lock_wanted_hold: bool
    lock_wanted_mode: Literal["governance", "compliance"] | None
    lock_wanted_until: datetime | None
    lock_set_hold: bool
    lock_set_mode: Literal["governance", "compliance"] | None
    lock_set_until: datetime | None
    lock_set_at: datetime | None
