"""Time-based one-time passwords (RFC 6238): six digits, a step each 30 seconds, one step of leeway either way."""

from __future__ import annotations

import hmac
from typing import Final

import pyotp

from simples3dms.kit.secret import Secret

STEP_SECONDS: Final = 30
_LEEWAY: Final = (0, -1, 1)


def new_totp_secret() -> Secret:
    """160 random bits in base 32, as authenticator apps take them."""
    return Secret(pyotp.random_base32())


def totp_uri(secret: Secret, *, account: str, issuer: str) -> Secret:
    """What an app reads from a QR code."""
    return Secret(pyotp.TOTP(secret.reveal()).provisioning_uri(name=account, issuer_name=issuer))


def find_step(secret: Secret, code: str, *, now_seconds: float) -> int | None:
    """The step that the code is of, at this time of day; None if it is of none of the three nearest."""
    maker = pyotp.TOTP(secret.reveal())
    current = int(now_seconds // STEP_SECONDS)
    found = None
    for leeway in _LEEWAY:
        if hmac.compare_digest(maker.generate_otp(current + leeway).encode(), code.encode(errors="replace")):
            found = current + leeway
    return found
