"""Browsers' sessions."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field, SecretStr

from simples3dms.schemas.base import Request, Response
from simples3dms.schemas.factors import PasskeyAnswer


class SecondFactor(Request):
    """Given with the password where the answer without it was `second_factor_required`."""

    code: SecretStr | None = Field(default=None, description="A code of one's app, or a recovery code.")
    passkey: PasskeyAnswer | None = Field(default=None, description="The answer to the problem's `passkey`.")


class SignIn(SecondFactor):
    email: str
    password: SecretStr


class Caller(Response):
    """Who is asking, and how they came in. `scopes` and `tenant_id` bound a token; null where they do not."""

    id: UUID
    name: str
    is_operator: bool
    is_auditor: bool
    session_id: UUID | None
    token_id: UUID | None
    scopes: list[str] | None
    tenant_id: UUID | None


class Session(Response):
    """One's own browser, signed in: since when and where, last seen when, until when at most."""

    id: UUID
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    address: str
    agent: str
    method: str
    is_current: bool = False


class Ended(Response):
    count: int


class ChangePassword(Request):
    password: SecretStr
    new_password: SecretStr
