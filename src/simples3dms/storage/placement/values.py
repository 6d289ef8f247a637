"""The placement policy in force for a tenant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

#: How far the copies in one store are counted for a person.
COUNTED: Final = 100_000


@dataclass(frozen=True, slots=True)
class Policy:
    """What the tenant wants, by store id: where new blobs are written, which stores hold a copy, whom to read first."""

    write_store_id: UUID
    copy_store_ids: tuple[UUID, ...] = ()
    read_store_ids: tuple[UUID, ...] = ()
    write_weights: tuple[tuple[UUID, int], ...] = ()
    """Among which stores new blobs are shared out, and how; the write target is one of them. Empty: it has them all."""

    @property
    def write_store_ids(self) -> tuple[UUID, ...]:
        """Each store that new blobs are written to, the write target first."""
        return tuple(dict.fromkeys((self.write_store_id, *(store_id for store_id, _ in self.write_weights))))

    @property
    def wanted_store_ids(self) -> tuple[UUID, ...]:
        """Each store that blobs belong in, the write target first. Which of them one blob does, the router says."""
        return (*self.write_store_ids, *self.copy_store_ids)


@dataclass(frozen=True, slots=True)
class PlacementRow:
    """The tenant's placement row: the policy and its version, which is what cut-over and roll-back swap.

    `is_held`: a cut-over is about to happen and asks new versions to wait a moment before they become visible.
    """

    tenant_id: UUID
    version: int
    write_store_id: UUID
    copy_store_ids: list[UUID]
    read_store_ids: list[UUID]
    updated_at: datetime
    is_held: bool
    write_weights: dict[str, int]

    @property
    def policy(self) -> Policy:
        weights = tuple((UUID(store_id), weight) for store_id, weight in self.write_weights.items())
        return Policy(self.write_store_id, tuple(self.copy_store_ids), tuple(self.read_store_ids), weights)


@dataclass(frozen=True, slots=True)
class Placement:
    """The policy in words: store names."""

    version: int
    write: str
    copies: tuple[str, ...]
    read: tuple[str, ...]
    updated_at: datetime
    shares: dict[str, int]
    """Weights by which new blobs are shared out among stores; empty: `write` has them all."""


@dataclass(frozen=True, slots=True)
class Outside:
    """A store that the tenant's documents may not lie in, and that it has. Nothing is moved out of it by itself."""

    store: str
    jurisdiction: str | None
    is_in_use: bool
    """The placement names it: it is written to, or holds copies."""
    replica_count: int
    """Copies that lie there, counted up to a limit (`COUNTED`)."""


@dataclass(frozen=True, slots=True)
class Residency:
    """Where a tenant's documents may lie (None: anywhere), and what lies outside of that now."""

    allowed: list[str] | None
    outside: list[Outside]


@dataclass(frozen=True, slots=True)
class Grant:
    """A store that the tenant may use, with the prefix that is the tenant's own in it."""

    store_id: UUID
    name: str
    kind: str
    prefix: str
    jurisdiction: str | None = None
