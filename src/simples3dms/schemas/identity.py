"""Users, members, tokens."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field, SecretStr

from simples3dms.schemas.base import Request, Response
from simples3dms.schemas.sessions import SecondFactor


class LogIn(SecondFactor):
    email: str
    password: SecretStr
    token_name: str = Field(default="login", min_length=1, max_length=100)


class NewToken(Response):
    """A token just made; it is shown once."""

    id: UUID
    token: str
    name: str
    expires_at: datetime | None


class Token(Response):
    id: UUID
    name: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    scopes: list[str] | None = None
    tenant_id: UUID | None = None


class CreateToken(Request):
    name: str = Field(min_length=1, max_length=100)
    expires_in_days: float | None = Field(default=None, gt=0, le=3650)
    scopes: list[str] | None = Field(
        default=None, description="Permissions that it is bounded to. Empty: all that who asks has."
    )
    tenant: str | None = Field(default=None, description="The only tenant in which it is good for anything.")
    password: SecretStr | None = Field(
        default=None, description="One's password: for a token that outlives the one that asks."
    )


class CreateUser(Request):
    email: str
    password: SecretStr | None = Field(default=None, description="Empty: one is generated and shown once.")
    platform_role: Literal["operator", "auditor"] | None = Field(
        default=None, description="What the user is beyond tenants: most are nothing there."
    )


class SetPlatformRole(Request):
    platform_role: Literal["operator", "auditor"] | None = Field(description="null: nothing beyond tenants.")


class User(Response):
    id: UUID
    email: str
    is_operator: bool
    is_auditor: bool = False
    created_at: datetime
    disabled_at: datetime | None


class NewUser(Response):
    """A user just made; a generated password is shown once."""

    user: User
    password: str | None


class SetMember(Request):
    role: Literal["owner", "administrator", "editor", "viewer", "auditor"]


class Member(Response):
    user_id: UUID
    email: str
    role: str
    created_at: datetime
