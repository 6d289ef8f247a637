"""Rotations and their schedules, without a secret."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

RotationState = Literal[
    "making", "staged", "switched", "retiring", "undoing", "done", "rolled_back", "failed", "needs_attention"
]


@dataclass(frozen=True, slots=True)
class Rotation:
    """`making` (at the provider) > `staged` > `switched` (the old one is kept) > `retiring` > `done`; `undoing` takes
    the new one back and ends in `failed` or `rolled_back`."""

    id: UUID
    store_id: UUID
    state: RotationState
    from_version: int
    to_version: int
    is_made: bool
    """Whether the new key is made at the provider, and not given by hand."""
    key_name: str
    known_key_ids: list[str] | None
    """The keys that were there before ours was made: where keys have no names, that is how ours is told apart."""
    deletes_old: bool
    created_at: datetime
    switched_at: datetime | None
    grace_until: datetime | None
    finished_at: datetime | None
    error_code: str | None
    error_message: str | None
    fence: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """How often a store's credential is rotated by itself, and whether with a key of its own for that."""

    every_seconds: float | None
    deletes_old: bool
    next_at: datetime | None
    manager_version: int
    manager_fingerprint: str | None


@dataclass(frozen=True, slots=True, repr=False)
class ManagerRow:
    """The sealed credential that signs key management."""

    manager_version: int
    key_id: str
    wrapped_key: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class CredentialStatus:
    """One kept version of a credential, as an operator sees it."""

    version: int
    state: str
    fingerprint: str | None
    expires_at: datetime | None
    sealed_under: str


@dataclass(frozen=True, slots=True)
class StoreCredential:
    """What is known of a store's credential: its versions, the newest rotation, the schedule."""

    versions: list[CredentialStatus]
    rotation: Rotation | None
    schedule: Schedule | None
