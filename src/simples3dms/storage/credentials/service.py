"""Seal credentials, and open them where a provider is made. Both outside transactions: a key may be a network away."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from uuid import UUID

from simples3dms.crypto.keyring import Keyring
from simples3dms.crypto.sealing import SealContext, Sealed, seal_apart, unseal_apart
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.errors import Conflict, Invalid, NotFound
from simples3dms.keys.service import choose_primary, hold_key
from simples3dms.kit.secret import Secret
from simples3dms.storage.credentials import repository
from simples3dms.storage.credentials.values import CredentialRow

_TRIES: Final = 50


class Credentials:
    """The credentials of all stores."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def seal(self, store_id: UUID, fields: Mapping[str, str], *, version: int | None = None) -> CredentialRow:
        """A store's credential as a row, not yet written: as that version, or the one that comes next now.

        Raises Invalid (`credential_invalid`) for a blank field, and what the key's service does.
        """
        if any(not value.strip() for value in fields.values()):
            raise Invalid("No field of a credential may be blank.", code="credential_invalid")
        async with self._database.platform() as uow:
            await choose_primary(uow, self._keyring)
            chosen = version or await repository.next_version(uow, store_id)
        plaintext = json.dumps(dict(fields)).encode()
        sealed = await seal_apart(self._keyring, plaintext, context=_context(store_id, chosen))
        return CredentialRow(chosen, sealed.key_id, sealed.wrapped_key, sealed.sealed)

    async def insert(self, uow: UnitOfWork, store_id: UUID, row: CredentialRow) -> None:
        """Write a sealed row down, in the platform's unit of work. The caller holds the store's row.

        Raises Unavailable (`seal_key_retired`).
        """
        await hold_key(uow, self._keyring, row.key_id)
        await repository.insert(uow, store_id, row)

    async def replace(
        self, store_id: UUID, fields: Mapping[str, str], then: Callable[[UnitOfWork, int], Awaitable[None]]
    ) -> int:
        """Seal a store's credential as its next version and forget what was there before; the version.

        `then` runs in the same unit of work. Raises as `seal` does.
        """
        for _ in range(_TRIES):
            row = await self.seal(store_id, fields)
            async with self._database.platform() as uow:
                await repository.lock_store(uow, store_id)
                if await repository.next_version(uow, store_id) != row.version:
                    continue  # another replacement came first: seal for the place that is next now
                await self.insert(uow, store_id, row)
                await repository.delete_before(uow, store_id, row.version)
                await then(uow, row.version)
                return row.version
        raise Conflict("The credential is being replaced by others at this moment.", code="credential_contended")

    async def get_version(self, uow: UnitOfWork, store_id: UUID) -> int:
        """The newest version's number, without opening it; 0 where there is none."""
        return await repository.next_version(uow, store_id) - 1

    async def open(self, store_id: UUID) -> tuple[int, dict[str, Secret]]:
        """A store's newest credential and its version. Raises NotFound (`credential_not_found`), and what keys do."""
        async with self._database.platform() as uow:
            row = await repository.find_newest(uow, store_id)
        if row is None:
            raise NotFound("This store has no credential.", code="credential_not_found")
        return row.version, await self.unseal(store_id, row)

    async def unseal(self, store_id: UUID, row: CredentialRow) -> dict[str, Secret]:
        """What a row holds. Raises SealBroken, SealKeyUnknown, and what the key's service does."""
        sealed = Sealed(row.key_id, row.wrapped_key, row.sealed)
        plaintext = await unseal_apart(self._keyring, sealed, context=_context(store_id, row.version))
        return {name: Secret(value) for name, value in json.loads(plaintext).items()}


def _context(store_id: UUID, version: int) -> SealContext:
    return SealContext("platform", "credentials", "sealed", str(store_id), version)
