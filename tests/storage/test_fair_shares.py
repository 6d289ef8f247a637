"""Tenants of one store share its rate: who asks for much does not keep the others waiting."""

from __future__ import annotations

import asyncio

import pytest
from tests.support import Place, make_place

from simples3dms.bootstrap import Services
from simples3dms.context import HOST

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
