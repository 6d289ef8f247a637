"""Migrations through the service: the whole way, the gates, the way back, failures, and work done twice."""

from __future__ import annotations

import asyncio
import os
import random
from uuid import UUID

import pytest
from tests.support import Place, assert_clean, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.errors import Conflict, Failure, Invalid, NotFound
from simples3dms.kit.ids import new_id
from simples3dms.providers.kinds import memory
from simples3dms.storage.migrations import service

pytestmark = pytest.mark.anyio


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def _fill(place: Place, count: int = 45) -> dict[UUID, bytes]:
    bodies = {}
    for number in range(count):
        body = os.urandom(random.choice([0, 1, 500, 3000, 70_000]) if number else 5 * 1024 * 1024)
        bodies[(await place.upload(body)).document.id] = body
    return bodies


async def _ready(place: Place) -> UUID:
    migrations = place.services.migrations
    planned = await migrations.plan_migration(HOST, place.tenant_id, target=place.b)
    await migrations.start_migration(HOST, place.tenant_id, planned.id)
    await place.until(planned.id, "ready")
    return planned.id


async def _same(place: Place, bodies: dict[UUID, bytes]) -> None:
    for document_id, body in bodies.items():
        assert await place.read(document_id) == body


async def test_there_and_finalized(place: Place) -> None:
    bodies = await _fill(place)
    async with working(place.services):
        migration_id = await _ready(place)
        migrations = place.services.migrations
        assert (await migrations.cut_over(HOST, place.tenant_id, migration_id)).state == "soaking"
        assert (await place.services.placements.get_placement(place.tenant_id)).write == place.b
        bodies[(await place.upload(b"after the cut-over")).document.id] = b"after the cut-over"
        await migrations.finalize(HOST, place.tenant_id, migration_id)
        await place.until(migration_id, "done")
        await quiet(place)
    await _same(place, bodies)
    assert await place.listing(place.a_id) == []
    assert len(await place.listing(place.b_id)) == len(bodies)
    await assert_clean(place.services)


async def test_f57_rolled_back_after_writes_and_deletes(place: Place) -> None:
    bodies = await _fill(place)
    documents = place.services.documents
    async with working(place.services):
        migration_id = await _ready(place)
        await place.services.migrations.cut_over(HOST, place.tenant_id, migration_id)
        late = (await place.upload(b"late")).document.id
        bodies[late] = b"late"
        gone = next(iter(bodies))
        await documents.delete_document(HOST, place.tenant_id, gone)
        await documents.purge_document(HOST, place.tenant_id, gone)
        del bodies[gone]
        await place.services.migrations.roll_back(HOST, place.tenant_id, migration_id)
        await _same(place, bodies)
        await place.until(migration_id, "rolled_back")
        await quiet(place)
    assert (await place.services.placements.get_placement(place.tenant_id)).write == place.a
    await _same(place, bodies)
    assert await place.listing(place.b_id) == []
    assert len(await place.listing(place.a_id)) == len(bodies)
    await assert_clean(place.services)


async def test_cut_over_happens_while_a_writer_never_stops(place: Place) -> None:
    bodies = await _fill(place, 10)
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            body = os.urandom(2000)
            bodies[(await place.upload(body)).document.id] = body

    async with working(place.services):
        writers = [asyncio.create_task(write()) for _ in range(3)]
        migration_id = await _ready(place)
        await place.services.migrations.cut_over(HOST, place.tenant_id, migration_id)
        await place.services.migrations.finalize(HOST, place.tenant_id, migration_id)
        await place.until(migration_id, "done")
        stop.set()
        await asyncio.gather(*writers)
        await quiet(place)
    await _same(place, bodies)
    assert await place.listing(place.a_id) == []
    await assert_clean(place.services)


async def test_pause_stops_and_resume_goes_on(place: Place) -> None:
    bodies = await _fill(place)
    migrations = place.services.migrations
    planned = await migrations.plan_migration(HOST, place.tenant_id, target=place.b)
    await migrations.start_migration(HOST, place.tenant_id, planned.id)
    paused = await migrations.pause_migration(HOST, place.tenant_id, planned.id)
    assert (paused.state, paused.resume_state) == ("paused", "copying")
    await place.services.migration_engine.advance(place.tenant_id, planned.id)
    await place.services.migration_engine.run_chunk(place.tenant_id, planned.id, "copy", 1)
    assert await place.listing(place.b_id) == []
    async with working(place.services):
        await migrations.resume_migration(HOST, place.tenant_id, planned.id)
        await place.until(planned.id, "ready")
    assert len(await place.listing(place.b_id)) == len(bodies)


