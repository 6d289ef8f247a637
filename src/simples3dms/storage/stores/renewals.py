"""What the rotation of credentials asks of stores: does a new one work, who makes keys there, what is a key called."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from uuid import UUID

from simples3dms.kit.secret import Secret
from simples3dms.providers.errors import ProviderError
from simples3dms.providers.keys import KeyManagement
from simples3dms.providers.probe import run_probe
from simples3dms.providers.registry import get_kind
from simples3dms.storage.stores import errors, places
from simples3dms.storage.stores.engine import ProviderPool
from simples3dms.storage.stores.errors import explain
from simples3dms.storage.stores.forms import checked_fields
from simples3dms.storage.stores.values import Store


class Renewals:
    """The part of the stores that rotations use."""

    _pool: ProviderPool

    async def prove(self, store: Store, fields: Mapping[str, str]) -> None:
        """See that a store works with this credential: by its probe, outside any transaction.

        Raises Invalid (`store_probe_failed`) for what it did not fail before, Conflict (`store_place_taken`) where it
        finds another owner's mark, and what `explain` makes of its errors.
        """
        owner = store.owner_tenant_id
        options = await self._pool.options(store.kind, store.settings, store.tuning, owner=owner)
        try:
            provider = await self._pool.build(store.kind, store.settings, fields, store.tuning, owner=owner)
            try:
                if owner is not None and await places.is_others(provider, owner):
                    raise errors.place_taken()
                report = await run_probe(provider, options)
            finally:
                await provider.close()
        except ProviderError as error:
            raise explain(error, typed_in=True) from error
        if report.verdict == "red" and store.probe_verdict != "red":
            raise errors.probe_failed([asdict(finding) for finding in report.findings])

    async def key_management(
        self, store: Store, signing: Mapping[str, str], own: Mapping[str, str]
    ) -> KeyManagement | None:
        """The provider's API for the store's keys, if there is one; the caller closes it."""
        kind = await asyncio.to_thread(get_kind, store.kind)
        if kind.manage_keys is None:
            return None
        options = await self._pool.options(store.kind, store.settings, store.tuning, owner=store.owner_tenant_id)
        forms = (kind.validate_credential(signing), kind.validate_credential(own))
        return kind.manage_keys(kind.validate_settings(store.settings), *forms, options)

    def checked_credential(self, store: Store, credential: Mapping[str, Secret | str]) -> dict[str, str]:
        """The credential as it is sealed. Raises Invalid (`credential_invalid`)."""
        return checked_fields(get_kind(store.kind), credential)

    def key_id_of(self, store: Store, fields: Mapping[str, str]) -> str | None:
        """What the provider calls the key of a credential, where the kind says which field that is."""
        named = get_kind(store.kind).key_id_field
        return None if named is None else fields.get(named)

    def expire(self, store_id: UUID | None = None) -> None:
        """Look for a newer credential or tuning at the next use: of one store, or of all."""
        self._pool.expire(store_id)
