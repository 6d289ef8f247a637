"""An invitation, as it is shown and as it is used."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from simples3dms.kit.secret import Secret


@dataclass(frozen=True, slots=True)
class Invitation:
    id: UUID
    email: str
    role: str
    created_at: datetime
    expires_at: datetime
    accepted_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class OpenInvitation:
    """One that may be used now."""

    tenant_id: UUID
    id: UUID
    email: str
    role: str
    invited_by: UUID | None


@dataclass(frozen=True, slots=True)
class HandOver:
    """A secret that lets somebody in, for a person to hand over: shown once. `link` where a public address is known."""

    token: Secret
    link: Secret | None
    expires_at: datetime
