"""One at a time asks a store about a lock, what was there before ours stays, and what is not ours is not taken back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.locking import hold, lift, locking_place, locks, release, retain, view
from tests.support import Place

from simples3dms.bootstrap import Services
from simples3dms.providers.base import ObjectLock
from simples3dms.providers.kinds import memory
from simples3dms.storage.locks import service
from simples3dms.storage.stores import repository as stores_repository

pytestmark = pytest.mark.anyio
NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def place(services: Services) -> Place:
    return await locking_place(services)


@pytest.fixture(autouse=True)
def _only_this_test_s() -> Any:
    yield
    memory._shelves.clear()


class OnItsWay:
    """The next call that takes a hold away, which comes to the store when the test lets it."""

    def __init__(self, provider: Any) -> None:
        self.left, self.lands = asyncio.Event(), asyncio.Event()
        self._setting = provider.set_hold
        provider.set_hold = self._set_hold

    async def _set_hold(self, *args: Any, **how: Any) -> None:
        if not how["on"] and not self.left.is_set():
            self.left.set()
            await self.lands.wait()
        await self._setting(*args, **how)


@asynccontextmanager
async def releasing(place: Place) -> AsyncIterator[tuple[Any, OnItsWay, asyncio.Task[None]]]:
    """A document whose hold is over, and the worker that asks the store to take its lock away; it does not get on."""
    document = (await place.upload(b"evidence")).document.id
    made = await hold(place, document)
    await place.services.locks.apply_due(place.tenant_id)
    await release(place, document, made)
    late = OnItsWay(await place.services.stores.provider(place.a_id))
    worker = asyncio.create_task(place.services.locks.apply_due(place.tenant_id))
    await late.left.wait()
    yield document, late, worker
    late.lands.set()
    await worker


async def change_rows(place: Place, change: str) -> None:
    async with place.services.database.tenant(place.tenant_id) as uow:
        await uow.execute(f"UPDATE object_locks SET {change} WHERE tenant_id = %s", [uow.tenant_id])


def held(place: Place) -> list[bool]:
    return [one.held for one in locks(place).values()]


async def test_what_is_marked_while_somebody_asks_is_left_to_him(place: Place) -> None:
    """A second worker would find the hold still there, be content, and the first one's call would take it away."""
    async with releasing(place) as (document, late, worker):
        await hold(place, document)
        await place.services.locks.apply_due(place.tenant_id)
        assert (await view(place, document)).lock == "waiting"
        late.lands.set()
        await worker
        found = await view(place, document)
        assert (found.lock, found.lock_set_hold, held(place)) == ("set", True, [True])


async def test_a_call_that_outlives_its_claim_is_looked_after(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who hangs for longer than his lease is taken for dead: what he asked may come after the next one looked."""

    @asynccontextmanager
    async def no_heartbeat(*_: Any, **__: Any) -> AsyncIterator[None]:
        yield

    monkeypatch.setattr(service, "heartbeat", no_heartbeat)
    async with releasing(place) as (document, late, worker):
        await change_rows(place, "lease_until = now() - interval '1 second'")
        await hold(place, document)
        await place.services.locks.apply_due(place.tenant_id)
        # The store still says that it holds; nobody relies upon it yet.
        assert held(place) == [True]
        assert (await view(place, document)).lock == "waiting"
        late.lands.set()
        await worker
        assert held(place) == [False]
        await change_rows(place, "due_at = now(), doubt_until = now() - interval '1 second'")
        await place.services.locks.apply_due(place.tenant_id)
        found = await view(place, document)
        assert (found.lock, found.lock_set_hold, held(place)) == ("set", True, [True])


async def test_a_hold_of_the_store_s_owner_outlives_ours(place: Place) -> None:
    document = (await place.upload(b"evidence")).document.id
    (version,) = memory_versions(place)
    locks(place)[version] = ObjectLock(held=True)
    made = await hold(place, document)
    # So that something is asked of the store, which is no reason to take the hold for ours.
    await retain(place, document, NOW + DAY)
    await place.services.locks.apply_due(place.tenant_id)
    assert (await view(place, document)).lock == "set"
    await release(place, document, made)
    await place.services.locks.apply_due(place.tenant_id)
    assert held(place) == [True]


async def test_a_retention_of_the_store_s_owner_is_never_cut(place: Place) -> None:
    """Ours was longer and lay over it; what is left when ours is lifted is his."""
    document = (await place.upload(b"evidence")).document.id
    (version,) = memory_versions(place)
    his = ObjectLock(mode="governance", until=NOW + 10 * DAY)
    locks(place)[version] = his
    for _ in range(2):
        await retain(place, document, NOW + 100 * DAY)
        await place.services.locks.apply_due(place.tenant_id)
        assert locks(place)[version].until == NOW + 100 * DAY
        await lift(place, document)
        await place.services.locks.apply_due(place.tenant_id)
        assert locks(place)[version] == his
    assert not await has_locks(place)


async def test_a_retention_that_was_lifted_leaves_the_store_s_settings_free(place: Place) -> None:
    document = (await place.upload(b"evidence")).document.id
    await retain(place, document, NOW + 3650 * DAY)
    await place.services.locks.apply_due(place.tenant_id)
    assert await has_locks(place)
    await lift(place, document)
    await place.services.locks.apply_due(place.tenant_id)
    (kept,) = locks(place).values()
    assert kept.until is not None
    assert kept.until <= datetime.now(UTC) + MINUTE
    assert await has_locks(place)
    # A minute later.
    await change_rows(place, "asked_until = asked_until - interval '61 seconds'")
    assert not await has_locks(place)


async def test_whoever_records_a_lock_takes_the_replica_first_as_the_sweep_does(
    place: Place, eventually: Callable[..., Any]
) -> None:
    document = (await place.upload(b"evidence")).document.id
    await hold(place, document)
    database = place.services.database
    async with database.tenant(place.tenant_id) as sweep:
        await sweep.execute(
            "UPDATE replicas SET state = 'retiring', last_error = 'object_locked' WHERE tenant_id = %s",
            [place.tenant_id],
        )
        recording = asyncio.create_task(place.services.locks.apply_due(place.tenant_id))

        async def waits() -> bool:
            async with database.platform() as other:
                return await other.scalar("SELECT 1 FROM pg_locks WHERE NOT granted LIMIT 1") is not None

        await eventually(waits, seconds=20)
        assert await sweep.scalar(
            "SELECT 1 FROM object_locks WHERE tenant_id = %s FOR UPDATE NOWAIT", [place.tenant_id]
        )
    await recording


def memory_versions(place: Place) -> list[str]:
    """The versions that the store of the test's tenant has."""
    shelf = next(shelf for shelf in memory._shelves.values() if shelf.locks is locks(place))
    return [str(one.info.version_id) for path, kept in shelf.objects.items() if "/" in path for one in kept]


async def has_locks(place: Place) -> bool:
    async with place.services.database.platform() as uow:
        return await stores_repository.has_locks(uow, place.a_id)
