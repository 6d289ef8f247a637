"""Drains of a store over its tenants: cohorts, blockers, halts and steps back, and work done twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import Place, assert_clean, make_place, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.db.session import UnitOfWork
from simples3dms.errors import Conflict, Failure, Invalid, NotFound
from simples3dms.kit import failpoints
from simples3dms.kit.failpoints import FailPointError
from simples3dms.providers.errors import StoreBroken
from simples3dms.providers.kinds import memory
from simples3dms.storage.drains import repository as drains_repository
from simples3dms.storage.drains.values import Drain, DrainPlan, StepCounts, is_failing, position, step_of

pytestmark = pytest.mark.anyio
AT_ONCE = DrainPlan(automatic=True, finalize_after_seconds=0)


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def neighbour(place: Place, *, in_first_of: tuple[int, ...] | None = None, step: int = 0) -> Place:
    """Another tenant that writes to the same store, with a document, and with no grant of `b`; of a wanted step."""
    services = place.services
    for _ in range(200):
        tenant = await services.tenants.create_tenant(HOST, f"t-{uuid4().hex[:12]}", "Another")
        if in_first_of is None or step_of(tenant.id, in_first_of) == step:
            break
    await services.stores.grant_store(HOST, tenant.id, place.a)
    await services.placements.set_placement(HOST, tenant.id, write=place.a, copies=[], read=[])
    made = replace(place, tenant_id=tenant.id)
    await made.upload(b"bytes of " + tenant.id.bytes)
    return made


async def until(place: Place, *states: str, seconds: float = 60) -> Drain:
    async with asyncio.timeout(seconds):
        while True:
            drain = await place.services.drains.get(place.a)
            if drain.state in states:
                return drain
            await asyncio.sleep(0.05)


async def writes_to(place: Place) -> str:
    return (await place.services.placements.get_placement(place.tenant_id)).write


async def acts(services: Services) -> list[str]:
    events = await services.audit.list_events(None, limit=100, oldest_first=True)
    return [event.action for event in events if event.action.startswith("drain.")]


async def refused(code: str, failure: type[Failure], act: Any) -> None:
    with pytest.raises(failure) as caught:
        await act
    assert caught.value.problem_code == code


async def test_every_tenant_is_moved_and_the_store_takes_none_meanwhile(place: Place) -> None:
    services = place.services
    await place.upload(b"bytes")
    others = [await neighbour(place) for _ in range(3)]
    stranger = await services.tenants.create_tenant(HOST, "stranger", "Stranger")
    begun = await services.drains.start(HOST, place.a, place.b, AT_ONCE)
    assert (begun.state, begun.percent) == ("running", 100)
    await refused("store_draining", Conflict, services.stores.grant_store(HOST, stranger.id, place.a))
    await refused("drain_active", Conflict, services.drains.start(HOST, place.a, place.b, AT_ONCE))
    await refused("drain_target_drained", Conflict, services.drains.start(HOST, place.b, place.a, AT_ONCE))
    async with working(services):
        done = await until(place, "done", "halted")
    assert (done.state, done.progress.moved, done.progress.blocked) == ("done", 4, 0)
    assert done.progress.copied_bytes == done.progress.total_bytes > 0
    for one in [place, *others]:
        assert await writes_to(one) == place.b
        assert await one.listing(place.a_id) == []
    await services.stores.grant_store(HOST, stranger.id, place.a)
    assert await acts(services) == ["drain.started", "drain.done"]
    await assert_clean(services)


async def test_a_step_at_a_time_each_confirmed(place: Place) -> None:
    services, steps = place.services, (50, 100)
    first = await neighbour(place, in_first_of=steps, step=0)
    second = await neighbour(place, in_first_of=steps, step=1)
    await services.drains.start(HOST, place.a, place.b, replace(AT_ONCE, steps=steps, automatic=False))
    await refused("drain_wrong_state", Conflict, services.drains.confirm(HOST, place.a))
    async with working(services):
        waiting = await until(place, "confirming", "done")
        assert (waiting.state, waiting.percent) == ("confirming", 50)
        assert (await writes_to(first), await writes_to(second)) == (place.b, place.a)
        assert (await services.drains.confirm(HOST, place.a)).percent == 100
        await until(place, "done")
    assert await writes_to(second) == place.b
    assert await acts(services) == ["drain.started", "drain.step_ended", "drain.step_begun", "drain.done"]


async def test_no_more_tenants_than_wanted_move_at_once(place: Place) -> None:
    services = place.services
    for _ in range(4):
        await neighbour(place)
    await services.drains.start(HOST, place.a, place.b, replace(AT_ONCE, most_active=2))
    drain = await services.drains.get(place.a)
    for _ in range(4):
        # No worker runs: what was begun stays under way.
        await services.drains.engine.advance(drain.id)
    assert (await services.drains.get(place.a)).progress.moving == 2
    async with working(services):
        await until(place, "done")


async def test_what_blocks_a_tenant_is_listed_and_tried_again(place: Place) -> None:
    services = place.services
    await place.upload(b"bytes")
    blocked = await neighbour(place)
    third = (await services.stores.add_store(HOST, f"c-{uuid4().hex[:8]}", "memory", {"name": uuid4().hex}, {})).name
    await services.stores.grant_store(HOST, blocked.tenant_id, third)
    own = await services.migrations.plan_migration(HOST, blocked.tenant_id, target=third)
    # Another has planned the same move for itself, to be cut over by hand: it is not for the drain to start that.
    by_hand = await neighbour(place)
    await services.stores.grant_store(HOST, by_hand.tenant_id, place.b)
    its_own = await services.migrations.plan_migration(HOST, by_hand.tenant_id, target=place.b)
    await services.drains.start(HOST, place.a, place.b, AT_ONCE)
    async with working(services):
        halted = await until(place, "halted", "done")
        assert (halted.state, halted.progress.blocked, halted.progress.moved) == ("halted", 2, 1)
        listed = await services.drains.list_tenants(place.a, state="blocked")
        assert {(one.tenant_id, one.code) for one in listed} == {
            (blocked.tenant_id, "migration_active"),
            (by_hand.tenant_id, "migration_active"),
        }
        assert (await services.migrations.get_migration(by_hand.tenant_id, its_own.id)).state == "planned"
        await services.migrations.cancel_migration(HOST, blocked.tenant_id, own.id)
        await services.migrations.cancel_migration(HOST, by_hand.tenant_id, its_own.id)
        await services.drains.resume(HOST, place.a)
        await until(place, "done")
    assert await writes_to(blocked) == await writes_to(by_hand) == place.b


async def test_a_tenant_that_has_left_by_itself_is_in_nobodys_way(place: Place) -> None:
    services = place.services
    left = await neighbour(place)
    drain = await services.drains.start(HOST, place.a, place.b, AT_ONCE)
    await services.drains.engine.advance(drain.id)
    assert (await services.drains.get(place.a)).progress.waiting == 2
    await services.stores.grant_store(HOST, left.tenant_id, place.b)
    await services.placements.set_placement(HOST, left.tenant_id, write=place.b, copies=[], read=[])
    async with working(services):
        done = await until(place, "done", "halted")
    assert (done.state, done.progress.moved, done.progress.blocked) == ("done", 2, 0)
    assert await services.migrations.list_migrations(left.tenant_id) == []


async def test_a_step_in_which_too_many_fail_is_taken_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are cut over already when one's migration fails: all are back where they were, though a worker dies
    between the first roll-back and its note of it."""
    services = place.services
    good, bad = await neighbour(place), await neighbour(place)
    await services.drains.start(HOST, place.a, place.b, replace(AT_ONCE, finalize_after_seconds=None))
    put = memory.MemoryProvider.put

    async def broken(self: memory.MemoryProvider, key: str, *args: Any, **given: Any) -> Any:
        if str(bad.tenant_id) in key and self.location.bucket == place.b:
            raise StoreBroken("the disk says no")
        return await put(self, key, *args, **given)

    deaths, set_tenant = [], drains_repository.set_tenant

    async def dies_once(uow: UnitOfWork, row: Any, tenant_id: UUID, state: Any, **named: Any) -> bool:
        if state == "stepped_back" and not deaths:
            deaths.append(tenant_id)
            raise FailPointError("drain")
        return await set_tenant(uow, row, tenant_id, state, **named)

    monkeypatch.setattr(drains_repository, "set_tenant", dies_once)
    monkeypatch.setattr(memory.MemoryProvider, "put", broken)
    async with working(services):
        halted = await until(place, "halted", seconds=90)
        assert halted.reason is not None
        assert "have failed" in halted.reason
        assert halted.progress.stepped_back == 3
        assert len(deaths) == 1
        monkeypatch.undo()
        async with asyncio.timeout(60):
            while Counter([await writes_to(good), await writes_to(bad)]) != {place.a: 2}:
                await asyncio.sleep(0.05)
            while await good.listing(place.b_id) or await bad.listing(place.b_id):
                await asyncio.sleep(0.05)
        assert await acts(services) == ["drain.started", "drain.halted", "drain.stepped_back"]
        await services.drains.cancel(HOST, place.a)
    assert (await services.drains.get(place.a)).state == "cancelled"
    await assert_clean(services)


