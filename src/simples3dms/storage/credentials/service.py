"""Seal credentials, and open them where a provider is made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from uuid import UUID

from simples3dms.crypto.keyring import Keyring
from simples3dms.crypto.sealing import SealContext, Sealed, seal, unseal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.errors import Invalid, NotFound
from simples3dms.kit.secret import Secret
from simples3dms.storage.credentials import repository
from simples3dms.storage.credentials.values import CredentialRow


class Credentials:
    """The credentials of all stores."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def save(
        self, uow: UnitOfWork, store_id: UUID, fields: Mapping[str, str], *, owner: UUID | None = None
    ) -> int:
        """Seal a store's credential as its next version, in the platform's unit of work; the version.

        `owner`: the tenant that brought the store; None: the platform. What is sealed opens for the same one only. The
        caller holds the store's row. What was there before is forgotten. Raises Invalid (`credential_invalid`)
        for a blank field.
        """
        if any(not value.strip() for value in fields.values()):
            raise Invalid("No field of a credential may be blank.", code="credential_invalid")
        version = await repository.next_version(uow, store_id)
        sealed = seal(self._keyring, json.dumps(dict(fields)).encode(), context=_context(store_id, version, owner))
        row = CredentialRow(version, sealed.key_id, sealed.wrapped_key, sealed.sealed)
        await repository.insert(uow, store_id, row)
        await repository.delete_before(uow, store_id, version)
        return version

    async def get_version(self, uow: UnitOfWork, store_id: UUID) -> int:
        """The newest version's number, without opening it; 0 where there is none."""
        return await repository.next_version(uow, store_id) - 1

    async def open(
        self, uow: UnitOfWork, store_id: UUID, *, owner: UUID | None = None
    ) -> tuple[int, dict[str, Secret]]:
        """A store's newest credential and its version. Raises NotFound (`credential_not_found`)."""
        row = await repository.find_newest(uow, store_id)
        if row is None:
            raise NotFound("This store has no credential.", code="credential_not_found")
        sealed = Sealed(row.key_id, row.wrapped_key, row.sealed)
        fields = json.loads(unseal(self._keyring, sealed, context=_context(store_id, row.version, owner)))
        return row.version, {name: Secret(value) for name, value in fields.items()}

    async def list_unknown_keys(self) -> list[str]:
        """Key ids that credentials name and the key ring lacks: nothing of theirs can be opened."""
        async with self._database.platform() as uow:
            return await repository.list_unknown_keys(uow, self._keyring.ids)


def _context(store_id: UUID, version: int, owner: UUID | None) -> SealContext:
    return SealContext("platform" if owner is None else str(owner), "credentials", "sealed", str(store_id), version)
