"""Envelope encryption: a fresh data key for each value, wrapped by the key ring; both bound to the value's place."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from simples3dms.crypto.errors import SealBroken
from simples3dms.crypto.keyring import KEY_BYTES, Keyring

_VERSION: Final = b"simples3dms-seal-v1"
#: 96 random bits, as NIST SP 800-38D recommends for GCM; a wrapping key stays far below its 2**32 uses.
_NONCE_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class SealContext:
    """The one place where a sealed value may stand. `owner` is the tenant's id, or `platform`."""

    owner: str
    table: str
    column: str
    row_id: str
    version: int


@dataclass(frozen=True, slots=True, repr=False)
class Sealed:
    """A sealed value as it is stored: the wrapping key's id, the wrapped data key, the encrypted bytes."""

    key_id: str
    wrapped_key: bytes
    sealed: bytes


def seal(keyring: Keyring, plaintext: bytes, *, context: SealContext) -> Sealed:
    """Encrypt under a fresh data key (AES-256-GCM), and that key under the key ring's primary one."""
    data_key = secrets.token_bytes(KEY_BYTES)
    key_id = keyring.primary_id
    return Sealed(
        key_id,
        wrapped_key=_encrypt(keyring.get_key(key_id), data_key, _bind(context, b"wrapped_key", key_id)),
        sealed=_encrypt(data_key, plaintext, _bind(context, b"sealed", key_id)),
    )


def unseal(keyring: Keyring, value: Sealed, *, context: SealContext) -> bytes:
    """The plaintext. Raises SealBroken if a bit was changed or the context is another; SealKeyUnknown."""
    wrapping_key = keyring.get_key(value.key_id)
    try:
        data_key = _decrypt(wrapping_key, value.wrapped_key, _bind(context, b"wrapped_key", value.key_id))
        return _decrypt(data_key, value.sealed, _bind(context, b"sealed", value.key_id))
    except (InvalidTag, ValueError):
        raise SealBroken(
            f"A sealed value in {context.table} was changed or moved; enter it anew.", table=context.table
        ) from None


def _encrypt(key: bytes, plaintext: bytes, bound_to: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, bound_to)


def _decrypt(key: bytes, sealed: bytes, bound_to: bytes) -> bytes:
    return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to)


def _bind(context: SealContext, part: bytes, key_id: str) -> bytes:
    """Each field after its length, so that no two contexts give the same bytes."""
    fields = (
        _VERSION,
        part,
        key_id.encode(),
        context.owner.encode(),
        context.table.encode(),
        context.column.encode(),
        context.row_id.encode(),
        context.version.to_bytes(8, "big"),
    )
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)
