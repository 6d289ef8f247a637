"""Seal credentials, and open them where a provider is made. Both outside transactions: a key may be a network away."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol
from uuid import UUID

from simples3dms.crypto.keyring import Keyring
from simples3dms.crypto.sealing import SealContext, Sealed, seal_apart, unseal_apart
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.errors import Conflict, Invalid, NotFound
from simples3dms.keys.service import choose_primary, hold_key, notify
from simples3dms.kit.secret import Secret
from simples3dms.storage.credentials import repository
from simples3dms.storage.credentials.values import CredentialRow

_TRIES: Final = 50


class SealedParts(Protocol):
    """Any row that holds a sealed credential."""

    @property
    def key_id(self) -> str: ...
    @property
    def wrapped_key(self) -> bytes: ...
    @property
    def sealed(self) -> bytes: ...


class Credentials:
    """The credentials of all stores."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self.keyring = keyring

    async def seal(
        self,
        store_id: UUID,
        fields: Mapping[str, str],
        *,
        version: int | None = None,
        state: str = "current",
        context: SealContext | None = None,
        owner: UUID | None = None,
    ) -> CredentialRow:
        """A store's credential as a row, not yet written: as that version, or the one that comes next now.

        `context`: where it will stand, if not among the store's credentials. `owner`: the tenant that brings a store
        that is not saved yet. What is sealed for one owner opens for no other.
        Raises Invalid (`credential_invalid`) for a blank field, and what the key's service does.
        """
        if any(not value.strip() for value in fields.values()):
            raise Invalid("No field of a credential may be blank.", code="credential_invalid")
        async with self._database.platform() as uow:
            await choose_primary(uow, self.keyring)
            chosen = version or await repository.next_version(uow, store_id)
            holder = owner or await repository.find_owner(uow, store_id)
        plaintext = json.dumps(dict(fields), sort_keys=True).encode()
        sealed = await seal_apart(self.keyring, plaintext, context=context or _context(store_id, chosen, holder))
        mark = await asyncio.to_thread(_fingerprint, store_id, plaintext)
        return CredentialRow(chosen, sealed.key_id, sealed.wrapped_key, sealed.sealed, mark, state)

    async def insert(self, uow: UnitOfWork, store_id: UUID, row: CredentialRow) -> None:
        """Write a sealed row down, in the platform's unit of work. The caller holds the store's row.

        Raises Unavailable (`seal_key_retired`).
        """
        await hold_key(uow, self.keyring, row.key_id)
        await repository.insert(uow, store_id, row)

    async def replace(
        self,
        store_id: UUID,
        fields: Mapping[str, str],
        then: Callable[[UnitOfWork, int], Awaitable[None]],
        *,
        first: Callable[[UnitOfWork], Awaitable[None]] | None = None,
    ) -> int:
        """Seal a store's credential as its next version and forget what was there before; the version.

        `then` runs in the same unit of work, and so does `first`, before the store's row is held.
        Raises as `seal` does, and Conflict (`rotation_under_way`).
        """
        for _ in range(_TRIES):
            row = await self.seal(store_id, fields)
            async with self._database.platform() as uow:
                if first is not None:
                    await first(uow)
                await repository.lock_store(uow, store_id)
                if await repository.next_version(uow, store_id) != row.version:
                    continue  # another replacement came first: seal for the place that is next now
                if await repository.is_rotating(uow, store_id):
                    raise under_way()
                await repository.delete_all(uow, store_id)
                await self.insert(uow, store_id, row)
                await notify(uow)
                await then(uow, row.version)
                return row.version
        raise Conflict("The credential is being replaced by others at this moment.", code="credential_contended")

    async def get_version(self, uow: UnitOfWork, store_id: UUID) -> int:
        """The current version's number, without opening it; 0 where there is none."""
        return await repository.find_current_version(uow, store_id) or 0

    async def open(self, store_id: UUID, version: int | None = None) -> tuple[int, dict[str, Secret]]:
        """A store's current credential, or that version of it, and its version.

        Raises NotFound (`credential_not_found`), and what keys do.
        """
        async with self._database.platform() as uow:
            row = await repository.find(uow, store_id, version)
            owner = await repository.find_owner(uow, store_id)
        if row is None:
            raise NotFound("This store has no credential.", code="credential_not_found")
        return row.version, await self.unseal_row(row, _context(store_id, row.version, owner))

    async def unseal_row(self, row: SealedParts, context: SealContext) -> dict[str, Secret]:
        """What a row holds. Raises SealBroken, SealKeyUnknown, and what the key's service does."""
        sealed = Sealed(row.key_id, row.wrapped_key, row.sealed)
        plaintext = await unseal_apart(self.keyring, sealed, context=context)
        return {name: Secret(value) for name, value in json.loads(plaintext).items()}


def under_way() -> Conflict:
    return Conflict(
        "This store's credential is being rotated: finish the rotation or roll it back first.",
        code="rotation_under_way",
    )


def _fingerprint(store_id: UUID, plaintext: bytes) -> str:
    """Tells a store's credentials apart. Slow on purpose, and salted: nobody gets from it to a secret. Blocks."""
    return hashlib.scrypt(plaintext, salt=store_id.bytes, n=2**14, r=8, p=1, dklen=8).hex()


def _context(store_id: UUID, version: int, owner: UUID | None) -> SealContext:
    return SealContext("platform" if owner is None else str(owner), "credentials", "sealed", str(store_id), version)