async def _refused(code: str, failure: type[Failure], act: object) -> None:
    with pytest.raises(failure) as caught:
        await act  # type: ignore[misc]
    assert caught.value.problem_code == code


async def test_every_action_out_of_turn_is_refused(place: Place) -> None:
    await _fill(place, 3)
    m, t = place.services.migrations, place.tenant_id
    await _refused("migration_same_store", Invalid, m.plan_migration(HOST, t, target=place.a))
    await _refused("store_not_granted", Invalid, m.plan_migration(HOST, t, target="nowhere"))
    planned = await m.plan_migration(HOST, t, target=place.b)
    await _refused("migration_active", Conflict, m.plan_migration(HOST, t, target=place.b))
    await _refused("migration_wrong_state", Conflict, m.cut_over(HOST, t, planned.id))
    await _refused("migration_wrong_state", Conflict, m.finalize(HOST, t, planned.id))
    await _refused("migration_wrong_state", Conflict, m.roll_back(HOST, t, planned.id))
    await m.start_migration(HOST, t, planned.id)
    await _refused("migration_wrong_state", Conflict, m.start_migration(HOST, t, planned.id))
    await _refused("migration_not_ready", Conflict, m.cut_over(HOST, t, planned.id))
    await _refused("migration_active", Conflict, place.services.placements.set_placement(HOST, t, write=place.a))
    async with working(place.services):
        await place.until(planned.id, "ready")
    await m.cut_over(HOST, t, planned.id)
    await _refused("migration_already_cut_over", Conflict, m.cut_over(HOST, t, planned.id))
    before = await place.services.placements.get_placement(t)
    assert before.write == place.b


async def test_f56_twenty_cut_overs_at_once_turn_once(place: Place) -> None:
    await _fill(place, 5)
    async with working(place.services):
        migration_id = await _ready(place)
        version = (await place.services.placements.get_placement(place.tenant_id)).version
        outcomes = await asyncio.gather(
            *(place.services.migrations.cut_over(HOST, place.tenant_id, migration_id) for _ in range(20)),
            return_exceptions=True,
        )
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 1
    codes = {outcome.problem_code for outcome in outcomes if isinstance(outcome, Failure)}
    assert codes == {"migration_already_cut_over"}
    assert (await place.services.placements.get_placement(place.tenant_id)).version == version + 1


async def test_f58_no_migration_leads_to_its_own_source_or_against_another(place: Place) -> None:
    bodies = await _fill(place, 3)
    m, t = place.services.migrations, place.tenant_id
    for name in (place.a, place.b):
        await _refused("migration_same_store", Invalid, m.plan_migration(HOST, t, source=name, target=name))
    assert await m.list_migrations(t) == []
    async with working(place.services):
        migration_id = await _ready(place)
        # Until the cut-over nothing is written to b, so nothing can be led away from there.
        back = m.plan_migration(HOST, t, source=place.b, target=place.a)
        await _refused("migration_source_not_in_use", Invalid, back)
        await m.cut_over(HOST, t, migration_id)
        await _refused("migration_same_store", Invalid, m.plan_migration(HOST, t, target=place.b))
        # From the cut-over on b is the write target: only the migration that has not ended stands in the way.
        await _refused("migration_active", Conflict, m.plan_migration(HOST, t, target=place.a))
        assert [row.id for row in await m.list_migrations(t)] == [migration_id]
        assert (await place.services.placements.get_placement(t)).write == place.b
        await m.finalize(HOST, t, migration_id)
        await place.until(migration_id, "done")
        assert (await m.plan_migration(HOST, t, target=place.a)).state == "planned"
    await _same(place, bodies)


