"""Identity providers, and what is known of who signs in through them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from simples3dms.kit.secret import Secret


@dataclass(frozen=True, slots=True)
class NewProvider:
    """As it is set up. `client_secret` is None for a public client, which PKCE alone vouches for."""

    name: str
    issuer: str
    client_id: str
    client_secret: Secret | None
    links_by_email: bool
    creates_users: bool
    default_role: str | None


@dataclass(frozen=True, slots=True)
class IdentityProvider:
    id: UUID
    name: str
    issuer: str
    client_id: str
    links_by_email: bool
    creates_users: bool
    default_role: str | None
    created_at: datetime
    of_tenant_id: UUID | None


@dataclass(frozen=True, slots=True)
class SealedSecret:
    key_id: str | None
    wrapped_key: bytes | None
    sealed: bytes | None


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What an issuer's discovery document says."""

    issuer: str
    authorization: str
    token: str
    keys: str
    names_issuer_in_answer: bool
    takes_basic: bool


@dataclass(frozen=True, slots=True)
class Begun:
    """Where the browser is to go, and the secret that it keeps until it is back."""

    url: str
    browser: Secret


@dataclass(frozen=True, slots=True)
class Answer:
    """What the browser brought back."""

    state: str
    code: str | None
    issuer: str | None
    error: str | None
