"""F63: work in the background gives way to people who read: as much as is needed, everywhere, and no longer."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import make_place, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.storage.throttle.service import Throttle
from simples3dms.storage.throttle.values import CYCLE_SECONDS, REST_SECONDS, Limit, Readings, rest_left

MOST = 1.25
_IN_REST = REST_SECONDS / 2
SLOWDOWNS = st.one_of(st.none(), st.floats(0.01, 100))


class Clock:
    """A process's own clock, which a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Process:
    """One process's throttle, under a clock of its own."""

    def __init__(self, services: Services) -> None:
        self.clock = Clock()
        self.throttle = Throttle(services.database, most_slowdown=MOST, clock=self.clock)

    async def read(self, seconds: float, *, in_rest: bool, count: int = 6) -> None:
        """So many reads took so long, now or in the last rest; then the process looks about."""
        with self.throttle.reading():
            self.clock.now += 0.001
        await self.throttle.look()
        ahead = self.throttle._ahead_seconds
        assert ahead is not None
        there = self.clock.now + ahead
        into = there % CYCLE_SECONDS
        if in_rest:
            there += _IN_REST - into - (CYCLE_SECONDS if into < _IN_REST else 0)
        elif into < REST_SECONDS:
            there -= into + 0.1
        for _ in range(count):
            self.clock.now = there - ahead
            with self.throttle.reading():
                self.clock.now += seconds
        await self.throttle.look()

    async def work(self) -> float:
        """Do a piece of work, look about, and say how much may be done from now on."""
        self.throttle._has_worked = True
        await self.throttle.look()
        return self.throttle.limit


@given(st.lists(st.tuples(st.booleans(), SLOWDOWNS), max_size=60))
def test_f63_the_limit_is_endless_or_sane_and_falls_when_people_wait(seen: list[tuple[bool, float | None]]) -> None:
    limit = Limit(most_slowdown=MOST)
    for someone_reads, slowdown in seen:
        before = limit.value
        limit.update(someone_reads=someone_reads, slowdown=slowdown)
        assert (limit.value == math.inf) is (not someone_reads)
        assert limit.value > 0
        if someone_reads and before != math.inf and slowdown is not None:
            assert not (slowdown > MOST and limit.value > before)
            assert not (slowdown < 1 and limit.value < before)


def test_f63_work_never_stands_still_and_comes_back() -> None:
    limit = Limit(most_slowdown=MOST)
    for _ in range(1000):
        limit.update(someone_reads=True, slowdown=50)
    assert 0 < limit.value < 0.1
    for _ in range(100):
        limit.update(someone_reads=True, slowdown=1)
    assert limit.value > 64


def test_f63_usual_is_what_reads_take_while_all_rests() -> None:
    readings, cycle = Readings(), 50 * CYCLE_SECONDS
    for number in range(10):
        readings.note(0.010, begun=cycle + 0.8 + number / 100)
        # Work that was begun before the rest may still be under way.
        readings.note(9.0, begun=cycle + 0.1)
        readings.note(0.030, begun=cycle + 4 + number / 100)
    found = readings.look(cycle + 5)
    assert (found.count, found.seconds, found.quiet_seconds) == (10, 0.030, 0.010)
    assert found.slowdown == pytest.approx(3)
    assert readings.look(cycle + 60).count == 0
    assert readings.look(cycle + 5 + 600).slowdown is None


def test_f63_few_reads_tell_nothing() -> None:
    readings = Readings()
    for _ in range(4):
        readings.note(0.01, begun=CYCLE_SECONDS + 5)
    assert (readings.look(CYCLE_SECONDS + 6).count, readings.look(CYCLE_SECONDS + 6).slowdown) == (4, None)


@given(st.floats(0, 1e10))
def test_f63_a_rest_ends(clock: float) -> None:
    left = rest_left(clock)
    assert 0 <= left <= REST_SECONDS
    assert rest_left(math.floor(clock / CYCLE_SECONDS) * CYCLE_SECONDS + REST_SECONDS + 0.01) == 0


@pytest.mark.anyio
async def test_f63_a_worker_gives_way_to_readers_of_another_process(services: Services) -> None:
    server, worker = Process(services), Process(services)
    assert await worker.work() == math.inf, "nobody reads"
    await server.read(0.010, in_rest=True)
    await server.read(0.050, in_rest=False)
    first = await worker.work()
    assert 1 < first < 64, "as soon as somebody reads it begins with few"
    limits = [await worker.work() for _ in range(12)]
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] < 1
    await server.read(0.010, in_rest=False, count=60)
    again = [await worker.work() for _ in range(12)]
    assert again == sorted(again)
    assert again[-1] > 1
    async with services.database.platform() as uow:
        await uow.execute("UPDATE reader_waits SET seen_at = seen_at - interval '10 seconds'")
    assert await worker.work() == math.inf, "they have gone"


@pytest.mark.anyio
async def test_f63_turns_are_taken_in_order_and_no_more_than_may_be(services: Services) -> None:
    throttle = Process(services).throttle
    throttle._limit._value = 2.0
    throttle._ahead_seconds = 10 - throttle._clock()  # amid a cycle, far from its rest
    running, most, begun = 0, 0, []

    async def work(number: int) -> None:
        nonlocal running, most
        async with throttle.turn():
            begun.append(number)
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1

    await asyncio.gather(*(work(number) for number in range(20)))
    assert (most, begun, throttle._busy) == (2, list(range(20)), 0)


@pytest.mark.anyio
async def test_f63_nobody_begins_in_a_rest_and_who_is_cancelled_leaves_no_trace(services: Services) -> None:
    process = Process(services)
    throttle = process.throttle
    throttle._limit._value = 4.0
    throttle._ahead_seconds = _IN_REST - process.clock.now

    async def work() -> None:
        async with throttle.turn():
            pass

    waiting = [asyncio.create_task(work()) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (throttle._busy, len(throttle._waiting)) == (0, 2)
    waiting[0].cancel()
    process.clock.now += REST_SECONDS
    await waiting[1]
    assert (throttle._busy, len(throttle._waiting)) == (0, 0)
    assert waiting[0].cancelled()


@pytest.mark.anyio
async def test_f63_a_migration_that_is_throttled_as_hard_as_can_be_still_gets_done(
    services: Services,
) -> None:
    place = await make_place(services)
    for number in range(3):
        await place.upload(bytes([number]) * 1000)
    services.throttle._limit._value = 0.5
    services.throttle._ahead_seconds = 0.0
    async with working(services):
        planned = await services.migrations.plan_migration(HOST, place.tenant_id, target=place.b)
        await services.migrations.start_migration(HOST, place.tenant_id, planned.id)
        await place.until(planned.id, "ready")
    assert services.throttle.limit == 0.5


@pytest.mark.anyio
async def test_f63_throttling_that_is_off_holds_nothing_back(services: Services) -> None:
    throttle = Throttle(services.database, most_slowdown=0)
    throttle.start()
    assert throttle._task is None
    assert throttle.limit == math.inf
    await throttle.stop()
