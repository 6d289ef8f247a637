"""Copies that wait for a store which is away: they go on soon after it is back, however long it was away."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from tests.support import Place, assert_clean, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.providers.errors import IntegrityError, ProviderError, StoreUnavailable
from simples3dms.storage.transfers.service import _ASKED_AGAIN_SECONDS, _BATCH

pytestmark = pytest.mark.anyio
#: As if the next attempt were due when a store that was away for a long time is back for as long.
_LONG_SECONDS = 3000.0


@pytest.fixture
async def place(services: Services, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = await make_place(services)
    await services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b], read=[])
    monkeypatch.setattr(services.transfers, "_retry_base_seconds", _LONG_SECONDS)
    return place


async def waits(place: Place) -> dict[UUID, float]:
    """Each transfer with the seconds until it is due, soonest first."""
    async with place.services.database.tenant(place.tenant_id) as uow, uow.connection.cursor() as cursor:
        await cursor.execute("SELECT id, extract(epoch FROM due_at - now())::float8 FROM transfers ORDER BY due_at")
        return dict(await cursor.fetchall())


async def run_due(place: Place) -> None:
    """What workers would do now."""
    while due := [transfer_id for transfer_id, seconds in (await waits(place)).items() if seconds <= 0]:
        await place.services.transfers.run(place.tenant_id, due[0])


async def let_pass(place: Place, *transfers: UUID) -> None:
    """The time until these are due."""
    async with place.services.database.tenant(place.tenant_id) as uow:
        await uow.execute("UPDATE transfers SET due_at = now() WHERE id = ANY(%s)", [list(transfers)])


def fail(error: ProviderError) -> Any:
    async def call(*_args: Any, **_named: Any) -> None:
        raise error

    return call


async def test_what_a_store_is_owed_goes_on_soon_after_it_is_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2 * _BATCH + 1):
        await place.upload(b"body %d" % number)
    target = await place.services.stores.provider(place.b_id)
    with monkeypatch.context() as away:
        away.setattr(target, "put", fail(StoreUnavailable("nobody answers")))
        await run_due(place)
    found = await waits(place)
    asking = [transfer_id for transfer_id, seconds in found.items() if seconds <= _ASKED_AGAIN_SECONDS]
    # One of each batch finds out that the store is back; were it all of them, nobody would do anything else.
    assert (len(found), len(asking)) == (2 * _BATCH + 1, 3)
    assert min(seconds for transfer_id, seconds in found.items() if transfer_id not in asking) > _LONG_SECONDS / 2
    await let_pass(place, asking[0])
    await place.services.transfers.run(place.tenant_id, asking[0])
    found = await waits(place)
    assert len(found) == 2 * _BATCH
    assert sum(seconds <= 0 for seconds in found.values()) == 2 * _BATCH - 2
    await let_pass(place, *asking)
    async with working(place.services):
        await quiet(place)
    await assert_clean(place.services)


async def test_a_copy_whose_source_is_away_is_tried_again_soon(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await place.upload(b"a body")
    await place.upload(b"another")
    source = await place.services.stores.provider(place.a_id)
    with monkeypatch.context() as away:
        away.setattr(source, "get", fail(StoreUnavailable("nobody answers")))
        await run_due(place)
    assert all(0 < seconds <= _ASKED_AGAIN_SECONDS for seconds in (await waits(place)).values())
    await let_pass(place, *await waits(place))
    await run_due(place)
    assert await waits(place) == {}


async def test_a_copy_that_another_worker_is_at_is_looked_at_again_soon(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.upload(b"a body")
    (transfer_id,) = await waits(place)
    target = await place.services.stores.provider(place.b_id)
    real, begun, go_on = target.put, asyncio.Event(), asyncio.Event()

    async def wait_and_put(*args: Any, **named: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await real(*args, **named)

    monkeypatch.setattr(target, "put", wait_and_put)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(place.services.transfers.run(place.tenant_id, transfer_id))
        await begun.wait()
        async with place.services.database.tenant(place.tenant_id) as uow:
            await uow.execute("UPDATE transfers SET lease_until = now() - interval '1 second', attempt = 9")
        await place.services.transfers.run(place.tenant_id, transfer_id)
        assert 0 < (await waits(place))[transfer_id] <= _ASKED_AGAIN_SECONDS
        go_on.set()


async def test_a_copy_that_fails_for_a_reason_of_its_own_waits_its_turn(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.upload(b"a body")
    await place.upload(b"another")
    target = await place.services.stores.provider(place.b_id)
    with monkeypatch.context() as wrong:
        wrong.setattr(target, "put", fail(IntegrityError("other bytes")))
        await run_due(place)
    first, second = await waits(place)
    await let_pass(place, first)
    await place.services.transfers.run(place.tenant_id, first)
    found = await waits(place)
    assert list(found) == [second]
    assert found[second] > _LONG_SECONDS / 2
