"""How long a move would take: told from work that was done, by all workers together, or not told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.storage.test_plans import holds, planned
from tests.support import Place, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST, Principal
from simples3dms.storage.migrations.pace import Limits, Run, Stretch, floor_seconds, pace_of, stretches
from simples3dms.storage.prices.values import Load

_MIB = 2**20
FREE = Limits()
SOMEBODY = Principal(id=None, name="a member")


def test_what_workers_did_side_by_side_is_done_in_the_time_of_one() -> None:
    assert stretches([Run(0, 10, 100, 1000), Run(0, 10, 300, 3000)]) == [Stretch(10, 400, 4000)]
    assert stretches([Run(0, 4, 1, 1), Run(100, 110, 5, 5)]) == [Stretch(4, 1, 1), Stretch(10, 5, 5)]
    assert stretches([]) == []


runs_of = st.lists(
    st.builds(
        lambda begun, took, count, size: Run(begun, begun + took, count, size),
        st.floats(0, 1e5),
        st.floats(0.01, 1e4),
        st.integers(1, 500),
        st.integers(0, 2**32),
    ),
    min_size=1,
    max_size=40,
)


@given(runs_of)
def test_stretches_hold_all_the_work_and_no_idle_time(runs: list[Run]) -> None:
    found = stretches(runs)
    busy, reached = 0.0, float("-inf")
    for run in sorted(runs, key=lambda run: run.begun):
        busy += max(0.0, run.ended - max(run.begun, reached))
        reached = max(reached, run.ended)
    assert sum(one.seconds for one in found) == pytest.approx(busy, abs=0.01)
    # What falls into a last millisecond is left out: a tenth of the shortest run.
    assert sum(one.count for one in found) == pytest.approx(sum(run.count for run in runs), rel=0.11)


def test_the_range_reaches_from_the_fastest_to_the_slowest() -> None:
    measured = [Stretch(10, 100, 1000), Stretch(20, 100, 1000)]
    pace = pace_of(Load(1000, 10_000), measured, basis="to_store", floor=0)
    assert (pace.least_seconds, pace.most_seconds, pace.basis) == (100, 200, "to_store")
    # Ten times the bytes in the same number of objects: told from either, and so between both.
    pace = pace_of(Load(100, 10_000), measured[:1], basis="to_store", floor=0)
    assert (pace.least_seconds, pace.most_seconds) == (10, 100)
    assert pace_of(Load(0, 0), [], basis="to_store", floor=0).most_seconds == 0


@given(runs_of, st.integers(1, 10**9), st.integers(1, 2**50), st.floats(0, 1e9))
def test_no_estimate_is_below_what_the_stores_may_be_asked_for(
    runs: list[Run], count: int, size_bytes: int, floor: float
) -> None:
    pace = pace_of(Load(count, size_bytes), stretches(runs), basis="to_store", floor=floor)
    assert pace.least_seconds is not None
    assert pace.most_seconds is not None
    assert floor <= pace.least_seconds <= pace.most_seconds


def test_limits_bound_the_time_where_nothing_was_measured() -> None:
    load = Load(1000, 100 * _MIB)
    slow = Limits(requests=20, size_bytes=_MIB)
    assert floor_seconds(load, source=slow, target=FREE, part_bytes=None) == 100
    assert floor_seconds(load, source=FREE, target=slow, part_bytes=None) == 200, "written, and read back"
    calls = Limits(requests=5)
    assert floor_seconds(load, source=FREE, target=calls, part_bytes=None) == 400
    assert floor_seconds(load, source=FREE, target=FREE, part_bytes=None) == 0
    known = pace_of(load, [], basis="to_store", floor=200)
    assert (known.least_seconds, known.most_seconds, known.basis) == (200, None, "none")
    unknown = pace_of(load, [], basis="to_store", floor=0)
    assert (unknown.least_seconds, unknown.most_seconds) == (None, None)


@pytest.mark.anyio
async def test_a_plan_tells_the_time_from_moves_that_were_made(services: Services) -> None:
    one, other = await make_place(services), await make_place(services)
    await services.stores.grant_store(HOST, other.tenant_id, one.b)
    for number in range(3):
        await one.upload(bytes(100_000 + number))
    await holds(other, None, 3000, 300_000_000)
    first = (await planned(one)).time
    assert first == {"least_seconds": None, "most_seconds": None, "basis": "none"}
    await moved(one)
    async with services.database.tenant(one.tenant_id) as uow:
        # As though it had taken a minute to the dot.
        await uow.execute("UPDATE migration_chunks SET started_at = done_at - interval '60 seconds'")
        assert await uow.scalar("SELECT sum(copied_bytes) FROM migration_chunks WHERE phase = 'copy'") == 300_003
    plan = services.migrations.plan_migration
    made = await plan(HOST, other.tenant_id, target=one.b)
    assert made.plan.time is not None
    assert made.plan.time["basis"] == "to_store"
    assert made.plan.time["least_seconds"] == pytest.approx(60_000, rel=0.001)
    assert made.plan.time["most_seconds"] == pytest.approx(60_000, rel=0.001)
    await services.migrations.cancel_migration(HOST, other.tenant_id, made.id)
    theirs = await plan(SOMEBODY, other.tenant_id, target=one.b)
    assert theirs.plan.time == first, "what another tenant moved is told to operators only"
    again = await services.migrations.plan_migration(SOMEBODY, one.tenant_id, target=one.a)
    assert again.plan.time == first, "another direction"


async def moved(place: Place) -> None:
    migrations = place.services.migrations
    async with working(place.services):
        migration = await migrations.plan_migration(HOST, place.tenant_id, target=place.b)
        await migrations.start_migration(HOST, place.tenant_id, migration.id)
        await place.until(migration.id, "ready")
        await migrations.cut_over(HOST, place.tenant_id, migration.id)
        await migrations.finalize(HOST, place.tenant_id, migration.id)
        await place.until(migration.id, "done")
        await quiet(place)


@pytest.mark.anyio
async def test_what_a_store_may_be_asked_for_bounds_the_plan(services: Services) -> None:
    place = await make_place(services)
    await holds(place, None, 10, 2_000_000)
    await services.stores.set_tuning(HOST, place.b, {"bytes_per_second": 4000})
    time = (await planned(place)).time
    assert time == {"least_seconds": 1000.0, "most_seconds": None, "basis": "none"}
