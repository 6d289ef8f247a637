"""What a migration does by itself, and when: by the database's clock, never before, and not once somebody objects."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest
from tests.support import Place, assert_clean, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.errors import Conflict, Invalid
from simples3dms.kit import failpoints
from simples3dms.providers.errors import StoreUnavailable
from simples3dms.providers.kinds import memory
from simples3dms.storage.migrations import engine
from simples3dms.storage.migrations.schedules import checked
from simples3dms.storage.migrations.values import Migration, Schedule
from simples3dms.storage.migrations.windows import DAYS

pytestmark = pytest.mark.anyio


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def begun(place: Place, schedule: Schedule, *, count: int = 5) -> UUID:
    for number in range(count):
        await place.upload(b"%d" % number)
    m = place.services.migrations
    planned = await m.plan_migration(HOST, place.tenant_id, target=place.b, schedule=schedule)
    await m.start_migration(HOST, place.tenant_id, planned.id)
    return planned.id


async def turn(place: Place, statement: str) -> None:
    """Change what only time, or a fault, would."""
    async with place.services.database.tenant(place.tenant_id) as uow:
        assert await uow.execute(statement) > 0


async def acts(place: Place) -> list[tuple[str, str]]:
    events = await place.services.audit.list_events(place.tenant_id, limit=100)
    return [(event.action, event.principal_name) for event in events]


async def _unreachable(_provider: object) -> None:
    raise StoreUnavailable("nobody answers")


async def looked(place: Place, migration_id: UUID) -> Migration:
    """After a worker has had the migration before it."""
    await place.services.migrations.advance(place.tenant_id, migration_id)
    return await place.migration(migration_id)


def closed() -> Schedule:
    """Closed now and for at least a day: open on the day after tomorrow only."""
    return checked(automatic_cutover=False, finalize_after_seconds=None, given=[_window(_today() + 2)])


def _today() -> int:
    return datetime.now(UTC).weekday()


def _window(*days: int) -> dict[str, object]:
    return {"days": [DAYS[day % 7] for day in days], "opens": "00:00", "closes": "00:00", "zone": "UTC"}


async def test_it_finalizes_by_itself_when_the_window_is_over_and_not_before(place: Place) -> None:
    async with working(place.services):
        migration_id = await begun(place, Schedule(automatic_cutover=True, finalize_after_seconds=3600))
        soaking = await place.until(migration_id, "soaking")
        assert soaking.finalize_at is not None
        assert soaking.cut_over_at is not None
        assert (soaking.finalize_at - soaking.cut_over_at).total_seconds() >= 3600
        assert (await looked(place, migration_id)).state == "soaking"
        await turn(place, "UPDATE migrations SET finalize_at = now() + interval '1 second'")
        assert (await looked(place, migration_id)).state == "soaking"
        await place.until(migration_id, "done")
        await quiet(place)
    assert await place.listing(place.a_id) == []
    assert [(action, who) for action, who in await acts(place) if action == "migration.finalizing"] == [
        ("migration.finalizing", "worker")
    ]
    await assert_clean(place.services)


async def test_a_pause_stops_the_window_and_a_resume_begins_it_anew(place: Place) -> None:
    m = place.services.migrations
    async with working(place.services):
        migration_id = await begun(place, Schedule(automatic_cutover=True, finalize_after_seconds=3600))
        await place.until(migration_id, "soaking")
        paused = await m.pause_migration(HOST, place.tenant_id, migration_id)
        assert (paused.state, paused.resume_state, paused.finalize_at) == ("paused", "soaking", None)
        assert (await looked(place, migration_id)).state == "paused"
        resumed = await m.resume_migration(HOST, place.tenant_id, migration_id)
        assert resumed.finalize_at is not None
        await turn(place, "UPDATE migrations SET finalize_at = now() - interval '1 second'")
        await place.until(migration_id, "done")


async def test_a_roll_back_stops_it(place: Place) -> None:
    m = place.services.migrations
    async with working(place.services):
        migration_id = await begun(place, Schedule(automatic_cutover=True, finalize_after_seconds=3600))
        await place.until(migration_id, "soaking")
        await m.pause_migration(HOST, place.tenant_id, migration_id)
        await m.roll_back(HOST, place.tenant_id, migration_id)
        rolled = await place.until(migration_id, "rolled_back")
        assert rolled.finalize_at is None
        await quiet(place)
    assert await place.listing(place.b_id) == []
    await assert_clean(place.services)


@pytest.mark.parametrize("fault", ["unreachable", "doubtful"])
async def test_a_check_that_fails_stops_it_until_a_person_resumes(
    place: Place, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    m = place.services.migrations
    async with working(place.services):
        migration_id = await begun(place, Schedule(automatic_cutover=True, finalize_after_seconds=3600))
        await place.until(migration_id, "soaking")
        await quiet(place)
    if fault == "unreachable":
        monkeypatch.setattr(memory.MemoryProvider, "check", _unreachable)
    else:
        await turn(place, f"UPDATE replicas SET state = 'suspect' WHERE store_id = '{place.b_id}'")
    await turn(place, "UPDATE migrations SET finalize_at = now() - interval '1 second'")
    stopped = await looked(place, migration_id)
    assert (stopped.state, stopped.resume_state) == ("failed", "soaking")
    assert stopped.error_code == "migration_finalize_stopped"
    assert len(await place.listing(place.a_id)) == 5
    resumed = await m.resume_migration(HOST, place.tenant_id, migration_id)
    assert resumed.state == "soaking"
    assert (await looked(place, migration_id)).state == "soaking"


async def test_another_window_while_it_soaks_counts_from_now(place: Place) -> None:
    m, t = place.services.migrations, place.tenant_id
    async with working(place.services):
        migration_id = await begun(place, Schedule(automatic_cutover=True))
        first = await place.until(migration_id, "soaking")
        assert first.finalize_at is None
        with pytest.raises(Conflict):
            await m.pause_migration(HOST, t, migration_id)
        await m.schedules.set_schedule(HOST, t, migration_id, Schedule(finalize_after_seconds=3600))
        second = await place.migration(migration_id)
        await m.schedules.set_schedule(HOST, t, migration_id, closed_but(3600))
        third = await place.migration(migration_id)
        assert second.finalize_at == third.finalize_at is not None
        assert len(third.windows) == 1
        await m.schedules.set_schedule(HOST, t, migration_id, Schedule(finalize_after_seconds=0))
        await place.until(migration_id, "done")
    with pytest.raises(Conflict) as caught:
        await m.schedules.set_schedule(HOST, t, migration_id, Schedule())
    assert caught.value.problem_code == "migration_wrong_state"


def closed_but(seconds: int) -> Schedule:
    return Schedule(finalize_after_seconds=seconds, windows=closed().windows)


async def test_outside_its_windows_workers_rest_and_new_documents_still_gain_copies(place: Place) -> None:
    m, t = place.services.migrations, place.tenant_id
    async with working(place.services):
        migration_id = await begun(place, closed())
        await place.upload(b"late")
        await quiet_copies(place, 1)
        resting = await looked(place, migration_id)
        assert (resting.state, resting.resting) == ("copying", True)
        assert resting.opens_at is not None
        assert (resting.opens_at.weekday() - _today()) % 7 == 2
        assert len(await place.listing(place.b_id)) == 1
        await m.schedules.set_schedule(HOST, t, migration_id, Schedule())
        ready = await place.until(migration_id, "ready")
        assert (ready.resting, ready.opens_at) == (False, None)
        # Neither the turn nor the way back waits for a window; emptying the source does.
        await m.schedules.set_schedule(HOST, t, migration_id, closed())
        await m.cut_over(HOST, t, migration_id)
        await m.roll_back(HOST, t, migration_id)
        await place.until(migration_id, "rolled_back")
    assert len(await place.listing(place.a_id)) == 6


async def test_emptying_the_source_rests_too(place: Place) -> None:
    m, t = place.services.migrations, place.tenant_id
    async with working(place.services):
        migration_id = await begun(place, Schedule(automatic_cutover=True))
        await place.until(migration_id, "soaking")
        await m.schedules.set_schedule(HOST, t, migration_id, closed())
        await m.finalize(HOST, t, migration_id)
        assert (await looked(place, migration_id)).resting
        assert len(await place.listing(place.a_id)) == 5
        await m.schedules.set_schedule(HOST, t, migration_id, Schedule())
        await place.until(migration_id, "done")
    assert await place.listing(place.a_id) == []


async def test_a_chunk_in_flight_stops_where_it_is_when_the_window_closes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_BATCH_BLOBS", 2)
    m, t = place.services.migrations, place.tenant_id
    migration_id = await begun(place, Schedule(), count=8)
    await place.services.migration_engine.advance(t, migration_id)
    failpoints.arm("copy.after_put=sleep:0.2", environment="test")
    try:
        running = asyncio.create_task(place.services.migration_engine.run_chunk(t, migration_id, "copy", 1))
        async with asyncio.timeout(20):
            while not await place.listing(place.b_id):
                await asyncio.sleep(0.01)
        await m.schedules.set_schedule(HOST, t, migration_id, closed())
        await running
    finally:
        failpoints.arm("", environment="test")
    moved = await place.migration(migration_id)
    assert 0 < moved.copied_count < 8
    assert moved.copied_count == len(await place.listing(place.b_id))
    async with working(place.services):
        await m.schedules.set_schedule(HOST, t, migration_id, Schedule())
        await place.until(migration_id, "ready")
    assert (await place.migration(migration_id)).copied_count == 8


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"finalize_after_seconds": -1, "given": []}, "migration_finalize_after_invalid"),
        ({"finalize_after_seconds": None, "given": [_window(0) | {"zone": "Mars"}]}, "migration_window_invalid"),
        ({"finalize_after_seconds": None, "given": [_window(0)] * 21}, "migration_window_invalid"),
    ],
)
def test_what_is_no_schedule_is_refused(given: dict, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        checked(automatic_cutover=False, **given)
    assert caught.value.problem_code == code


async def quiet_copies(place: Place, count: int) -> None:
    async with asyncio.timeout(30):
        while len(await place.listing(place.b_id)) < count:
            await asyncio.sleep(0.02)
