"""A takeout and the lines of its manifest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Takeout:
    """A snapshot: every version whose blob was recorded up to `upto_seq`. What is purged later falls out of it."""

    id: UUID
    upto_seq: int
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One version: a line of the manifest. In the order of document and number."""

    document: UUID
    version: int
    name: str
    content_type: str
    size_bytes: int
    sha256: str
    document_created_at: datetime
    created_at: datetime
    retain_until: datetime | None
    retention_mode: str | None
