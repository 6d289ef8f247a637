"""What stands between a fault and a loss when nothing else does: tests/mutants takes each away, and these must fail."""

from __future__ import annotations

import asyncio

import pytest
from tests.support import Place, make_place, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.providers.kinds import memory
from simples3dms.storage.blobs import repository as blobs_repository

pytestmark = pytest.mark.anyio


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def test_bytes_of_the_right_length_that_are_wrong_never_become_a_copy(place: Place) -> None:
    await place.upload(b"as it was sent")
    (good,) = await place.listing(place.a_id)
    shelf = memory._shelves[place.a]
    shelf.objects[good.key] = [
        memory._Stored(b"?" * len(stored.data), stored.info) for stored in shelf.objects[good.key]
    ]
    migrations = place.services.migrations
    async with working(place.services):
        planned = await migrations.plan_migration(HOST, place.tenant_id, target=place.b)
        await migrations.start_migration(HOST, place.tenant_id, planned.id)
        async with asyncio.timeout(30):
            while not (failures := await migrations.failures.list_page(place.tenant_id, planned.id)):
                assert (await place.migration(planned.id)).state == "copying"
                await asyncio.sleep(0.05)
    assert failures[0].error_kind == "integrity"
    async with place.services.database.tenant(place.tenant_id) as uow:
        states = await uow.scalars("SELECT state FROM replicas WHERE store_id = %s", [place.b_id])
    assert "live" not in states


async def test_a_removal_that_froze_does_not_take_what_was_taken_back_since(place: Place) -> None:
    """Its claim ran out, another worker took the retirement back: the replica counts again, and its bytes stay."""
    services = place.services
    document = (await place.upload(b"body")).document.id
    async with services.database.tenant(place.tenant_id) as uow:
        blob_id = await uow.scalar("SELECT blob_id FROM versions WHERE document_id = %s", [document])
    await services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b])
    async with services.database.tenant(place.tenant_id) as uow:
        await services.transfers.owe_copies(uow, blob_id, [place.b_id], migration_id=None)
    async with working(services), asyncio.timeout(30):
        while len(await services.documents.list_replicas(place.tenant_id, document)) < 2:
            await asyncio.sleep(0.05)
    async with services.database.tenant(place.tenant_id) as uow:
        await uow.execute("UPDATE replicas SET evidence = 'read-back'")
        await blobs_repository.retire_at(uow, [blob_id], store_id=place.b_id)
        frozen = await blobs_repository.claim_retiring(uow, limit=10, lease_seconds=60)
        assert [item.allowed for item in frozen] == [True]
    async with services.database.tenant(place.tenant_id) as uow:
        await uow.execute("UPDATE replicas SET lease_until = now() - interval '1 second' WHERE state = 'retiring'")
        await blobs_repository.reprieve(uow, await blobs_repository.claim_retiring(uow, limit=10, lease_seconds=60))
    assert await services.blobs.removals.remove(place.tenant_id, frozen) == 0
    assert len(await place.listing(place.b_id)) == 1
    replicas = await services.documents.list_replicas(place.tenant_id, document)
    assert {(one.store, one.state) for one in replicas} == {(place.a, "live"), (place.b, "live")}