async def test_slow_reads_at_the_target_take_the_step_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    services = place.services
    await place.upload(b"bytes")
    looks = 0

    async def slow(*_: object) -> int:
        nonlocal looks
        looks += 1
        return 900

    plan = replace(AT_ONCE, finalize_after_seconds=None, most_read_ms=500)
    await services.drains.start(HOST, place.a, place.b, plan)
    async with working(services):
        async with asyncio.timeout(60):
            while not (await services.drains.get(place.a)).progress.cut_over:
                await asyncio.sleep(0.05)
            while (await services.drains.get(place.a)).read_ms is None:
                await asyncio.sleep(0.05)
        assert (await services.drains.get(place.a)).state == "running"
        monkeypatch.setattr(services.drains.engine, "_time_reads", slow)
        halted = await until(place, "halted")
    assert (halted.read_ms, halted.progress.stepped_back) == (900, 1)
    assert looks == 3
    assert await writes_to(place) == place.a


@pytest.mark.parametrize("point", [name for name in failpoints.FAIL_POINTS if name.startswith("drain.")])
async def test_a_worker_that_dies_leaves_one_migration_a_tenant(place: Place, point: str) -> None:
    services = place.services
    await place.upload(b"bytes")
    drain = await services.drains.start(HOST, place.a, place.b, AT_ONCE)
    await services.drains.engine.advance(drain.id)
    failpoints.arm(f"{point}=raise", environment="test")
    try:
        with pytest.raises(FailPointError):
            await services.drains.engine.advance(drain.id)
    finally:
        failpoints.arm("", environment="test")
    async with working(services):
        await until(place, "done")
    assert len(await services.migrations.list_migrations(place.tenant_id)) == 1
    assert await writes_to(place) == place.b


