"""Replicas that a store once said were wrong or gone: still read, copied anew, and never taken for proof."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from tests.support import Place, assert_clean, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.errors import Failure
from simples3dms.providers.errors import IntegrityError, ObjectNotFound, StoreUnavailable
from simples3dms.providers.kinds import memory
from simples3dms.storage.blobs import repository as blobs_repository

pytestmark = pytest.mark.anyio
LARGE = bytes(range(256)) * 8192


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def states(place: Place) -> dict[str, str]:
    """State by store of all replicas of the tenant."""
    names = {place.a_id: "a", place.b_id: "b"}
    async with place.services.database.tenant(place.tenant_id) as uow, uow.connection.cursor() as cursor:
        await cursor.execute("SELECT store_id, state FROM replicas ORDER BY created_at")
        return {names[store]: state for store, state in await cursor.fetchall()}


async def blob_of(place: Place, document_id: UUID) -> UUID:
    async with place.services.database.tenant(place.tenant_id) as uow:
        found: UUID = await uow.scalar("SELECT blob_id FROM versions WHERE document_id = %s", [document_id])
        return found


@pytest.mark.parametrize("body", [b"small", LARGE], ids=["small", "large"])
async def test_one_spurious_not_found_does_not_make_a_document_unreadable(place: Place, body: bytes) -> None:
    document = (await place.upload(body)).document.id
    shelf = memory._shelves[place.a]
    away, shelf.objects = shelf.objects, {}
    with pytest.raises(Failure) as caught:
        await place.read(document)
    assert caught.value.problem_code == "no_readable_replica"
    assert await states(place) == {"a": "missing"}
    shelf.objects = away
    assert await place.read(document) == body
    async with working(place.services):
        async with asyncio.timeout(20):
            while await states(place) != {"a": "live"}:
                await asyncio.sleep(0.05)
        await quiet(place)
    # Copied anew from the very replica that was taken for missing, which is gone now.
    assert await states(place) == {"a": "live"}
    assert await place.read(document) == body
    await assert_clean(place.services)


async def test_a_doubtful_replica_where_none_is_wanted_any_more_is_copied_to_the_write_store(place: Place) -> None:
    document = (await place.upload(b"body")).document.id
    await place.services.placements.set_placement(HOST, place.tenant_id, write=place.b)
    async with place.services.database.tenant(place.tenant_id) as uow:
        (replica,) = await blobs_repository.list_replicas(uow, [await blob_of(place, document)])
    await place.services.blobs.report_bad(place.tenant_id, replica, IntegrityError("wrong bytes"))
    async with working(place.services):
        async with asyncio.timeout(20):
            while await states(place) != {"b": "live"}:
                await asyncio.sleep(0.05)
        await quiet(place)
    assert await place.read(document) == b"body"
    await assert_clean(place.services)


async def test_f38_a_repair_whose_job_is_lost_is_found_by_the_watchdog(place: Place) -> None:
    document = (await place.upload(b"body")).document.id
    async with place.services.database.tenant(place.tenant_id) as uow:
        (replica,) = await blobs_repository.list_replicas(uow, [await blob_of(place, document)])
        # As report_bad does, but for the job: the process died in between.
        await blobs_repository.mark_lost(uow, replica.id, state="suspect", error="integrity")
    async with working(place.services):
        async with asyncio.timeout(20):
            while await states(place) != {"a": "live"}:
                await asyncio.sleep(0.05)
        await quiet(place)
    assert await place.read(document) == b"body"


async def test_a_range_of_a_large_suspect_replica_is_not_served(place: Place) -> None:
    """Nobody could compare those bytes; all of it can be, at its end."""
    document = (await place.upload(LARGE)).document.id
    async with place.services.database.tenant(place.tenant_id) as uow:
        (replica,) = await blobs_repository.list_replicas(uow, [await blob_of(place, document)])
        await blobs_repository.mark_lost(uow, replica.id, state="suspect", error="integrity")
    with pytest.raises(Failure):
        await place.read(document, start=5, length=10)
    assert await place.read(document) == LARGE


async def test_a_bad_replica_that_is_reprieved_stays_suspect_and_proves_nothing(place: Place) -> None:
    document = (await place.upload(b"body")).document.id
    blob_id = await blob_of(place, document)
    async with place.services.database.tenant(place.tenant_id) as uow:
        (replica,) = await blobs_repository.list_replicas(uow, [blob_id])
        await blobs_repository.record_read_back(uow, [replica.id])
        await blobs_repository.mark_lost(uow, replica.id, state="suspect", error="integrity")
        await uow.execute("UPDATE replicas SET state = 'retiring' WHERE id = %s", [replica.id])
    # Nothing else is live, so the sweep takes the retirement back.
    assert await place.services.blobs.sweep(place.tenant_id) == 0
    async with place.services.database.tenant(place.tenant_id) as uow:
        (replica,) = await blobs_repository.list_replicas(uow, [blob_id])
    assert (replica.state, replica.evidence) == ("suspect", "doubted")


async def test_a_removal_is_decided_again_right_before_the_store_is_asked(place: Place) -> None:
    """The copy that justified it turned out bad after the claim: nothing is deleted."""
    document = (await place.upload(b"body")).document.id
    blob_id = await blob_of(place, document)
    services = place.services
    await services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b])
    async with services.database.tenant(place.tenant_id) as uow:
        await services.transfers.owe_copies(uow, blob_id, [place.b_id], migration_id=None)
    async with working(services):
        async with asyncio.timeout(20):
            while (await states(place)).get("b") != "live":
                await asyncio.sleep(0.05)
    async with services.database.tenant(place.tenant_id) as uow:
        await blobs_repository.retire_at(uow, [blob_id], store_id=place.a_id)
        claimed = await blobs_repository.claim_retiring(uow, limit=10, lease_seconds=60)
        assert [item.allowed for item in claimed] == [True]
        good = next(r for r in await blobs_repository.list_replicas(uow, [blob_id]) if r.state == "live")
        await blobs_repository.mark_lost(uow, good.id, state="suspect", error="integrity")
    assert await services.blobs.removals.remove(place.tenant_id, claimed) == 0
    assert len(await place.listing(place.a_id)) == 1


async def test_a_read_that_outlives_its_replica_goes_on_with_the_one_that_came_since(place: Place) -> None:
    """Its only planned replica is moved away in the middle: the records are asked once more."""
    services = place.services
    document = (await place.upload(LARGE)).document.id
    blob_id = await blob_of(place, document)
    async with services.database.tenant(place.tenant_id) as uow:
        blob = await blobs_repository.find_blob(uow, blob_id)
        assert blob is not None
        plan = await services.blobs.plan_read(uow, blob)
    await services.placements.set_placement(HOST, place.tenant_id, write=place.b)
    async with services.database.tenant(place.tenant_id) as uow:
        await services.transfers.owe_copies(uow, blob_id, [place.b_id], migration_id=None)
    async with working(services):
        async with asyncio.timeout(20):
            while (await states(place)).get("b") != "live":
                await asyncio.sleep(0.05)
        async with services.database.tenant(place.tenant_id) as uow:
            await blobs_repository.retire_at(uow, [blob_id], store_id=place.a_id)
        await services.blobs.sweep(place.tenant_id)
        assert await place.listing(place.a_id) == []
        async with services.blobs.open(plan) as reading:
            assert b"".join([chunk async for chunk in reading]) == LARGE


async def test_a_store_that_is_down_for_long_still_gets_its_copies(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many attempts that takes: the outage says nothing of the documents."""
    services = place.services
    await services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b])
    monkeypatch.setattr(services.transfers, "_attempts", 2)
    monkeypatch.setattr(services.transfers, "_retry_base_seconds", 0.05)
    provider = await services.stores.provider(place.b_id)
    real, refused = provider.put, 0

    async def refuse(*_: object, **__: object) -> object:
        nonlocal refused
        refused += 1
        raise StoreUnavailable("down")

    monkeypatch.setattr(provider, "put", refuse)
    await place.upload(b"body")
    async with working(services):
        async with asyncio.timeout(30):
            while refused < 4:
                await asyncio.sleep(0.05)
        monkeypatch.setattr(provider, "put", real)
        async with asyncio.timeout(30):
            while await states(place) != {"a": "live", "b": "live"}:
                await asyncio.sleep(0.05)
        await quiet(place)
    await assert_clean(services)