async def test_mode_4_a_copy_lost_after_the_proof_stops_the_cut_over_until_it_is_mended(place: Place) -> None:
    bodies = await _fill(place, 5)
    async with working(place.services):
        migration_id = await _ready(place)
    victim = next(iter(bodies))
    engine = place.services.blobs
    async with place.services.database.tenant(place.tenant_id) as uow:
        from simples3dms.documents import repository as documents_repository
        from simples3dms.storage.blobs import repository as blobs_repository

        blob = await documents_repository.find_version_blob(uow, victim, 1)
        assert blob is not None
        at_b = [r for r in await blobs_repository.list_replicas(uow, [blob.id]) if r.store_id == place.b_id]
    provider = await place.services.stores.provider(place.b_id)
    from simples3dms.providers.errors import ObjectNotFound

    await provider.discard(at_b[0].key)
    await engine.report_bad(place.tenant_id, at_b[0], ObjectNotFound("gone"))
    # No worker runs, so nothing can mend it: the cut-over has to refuse, and to change nothing.
    before = await place.services.placements.get_placement(place.tenant_id)
    await _refused(
        "migration_not_proven", Conflict, place.services.migrations.cut_over(HOST, place.tenant_id, migration_id)
    )
    after = await place.services.placements.get_placement(place.tenant_id)
    assert (after.write, after.version) == (before.write, before.version)
    async with working(place.services):
        await place.until(migration_id, "ready")
        await place.services.migrations.cut_over(HOST, place.tenant_id, migration_id)
    await _same(place, bodies)


async def test_failed_items_are_listed_and_retried(place: Place) -> None:
    bodies = await _fill(place, 8)
    good = await place.listing(place.a_id)
    shelf = memory._shelves[place.a]
    key = good[3].key
    original = shelf.objects[key]
    shelf.objects[key] = [memory._Stored(b"?" * stored.info.size_bytes + b"!", stored.info) for stored in original]
    migrations = place.services.migrations
    async with working(place.services):
        planned = await migrations.plan_migration(HOST, place.tenant_id, target=place.b)
        await migrations.start_migration(HOST, place.tenant_id, planned.id)
        async with asyncio.timeout(60):
            while not (failures := await migrations.failures.list_page(place.tenant_id, planned.id)):
                await asyncio.sleep(0.1)
        assert (await place.migration(planned.id)).state == "copying"
        assert failures[0].error_kind == "integrity"
        assert failures[0].document_id in bodies
        await _refused("migration_not_ready", Conflict, migrations.cut_over(HOST, place.tenant_id, planned.id))
        shelf.objects[key] = original
        # The copy to the target, and the repair of the replica that turned out bad.
        assert await migrations.failures.retry(HOST, place.tenant_id, planned.id) in (1, 2)
        await place.until(planned.id, "ready")
        await migrations.cut_over(HOST, place.tenant_id, planned.id)
        await migrations.finalize(HOST, place.tenant_id, planned.id)
        await place.until(planned.id, "done")
        await quiet(place)
    await _same(place, bodies)
    assert await place.listing(place.a_id) == []
    await assert_clean(place.services)