async def test_pause_begins_no_more_and_cancel_moves_nothing_back(place: Place) -> None:
    services = place.services
    await place.upload(b"bytes")
    drain = await services.drains.start(HOST, place.a, place.b, AT_ONCE)
    assert (await services.drains.pause(HOST, place.a)).state == "paused"
    await services.drains.engine.advance(drain.id)
    assert (await services.drains.get(place.a)).progress.waiting == 0
    assert await services.migrations.list_migrations(place.tenant_id) == []
    await services.drains.resume(HOST, place.a)
    for _ in range(2):
        await services.drains.engine.advance(drain.id)
    assert (await services.drains.cancel(HOST, place.a)).state == "cancelled"
    async with working(services):
        (migration,) = await services.migrations.list_migrations(place.tenant_id)
        await place.until(migration.id, "done")
    await refused("drain_wrong_state", Conflict, services.drains.resume(HOST, place.a))


@pytest.mark.parametrize(
    "wrong",
    [{"steps": ()}, {"steps": (50,)}, {"steps": (50, 10, 100)}, {"steps": (0, 100)}, {"most_active": 0},
     {"most_failed_percent": 101}, {"most_read_ms": 0}, {"finalize_after_seconds": -1}],
)  # fmt: skip
async def test_what_is_no_plan_is_refused(place: Place, wrong: dict[str, Any]) -> None:
    drains = place.services.drains
    await refused("drain_invalid", Invalid, drains.start(HOST, place.a, place.b, replace(AT_ONCE, **wrong)))
    await refused("drain_invalid", Invalid, drains.start(HOST, place.a, place.a, AT_ONCE))
    await refused("drain_not_found", NotFound, drains.get(place.a))


@given(st.uuids(), st.lists(st.integers(1, 99), unique=True).map(sorted))
def test_a_greater_share_holds_a_smaller_one(tenant_id: UUID, shares: list[int]) -> None:
    steps = [*shares, 100]
    step = step_of(tenant_id, steps)
    assert position(tenant_id) < steps[step]
    assert step == 0 or position(tenant_id) >= steps[step - 1]


@pytest.mark.parametrize(("failed", "started", "most", "is_bad"), [(0, 0, 0, False), (1, 10, 10, False),
                         (2, 10, 10, True), (1, 1, 0, True), (1, 1, 100, False)])  # fmt: skip
def test_when_too_many_have_failed(failed: int, started: int, most: int, is_bad: bool) -> None:
    assert is_failing(StepCounts(0, 0, 0, 0, failed, started, failed), most) == is_bad
