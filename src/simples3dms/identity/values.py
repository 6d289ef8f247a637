"""Users, members and tokens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from simples3dms.kit.secret import Secret


class Role(StrEnum):
    """A user's place in a tenant; what each may do is in `permissions`."""

    OWNER = "owner"
    ADMINISTRATOR = "administrator"
    EDITOR = "editor"
    VIEWER = "viewer"
    AUDITOR = "auditor"


class PlatformRole(StrEnum):
    """What a user is beyond tenants."""

    OPERATOR = "operator"
    AUDITOR = "auditor"


class Ranked(Protocol):
    """Somebody who may be something on the platform."""

    @property
    def is_operator(self) -> bool: ...

    @property
    def is_auditor(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class User:
    id: UUID
    email: str
    is_operator: bool
    is_auditor: bool
    created_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Account:
    """What signing in needs to know of a user."""

    id: UUID
    email: str
    password_hash: str
    is_operator: bool
    is_auditor: bool
    factor: str | None = None
    """What it proved beside its password: `code` or `passkey`."""

    @property
    def method(self) -> str:
        return "password" if self.factor is None else f"password+{self.factor}"


@dataclass(frozen=True, slots=True)
class NewPassword:
    """A generated password, to be shown once."""

    email: str
    password: Secret


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made: `token` is shown once, only its digest is kept."""

    id: UUID
    token: Secret
    name: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Token:
    id: UUID
    name: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    scopes: list[str] | None = None
    tenant_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Recognised:
    """Who asks: a user, what they came in with; where it is there, the tenant that was named, and their role in it."""

    user_id: UUID
    email: str
    is_operator: bool
    is_auditor: bool
    is_service: bool
    scopes: list[str] | None
    only_tenant_id: UUID | None
    token_id: UUID | None
    session_id: UUID | None
    expires_at: datetime | None
    tenant_id: UUID | None
    slug: str
    name: str
    created_at: datetime
    suspended_at: datetime | None
    suspension_reason: str | None
    deleting_at: datetime | None
    role: str | None


@dataclass(frozen=True, slots=True)
class Member:
    user_id: UUID
    email: str
    role: str
    created_at: datetime