@pytest.mark.parametrize("ending", ["finalize", "roll_back"])
async def test_i6_an_item_is_left_behind_only_by_name_and_stays_readable(place: Place, ending: str) -> None:
    """Its one copy can't be read now: the migration waits, goes on once it is waived, and never touches that copy."""
    bodies = await _fill(place, 8)
    good = await place.listing(place.a_id)
    shelf = memory._shelves[place.a]
    key = good[3].key
    original = shelf.objects[key]
    shelf.objects[key] = [memory._Stored(b"?" * stored.info.size_bytes + b"!", stored.info) for stored in original]
    migrations = place.services.migrations

    async def waive(*items: UUID, reason: str = "lost before, see case 7") -> int:
        return await migrations.failures.waive(HOST, place.tenant_id, planned.id, items, reason=reason)

    async with working(place.services):
        planned = await migrations.plan_migration(HOST, place.tenant_id, target=place.b)
        await migrations.start_migration(HOST, place.tenant_id, planned.id)
        async with asyncio.timeout(60):
            while len(failures := await migrations.failures.list_page(place.tenant_id, planned.id)) < 2:
                await asyncio.sleep(0.1)
        named = [one.id for one in failures]
        await _refused("failure_not_found", NotFound, waive(*named, new_id()))
        await _refused("waiver_reason_invalid", Invalid, waive(*named, reason=" "))
        assert {one.state for one in await migrations.failures.list_page(place.tenant_id, planned.id)} == {"failed"}
        assert await waive(*named) == len(named)
        await place.until(planned.id, "ready")
        shown = await place.migration(planned.id)
        assert (shown.failed_count, shown.waived_count) == (0, 1)
        told = await migrations.failures.list_page(place.tenant_id, planned.id)
        assert {(one.state, one.waived_reason) for one in told} == {("waived", "lost before, see case 7")}
        await migrations.cut_over(HOST, place.tenant_id, planned.id)
        shelf.objects[key] = original
        await _same(place, bodies)
        await getattr(migrations, ending)(HOST, place.tenant_id, planned.id)
        await place.until(planned.id, "done" if ending == "finalize" else "rolled_back")
        await _refused("migration_wrong_state", Conflict, waive(*named))
        await quiet(place)
    await _same(place, bodies)
    left = [info.key for info in await place.listing(place.a_id)]
    assert left == [key] if ending == "finalize" else len(left) == len(bodies)
    # It is tried anew with the next migration to the same store.
    if ending == "roll_back":
        async with working(place.services):
            again = await _ready(place)
            await migrations.cut_over(HOST, place.tenant_id, again)
            await migrations.finalize(HOST, place.tenant_id, again)
            await place.until(again, "done")
            await quiet(place)
        assert await place.listing(place.a_id) == []
        await assert_clean(place.services)
    else:
        # Its bytes were in doubt when they were left behind, and nobody has compared them since.
        found = (await place.services.upkeep.fsck()).findings
        assert [one.kind for one in found] == ["version_without_replica"]


async def _owed(place: Place) -> int:
    async with place.services.database.tenant(place.tenant_id) as uow:
        return int(await uow.scalar("SELECT count(*) FROM transfers"))


