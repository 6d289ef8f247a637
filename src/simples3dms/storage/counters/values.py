"""Numbers of a catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Total:
    """Blobs and their bytes: a tenant's living ones (no store), or what of it is live in a store."""

    store_id: UUID | None
    blob_count: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Drift:
    """A number that is not what the rows say: by how much it is too low."""

    store_id: UUID | None
    blob_count: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Owed:
    """Copies that a store is owed, in one state (`pending`, `failed` or `waived`), and what they are of in bytes."""

    store_id: UUID
    state: str
    transfer_count: int
    size_bytes: int
