"""Who uses one store shares its limits: tenants, none of which keeps the others waiting, and processes."""

from __future__ import annotations

import asyncio

import pytest
from tests.support import Place, make_place

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.egress import EgressGuard, EgressPolicy
from simples3dms.providers.layers.concurrency import ConcurrencyLayer
from simples3dms.providers.layers.forwarding import Layer
from simples3dms.providers.stack import StackSettings
from simples3dms.storage.stores.service import Stores

pytestmark = pytest.mark.anyio


async def test_a_tenant_with_many_uploads_does_not_stop_anothers_one(services: Services) -> None:
    busy = await make_place(services)
    tenant = await services.tenants.create_tenant(HOST, "quiet", "A quiet tenant")
    await services.stores.grant_store(HOST, tenant.id, busy.a)
    await services.placements.set_placement(HOST, tenant.id, write=busy.a, copies=[], read=[])
    quiet = Place(services, tenant.id, busy.a, busy.b, busy.a_id, busy.b_id)
    await services.stores.set_tuning(HOST, busy.a, {"requests_per_second": 10})
    many = [asyncio.create_task(busy.upload(b"%d" % number)) for number in range(40)]
    await asyncio.sleep(0)
    while sum(task.done() for task in many) < 11:  # what a quiet second had saved up is used
        await asyncio.sleep(0.01)
    done = await asyncio.create_task(quiet.upload(b"one"))
    left = sum(not task.done() for task in many)
    assert left > 10, "the one upload waited behind most of the others"
    assert await quiet.read(done.document.id) == b"one"
    await asyncio.gather(*many)


async def test_processes_divide_what_a_store_bears(services: Services) -> None:
    """Each takes its share of the same budget; one that is gone, or silent, leaves its share to the others."""
    place = await make_place(services)
    await services.stores.set_tuning(HOST, place.a, {"most_concurrent": 12})
    here = services.stores
    others = [
        Stores(
            services.database,
            services.credentials,
            stack_settings=StackSettings(),
            guard=EgressGuard(EgressPolicy()),
        )
        for _ in range(2)
    ]
    processes = [here, *others]

    async def use_and_divide(*using: Stores) -> list[int]:
        """The calls at a time that each process may have, once everybody has heard of everybody."""
        for process in using:
            await (await process.provider(place.a_id)).check()
            await process.budgets.divide()
        limits = []
        for process in using:
            await process.budgets.divide()
            limits.append(await _limit(process, place))
        return limits

    try:
        assert await use_and_divide(here) == [12]
        assert await use_and_divide(*processes) == [4, 4, 4]
        assert await use_and_divide(*processes) == [4, 4, 4]
        others[0].budgets.start()
        await others[0].budgets.stop()
        assert await use_and_divide(here, others[1]) == [6, 6]
        async with services.database.platform() as uow:
            await uow.execute("UPDATE store_users SET seen_at = seen_at - interval '1 minute'")
        assert await use_and_divide(here) == [12]
        # Who comes back to a store takes only what will be its share, although the others do not know of it yet.
        await others[1].budgets.divide()
        assert await _limit(others[1], place) == 6
    finally:
        for process in others:
            await process.close()


async def _limit(process: Stores, place: Place) -> int:
    layer = await process.provider(place.a_id)
    while isinstance(layer, Layer):
        if isinstance(layer, ConcurrencyLayer):
            return layer.limit
        layer = layer.inner
    raise AssertionError("no layer bounds the calls at a time")
