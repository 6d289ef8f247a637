"""A store's credential and place: does it work with another one, who manages its keys, and is it somewhere else now."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from simples3dms.context import Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.identity.service import require_operator
from simples3dms.kit.secret import Secret
from simples3dms.providers.errors import ProviderError
from simples3dms.providers.keys import KeyManagement
from simples3dms.providers.registry import get_kind
from simples3dms.storage.credentials.service import Credentials
from simples3dms.storage.stores import errors, moving, repository
from simples3dms.storage.stores.errors import explain
from simples3dms.storage.stores.service import Stores, _checked_fields, _record, _settle
from simples3dms.storage.stores.values import Sample, Store


class StoreAccess:
    """Of all stores: what rotations ask, and the change of a store's place."""

    def __init__(self, database: Database, credentials: Credentials, stores: Stores) -> None:
        self._database = database
        self._credentials = credentials
        self._stores = stores
        self._pool = stores._pool  # the slice's own

    async def get_store(self, name: str) -> Store:
        """Raises NotFound (`store_not_found`)."""
        return await self._stores.get_store(name)

    def expire(self, store_id: UUID) -> None:
        """Look for a newer credential at the next use."""
        self._stores.expire(store_id)

    async def prove(self, store: Store, fields: Mapping[str, str]) -> None:
        """See that a store works with this credential: by its probe, outside any transaction.

        Raises Invalid (`store_probe_failed`) for what it did not fail before, and what `explain` makes of its errors.
        """
        probe = await self._stores._probe(store.kind, store.settings, fields, store.tuning)
        if probe.verdict == "red" and store.probe_verdict != "red":
            raise errors.probe_failed(probe.findings)

    async def key_management(
        self, store: Store, signing: Mapping[str, str], own: Mapping[str, str]
    ) -> KeyManagement | None:
        """The provider's API for the store's keys, if there is one; the caller closes it."""
        kind = await asyncio.to_thread(get_kind, store.kind)
        if kind.manage_keys is None:
            return None
        options = await self._pool.options(store.kind, store.settings, store.tuning)
        forms = (kind.validate_credential(signing), kind.validate_credential(own))
        return kind.manage_keys(kind.validate_settings(store.settings), *forms, options)

    def checked_credential(self, store: Store, credential: Mapping[str, Secret | str]) -> dict[str, str]:
        """The credential as it is sealed. Raises Invalid (`credential_invalid`)."""
        return _checked_fields(get_kind(store.kind), credential)

    def key_id_of(self, store: Store, fields: Mapping[str, str]) -> str | None:
        """What the provider calls the key of a credential, where the kind says which field that is."""
        named = get_kind(store.kind).key_id_field
        return None if named is None else fields.get(named)

    async def set_place(
        self, principal: Principal, name: str, settings: Mapping[str, Any], credential: Mapping[str, Secret | str]
    ) -> Store:
        """Change where a store is. The whole credential comes with it: a saved one never goes to a new place.

        For operators. Probed there first, and known again by some of the copies that it holds. Raises as `add_store`
        does, and Conflict (`store_place_differs`, `rotation_under_way`), NotFound (`store_not_found`).
        """
        require_operator(principal)
        store = await self.get_store(name)
        chosen = get_kind(store.kind)
        clean = chosen.validate_settings(settings).model_dump(mode="json", exclude_none=True)
        fields = _checked_fields(chosen, credential)
        probe = await self._stores._probe(store.kind, clean, fields, store.tuning)
        if probe.verdict == "red":
            raise errors.probe_failed(probe.findings)
        clean |= await _settle(chosen, clean)
        async with self._database.platform() as uow:
            samples = await repository.list_samples(uow, store.id, of_each=moving.OF_EACH, limit=moving.MOST)
        await self._check_holds(store, clean, fields, samples)

        async def first(uow: UnitOfWork) -> None:
            await repository.lock_places(uow)
            moving.check_free(store, clean, await repository.list_of_kind(uow, store.kind))

        async def then(uow: UnitOfWork, version: int) -> None:
            await repository.set_settings(uow, store.id, clean)
            await repository.save_probe(uow, store.id, probe.verdict, probe.findings)
            await _record(uow, principal, "store.moved", store, settings=clean, version=version)

        await self._credentials.replace(store.id, fields, then, first=first)
        self._pool.expire(store.id)
        return await self.get_store(str(store.id))

    async def _check_holds(
        self, store: Store, settings: Mapping[str, Any], fields: Mapping[str, str], samples: list[Sample]
    ) -> None:
        try:
            provider = await self._pool.build(store.kind, settings, fields, store.tuning)
            try:
                await moving.check_holds(provider, samples)
            finally:
                await provider.close()
        except ProviderError as error:
            raise explain(error, typed_in=True) from error
