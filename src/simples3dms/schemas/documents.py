"""Documents, versions, replicas."""

from __future__ import annotations

from datetime import datetime
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


class Replica(Response):
    """Where the bytes of a version are, and how that is known: `written` or `read-back`."""

    version_number: int
    store: str
    state: str
    evidence: str | None
    evidence_at: datetime | None
    created_at: datetime
