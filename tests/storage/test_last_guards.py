"""What stands between a fault and a loss when nothing else does: tests/mutants takes each away, and these must fail."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from tests.support import Place, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.providers.errors import IntegrityError
from simples3dms.providers.kinds import memory
from simples3dms.providers.kinds.memory import MemoryProvider
from simples3dms.storage.blobs import removing
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


async def test_what_lost_its_reason_while_others_were_removed_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other copy of the second turns out bad while the store is busy with the first."""
    services, asked, go = place.services, [], asyncio.Event()
    await services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b])
    documents = [(await place.upload(body)).document.id for body in (b"one", b"two")]
    async with working(services):
        await quiet(place)
    async with services.database.tenant(place.tenant_id) as uow:
        blob_ids = await uow.scalars("SELECT id FROM blobs")
        await blobs_repository.retire_at(uow, blob_ids, store_id=place.a_id)
        doomed = await blobs_repository.claim_retiring(uow, limit=10, lease_seconds=60)
        assert [item.allowed for item in doomed] == [True, True]
    real_discard, real_recheck, rechecks = MemoryProvider.discard, blobs_repository.recheck, []

    async def discard(self: MemoryProvider, key: str) -> None:
        asked.append(key)
        await go.wait()
        await real_discard(self, key)

    async def recheck(*args: Any, **named: Any) -> set[UUID]:
        permitted = await real_recheck(*args, **named)
        rechecks.append(permitted)
        return permitted

    monkeypatch.setattr(removing, "_PARALLEL", 1)
    monkeypatch.setattr(MemoryProvider, "discard", discard)
    monkeypatch.setattr(blobs_repository, "recheck", recheck)
    removal = asyncio.create_task(services.blobs.removals.remove(place.tenant_id, doomed))
    async with asyncio.timeout(30):
        while not asked:
            await asyncio.sleep(0.02)
        second = next(item for item in doomed if item.key != asked[0])
        copies = await services.documents.list_replicas(place.tenant_id, documents[0])
        assert {one.state for one in copies} == {"live", "retiring"}
        async with services.database.tenant(place.tenant_id) as uow:
            found = await blobs_repository.list_replicas(uow, [second.blob_id])
        (other,) = [one for one in found if one.state == "live"]
        await services.blobs.report_bad(place.tenant_id, other, IntegrityError("other bytes", key=other.key))
        while second.id in rechecks[-1]:
            await asyncio.sleep(0.02)
    go.set()
    assert await removal == 1
    assert len(asked) == 1
    assert [info.key for info in await place.listing(place.a_id)] == [second.key]
