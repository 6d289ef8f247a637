"""A browser's session, as it is made, recognised and shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from simples3dms.kit.secret import Secret


@dataclass(frozen=True, slots=True)
class Visitor:
    """Where a request comes from, as far as is known: for the limits, and for who looks at their sessions."""

    address: str = ""
    agent: str = ""


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session just begun, or under a new secret: it goes to the browser once, only its digest is kept."""

    id: UUID
    secret: Secret
    max_age_seconds: int


@dataclass(frozen=True, slots=True)
class Session:
    id: UUID
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    address: str
    agent: str
    method: str
