"""Invitations and password resets."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import SecretStr

from simples3dms.schemas.base import Request, Response


class Invite(Request):
    email: str
    role: Literal["owner", "administrator", "editor", "viewer", "auditor"]


class Invitation(Response):
    id: UUID
    email: str
    role: str
    created_at: datetime
    expires_at: datetime
    accepted_at: datetime | None
    revoked_at: datetime | None


class HandOver(Response):
    """A secret to hand over to whom it is for; it is shown once. `link` where a public address is set."""

    token: str
    link: str | None
    expires_at: datetime


class NewInvitation(Response):
    """`hand_over` is null where the letter is sent by mail."""

    invitation: Invitation
    hand_over: HandOver | None


class AcceptInvitation(Request):
    token: SecretStr
    password: SecretStr


class Accepted(Response):
    email: str


class JoinTenant(Request):
    token: SecretStr


class Joined(Response):
    tenant_id: UUID


class RequestReset(Request):
    email: str


class UseReset(Request):
    token: SecretStr
    password: SecretStr