async def test_a_waiver_is_taken_back_by_name(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = await _fill(place, 3)
    shelf = memory._shelves[place.a]
    key = (await place.listing(place.a_id))[1].key
    original = shelf.objects.pop(key)
    migrations = place.services.migrations
    async with working(place.services):
        planned = await migrations.plan_migration(HOST, place.tenant_id, target=place.b)
        await migrations.start_migration(HOST, place.tenant_id, planned.id)
        async with asyncio.timeout(60):
            while len(failures := await migrations.failures.list_page(place.tenant_id, planned.id)) < 2:
                await asyncio.sleep(0.1)
        named = [one.id for one in failures]
        await migrations.failures.waive(HOST, place.tenant_id, planned.id, named, reason="gone")
        await place.until(planned.id, "ready")
        assert await migrations.failures.retry(HOST, place.tenant_id, planned.id) == 0
        assert await migrations.failures.retry(HOST, place.tenant_id, planned.id, named) == len(named)
        monkeypatch.setattr(service, "_CUT_OVER_TRIES", 3)
        await _refused("migration_not_proven", Conflict, migrations.cut_over(HOST, place.tenant_id, planned.id))
        shelf.objects[key] = original
        monkeypatch.undo()
        async with asyncio.timeout(60):
            while await migrations.failures.list_page(place.tenant_id, planned.id) or await _owed(place):
                await migrations.failures.retry(HOST, place.tenant_id, planned.id)
                await asyncio.sleep(0.1)
        await place.until(planned.id, "ready")
        await migrations.cut_over(HOST, place.tenant_id, planned.id)
        await migrations.finalize(HOST, place.tenant_id, planned.id)
        await place.until(planned.id, "done")
        await quiet(place)
    await _same(place, bodies)
    assert await place.listing(place.a_id) == []
    await assert_clean(place.services)


async def test_f37_chunks_run_many_times_at_once_change_nothing_more(place: Place) -> None:
    bodies = await _fill(place, 30)
    s = place.services
    planned = await s.migrations.plan_migration(HOST, place.tenant_id, target=place.b)
    await s.migrations.start_migration(HOST, place.tenant_id, planned.id)
    await s.migration_engine.advance(place.tenant_id, planned.id)
    async with s.database.tenant(place.tenant_id) as uow:
        lows = await uow.scalars("SELECT low_seq FROM migration_chunks WHERE migration_id = %s", [planned.id])
    await asyncio.gather(
        *(s.migration_engine.run_chunk(place.tenant_id, planned.id, "copy", low) for low in lows for _ in range(4))
    )
    await s.migration_engine.advance(place.tenant_id, planned.id)
    assert (await place.migration(planned.id)).state == "ready"
    assert len(await place.listing(place.b_id)) == len(bodies)
    await assert_clean(s)


async def test_f08_a_zombie_writer_changes_nothing(place: Place) -> None:
    """A copy whose lease ran out is given up; when its writer wakes up, its word no longer counts."""
    from simples3dms.storage.blobs import repository as blobs_repository
    from simples3dms.storage.blobs.service import new_ticket
    from simples3dms.storage.blobs.values import Written
    from simples3dms.storage.placement import repository as placement_repository

    s = place.services
    result = await place.upload(b"body")
    async with s.database.tenant(place.tenant_id) as uow:
        blob_id = await uow.scalar("SELECT blob_id FROM versions WHERE document_id = %s", [result.document.id])
        grant = next(g for g in await placement_repository.list_grants(uow) if g.store_id == place.b_id)
        ticket = new_ticket(grant)
        await blobs_repository.insert_writing(uow, [(ticket, blob_id)], lease_seconds=-1)
    provider = await s.stores.provider(place.b_id)
    await provider.put(ticket.key, b"body")
    await s.blobs.sweep(place.tenant_id)
    async with s.database.tenant(place.tenant_id) as uow:
        live = await blobs_repository.confirm_copies(uow, [Written(ticket, None, b"\0" * 32, 4)])
    assert live == set()
    async with working(s):
        await quiet(place)
    assert await place.listing(place.b_id) == []
    assert await place.read(result.document.id) == b"body"
    await assert_clean(s)


async def test_an_unreachable_target_fails_the_migration_and_resume_goes_on(place: Place) -> None:
    bodies = await _fill(place, 6)
    s = place.services
    planned = await s.migrations.plan_migration(HOST, place.tenant_id, target=place.b)
    await s.migrations.start_migration(HOST, place.tenant_id, planned.id)
    provider = await s.stores.provider(place.b_id)
    from simples3dms.providers.errors import BucketMissing

    real_put = type(provider).put

    async def missing(self: object, key: str, *args: object, **kwargs: object) -> object:
        if self is provider:
            raise BucketMissing("the bucket is not there")
        return await real_put(self, key, *args, **kwargs)  # type: ignore[arg-type]

    type(provider).put = missing  # type: ignore[method-assign]
    try:
        async with working(s):
            failed = await place.until(planned.id, "failed")
    finally:
        type(provider).put = real_put  # type: ignore[method-assign]
    assert failed.error_code == "bucket_missing"
    assert failed.resume_state == "copying"
    async with working(s):
        await s.migrations.resume_migration(HOST, place.tenant_id, planned.id)
        await place.until(planned.id, "ready")
        await quiet(place)
    await _same(place, bodies)
    await assert_clean(s)


async def test_rolling_back_leaves_the_copies_that_there_were_before(place: Place) -> None:
    """The target held the tenant's second copies already: it goes on holding them."""
    s = place.services
    await s.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b])
    async with working(s):
        bodies = await _fill(place, 5)
        await quiet(place)
        before = {info.key for info in await place.listing(place.b_id)}
        assert len(before) == 5
        planned = await s.migrations.plan_migration(HOST, place.tenant_id, target=place.b)
        await s.migrations.start_migration(HOST, place.tenant_id, planned.id)
        await place.until(planned.id, "ready")
        await s.migrations.cut_over(HOST, place.tenant_id, planned.id)
        bodies |= await _fill(place, 2)
        await s.migrations.roll_back(HOST, place.tenant_id, planned.id)
        await place.until(planned.id, "rolled_back")
        await quiet(place)
    placement = await s.placements.get_placement(place.tenant_id)
    assert (placement.write, placement.copies) == (place.a, (place.b,))
    assert before <= {info.key for info in await place.listing(place.b_id)}
    assert len(await place.listing(place.a_id)) == len(await place.listing(place.b_id)) == 7
    await _same(place, bodies)
    await assert_clean(s)
