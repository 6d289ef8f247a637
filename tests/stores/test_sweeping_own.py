"""F51 at the sweep: where somebody else has marked the place, nothing is deleted, and nothing is forgotten."""

from __future__ import annotations

import pytest
from tests.support import make_place

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.kit.ids import new_id
from simples3dms.storage.stores import places

pytestmark = pytest.mark.anyio


async def test_f51_a_sweep_deletes_nothing_in_a_place_that_is_another_owners(services: Services) -> None:
    place = await make_place(services)
    done = await place.upload(b"mine")
    provider = await services.stores.provider(place.a_id)
    services.stores._pool._pooled[place.a_id].owner = place.tenant_id
    await provider.put(places.MARK_KEY, places.mark_of(new_id()))
    await services.documents.delete_document(HOST, place.tenant_id, done.document.id)
    await services.documents.purge_document(HOST, place.tenant_id, done.document.id)
    assert await services.blobs.sweep(place.tenant_id) == 0
    assert len(await place.listing(place.a_id)) == 1
    async with services.database.tenant(place.tenant_id) as uow:
        assert await uow.scalars("SELECT last_error FROM replicas WHERE state = 'retiring'") == ["place_taken"]
        await uow.execute("UPDATE replicas SET lease_until = now() - interval '1 hour'")
    await provider.put(places.MARK_KEY, places.mark_of(place.tenant_id))
    assert await services.blobs.sweep(place.tenant_id) == 1
    assert await place.listing(place.a_id) == []
