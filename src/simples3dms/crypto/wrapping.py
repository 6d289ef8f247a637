"""`KeyWrapper`: a key-encrypting key, wherever it is kept. It wraps data keys, and is never seen itself."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
#: 96 random bits, as NIST SP 800-38D recommends for GCM; a wrapping key stays far below its 2**32 uses.
NONCE_BYTES: Final = 12
_FINGERPRINT_BYTES: Final = 16


class KeyWrapper(Protocol):
    """One key-encrypting key. Blocks where the key is kept by a service: call it in a thread, in no transaction.

    `wrap` and `unwrap` raise KeyServiceUnavailable (try again) and KeyServiceRefused (an operator must act).
    """

    key_id: str

    @property
    def place(self) -> str:
        """Where the key is kept, for a person: `key ring`, `aws-kms ARN`, `transit URL NAME`."""
        ...

    @property
    def fingerprint(self) -> bytes:
        """Which key this is, 16 bytes: two processes that hold different keys under one id find out by it."""
        ...

    def wrap(self, data_key: bytes, bound_to: bytes) -> bytes:
        """The wrapped data key; it opens with the same `bound_to` only."""
        ...

    def unwrap(self, wrapped: bytes, bound_to: bytes) -> bytes:
        """The data key. Raises ValueError where anything was changed or belongs elsewhere."""
        ...


class LocalKey:
    """A key that the key ring itself holds: AES-256-GCM."""

    __slots__ = ("_key", "key_id")

    def __init__(self, key_id: str, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes")
        self.key_id = key_id
        self._key = key

    @property
    def place(self) -> str:
        return "key ring"

    @property
    def fingerprint(self) -> bytes:
        label = b"simples3dms key fingerprint\0" + self.key_id.encode()
        return hmac.digest(self._key, label, hashlib.sha256)[:_FINGERPRINT_BYTES]

    def wrap(self, data_key: bytes, bound_to: bytes) -> bytes:
        return encrypt(self._key, data_key, bound_to)

    def unwrap(self, wrapped: bytes, bound_to: bytes) -> bytes:
        return decrypt(self._key, wrapped, bound_to)


def fingerprint_of_place(place: str) -> bytes:
    """The fingerprint of a key that a service keeps: there is nothing of it to see but where it is."""
    return hashlib.sha256(b"simples3dms key place\0" + place.encode()).digest()[:_FINGERPRINT_BYTES]


def encrypt(key: bytes, plaintext: bytes, bound_to: bytes) -> bytes:
    """AES-256-GCM under a fresh nonce, which comes first."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, bound_to)


def decrypt(key: bytes, sealed: bytes, bound_to: bytes) -> bytes:
    """Raises ValueError where a bit was changed."""
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to)
    except InvalidTag:
        raise ValueError("it does not open") from None
