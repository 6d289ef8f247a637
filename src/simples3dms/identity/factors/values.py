"""Second factors as they are set up, given and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from simples3dms.kit.secret import Secret


@dataclass(frozen=True, slots=True)
class PasskeyAnswer:
    """What an authenticator answered to a challenge."""

    challenge_id: UUID
    credential: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Proof:
    """A second factor, given with the password: a code of an app or a recovery code, or a passkey's answer."""

    code: Secret | None = None
    passkey: PasskeyAnswer | None = None


@dataclass(frozen=True, slots=True)
class Passkey:
    id: UUID
    name: str
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredPasskey:
    id: UUID
    user_id: UUID
    credential_id: bytes
    public_key: bytes
    sign_count: int


@dataclass(frozen=True, slots=True)
class TotpRow:
    """The sealed secret of an app; it counts only once a code has confirmed it."""

    version: int
    key_id: str
    wrapped_key: bytes
    sealed: bytes
    confirmed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Challenge:
    """What an authenticator is to sign, and the options that a browser hands it."""

    id: UUID
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NewTotp:
    """For an app, shown once: the secret, and the same as an address for a QR code."""

    secret: Secret
    uri: Secret


@dataclass(frozen=True, slots=True)
class Held:
    """Which factors an account has."""

    has_totp: bool
    passkeys: list[Passkey]
    recovery_codes: int

    @property
    def kinds(self) -> list[str]:
        """What may be asked for. Recovery codes alone are no factor."""
        found = ["totp"] * self.has_totp + ["passkey"] * bool(self.passkeys)
        return [*found, "recovery_code"] if found and self.recovery_codes else found
