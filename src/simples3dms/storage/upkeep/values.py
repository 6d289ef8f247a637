"""What `fsck` finds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise: its kind (stable), whose it is, what it is about, and one sentence."""

    kind: str
    tenant_id: UUID
    target: str
    message: str


@dataclass(slots=True)
class FsckReport:
    """The findings, and what was looked at. `pending_*` counts are work that is under way or due, not findings."""

    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def clean(self) -> bool:
        return not self.findings


@dataclass(frozen=True, slots=True)
class Granted:
    """One tenant's place in one store."""

    tenant_id: UUID
    store_id: UUID
    store_name: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Copy:
    """A live replica with what its bytes must be."""

    id: UUID
    store_id: UUID
    store_name: str
    key: str
    version_id: str | None
    digest: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key that the records explain."""

    key: str
    version_id: str | None
    state: str