async def test_a_write_whose_claim_was_lost_leaves_no_object_behind(place: Place) -> None:
    """The row is expired and forgotten while the writer sleeps; its object lands afterwards, and it sees to it."""
    services = place.services
    await place.upload(b"first")
    blobs = services.blobs

    async def forget_then_finish(*args, **kwargs):  # type: ignore[no-untyped-def]
        written = await write(*args, **kwargs)
        async with services.database.tenant(place.tenant_id) as uow:
            await uow.execute("DELETE FROM replicas WHERE id = %s", [written.ticket.replica_id])
        return written

    write, blobs.write = blobs.write, forget_then_finish  # type: ignore[method-assign]
    try:
        with pytest.raises(Failure) as caught:
            await place.upload(b"second")
    finally:
        del blobs.write
    assert caught.value.problem_code == "lease_lost"
    assert caught.value.retryable
    assert len(await place.listing(place.a_id)) == 1
    await assert_clean(services)


async def test_a_missing_replica_is_reported_by_what_the_store_said(place: Place) -> None:
    document = (await place.upload(b"body")).document.id
    async with place.services.database.tenant(place.tenant_id) as uow:
        (replica,) = await blobs_repository.list_replicas(uow, [await blob_of(place, document)])
    await place.services.blobs.report_bad(place.tenant_id, replica, ObjectNotFound("gone"))
    assert await states(place) == {"a": "missing"}
