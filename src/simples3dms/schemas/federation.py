"""Identity providers, and sign-in through them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field, SecretStr

from simples3dms.schemas.base import Request, Response


class AddProvider(Request):
    name: str
    issuer: str = Field(description="As the provider writes it: its discovery document lies below it.")
    client_id: str
    client_secret: SecretStr | None = Field(default=None, description="Empty: a public client.")
    links_by_email: bool = Field(
        default=False, description="Whether an address that the provider has verified makes one the user who has it."
    )
    creates_users: bool = Field(default=False, description="Whether a verified address that nobody has makes a user.")


class AddTenantProvider(AddProvider):
    default_role: Literal["owner", "administrator", "editor", "viewer", "auditor"] | None = Field(
        default=None, description="The place in the tenant of a user who is made so."
    )


class Provider(Response):
    """An identity provider; its secret is never shown."""

    id: UUID
    name: str
    issuer: str
    client_id: str
    links_by_email: bool
    creates_users: bool
    default_role: str | None
    created_at: datetime


class OfferedProvider(Response):
    """For the page on which one signs in."""

    id: UUID
    name: str


class Begun(Response):
    """Where the browser is to go now."""

    url: str
