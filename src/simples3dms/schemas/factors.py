"""Second factors."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field, SecretStr

from simples3dms.schemas.base import Request, Response


class PasskeyAnswer(Request):
    """What `navigator.credentials` gave, as JSON, and the challenge that it answers."""

    challenge_id: UUID
    credential: dict[str, Any]


class Confirm(Request):
    password: SecretStr


class ConfirmTotp(Request):
    code: SecretStr


class AddPasskey(PasskeyAnswer):
    name: str = Field(min_length=1, max_length=100)


class Passkey(Response):
    id: UUID
    name: str
    created_at: datetime
    last_used_at: datetime | None


class Factors(Response):
    """`recovery_codes`: how many are left."""

    has_totp: bool
    passkeys: list[Passkey]
    recovery_codes: int


class NewTotp(Response):
    """For an app, shown once: the secret, and the same as an address for a QR code."""

    secret: str
    uri: str


class Challenge(Response):
    """Options for `navigator.credentials`, good for five minutes and one answer."""

    challenge_id: UUID
    options: dict[str, Any]


class RecoveryCodes(Response):
    """Codes that each sign in once in place of a second factor; shown once. Empty where there are some already."""

    recovery_codes: list[str]


class NewPasskey(RecoveryCodes):
    passkey: Passkey
