"""Envelope encryption: a fresh data key for each value, wrapped by the key ring; both bound to the value's place.

Format 2, which is written now, binds the encrypted bytes to their place and the wrapped data key to its place and its
wrapping key, so that a new wrapping key needs a new wrapped data key only. Format 1 bound both to the wrapping key; it
is read as ever, and `rewrap` makes format 2 of it.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import Final

from simples3dms.crypto.errors import SealBroken
from simples3dms.crypto.keyring import Keyring
from simples3dms.crypto.wrapping import KEY_BYTES, decrypt, encrypt

_LABEL_1: Final = b"simples3dms-seal-v1"
_LABEL_2: Final = b"simples3dms-seal-v2"
#: Begins a value of format 2. One of format 1 begins with a random nonce: it is this with a chance of 2**-64.
_MARK_2: Final = b"s3dms\x00v2"


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
    """Encrypt under a fresh data key (AES-256-GCM), and that key under the key ring's primary one. May block."""
    wrapper = keyring.get_key(keyring.primary_id)
    data_key = secrets.token_bytes(KEY_BYTES)
    return Sealed(
        wrapper.key_id,
        wrapped_key=wrapper.wrap(data_key, _bind(_LABEL_2, context, b"wrapped_key", wrapper.key_id.encode())),
        sealed=_MARK_2 + encrypt(data_key, plaintext, _bind(_LABEL_2, context, b"sealed")),
    )


def unseal(keyring: Keyring, value: Sealed, *, context: SealContext) -> bytes:
    """The plaintext. May block.

    Raises SealBroken if a bit was changed or the context is another; SealKeyUnknown; and what the key's wrapper does.
    """
    try:
        if value.sealed.startswith(_MARK_2):
            data_key = _unwrap(keyring, value, context)
            return decrypt(data_key, value.sealed[len(_MARK_2) :], _bind(_LABEL_2, context, b"sealed"))
        key_id = value.key_id.encode()
        bound = _bind(_LABEL_1, context, b"wrapped_key", key_id)
        data_key = keyring.get_key(value.key_id).unwrap(value.wrapped_key, bound)
        return decrypt(data_key, value.sealed, _bind(_LABEL_1, context, b"sealed", key_id))
    except ValueError:
        raise _broken(context) from None


def rewrap(keyring: Keyring, value: Sealed, *, context: SealContext) -> Sealed:
    """The same plaintext under the primary key; of format 2, only the data key is opened. Raises as `unseal` does."""
    if not value.sealed.startswith(_MARK_2):
        return seal(keyring, unseal(keyring, value, context=context), context=context)
    wrapper = keyring.get_key(keyring.primary_id)
    try:
        data_key = _unwrap(keyring, value, context)
    except ValueError:
        raise _broken(context) from None
    bound = _bind(_LABEL_2, context, b"wrapped_key", wrapper.key_id.encode())
    return Sealed(wrapper.key_id, wrapper.wrap(data_key, bound), value.sealed)


async def seal_apart(keyring: Keyring, plaintext: bytes, *, context: SealContext) -> Sealed:
    """`seal` in a thread. Where a service keeps the key it takes a round trip: never inside a transaction."""
    return await asyncio.to_thread(seal, keyring, plaintext, context=context)


async def unseal_apart(keyring: Keyring, value: Sealed, *, context: SealContext) -> bytes:
    """`unseal` in a thread; never inside a transaction."""
    return await asyncio.to_thread(unseal, keyring, value, context=context)


def _unwrap(keyring: Keyring, value: Sealed, context: SealContext) -> bytes:
    bound = _bind(_LABEL_2, context, b"wrapped_key", value.key_id.encode())
    data_key = keyring.get_key(value.key_id).unwrap(value.wrapped_key, bound)
    if len(data_key) != KEY_BYTES:
        raise ValueError("not a data key")
    return data_key


def _broken(context: SealContext) -> SealBroken:
    return SealBroken(f"A sealed value in {context.table} was changed or moved; enter it anew.", table=context.table)


def _bind(label: bytes, context: SealContext, part: bytes, key_id: bytes | None = None) -> bytes:
    """Each field after its length, so that no two contexts give the same bytes."""
    place = (
        context.owner.encode(),
        context.table.encode(),
        context.column.encode(),
        context.row_id.encode(),
        context.version.to_bytes(8, "big"),
    )
    named = () if key_id is None else (key_id,)
    return b"".join(len(field).to_bytes(4, "big") + field for field in (label, part, *named, *place))
