"""API tokens: 256 random bits behind a prefix that secret scanners can find; only their hash is stored."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from simples3dms.kit.secret import Secret

TOKEN_PREFIX: Final = "s3dms"  # noqa: S105 known to everybody


def new_token(prefix: str = TOKEN_PREFIX) -> Secret:
    """A fresh token, `s3dms_` and 43 URL-safe characters."""
    return Secret(f"{prefix}_{secrets.token_urlsafe(32)}")


def hash_token(token: Secret) -> bytes:
    """What is stored and looked up, 32 bytes. SHA-256 is enough: the token is random, not chosen by a person."""
    return hashlib.sha256(token.reveal().encode(errors="surrogatepass")).digest()
