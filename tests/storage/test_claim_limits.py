"""A claim takes no more than it says, however PostgreSQL plans it: a job that takes all there is blocks all others."""

from __future__ import annotations

import pytest
from tests.support import Place, make_place

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.storage.blobs import repository as blobs
from simples3dms.storage.transfers import repository as transfers

pytestmark = pytest.mark.anyio
_ALL, _MOST = 60, 7


@pytest.fixture
async def place(services: Services) -> Place:
    """A tenant whose documents are all owed a copy."""
    place = await make_place(services)
    await services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b], read=[])
    for number in range(_ALL):
        await place.upload(b"body %d" % number)
    return place


async def test_a_claim_takes_no_more_than_it_says(place: Place) -> None:
    async with place.services.database.tenant(place.tenant_id) as uow:
        due = await uow.scalar("SELECT id FROM transfers LIMIT 1")
        assert len(await transfers.claim(uow, due, limit=_MOST, lease_seconds=60)) == _MOST
        await uow.execute("UPDATE replicas SET state = 'retiring'")
        assert len(await blobs.claim_retiring(uow, limit=_MOST, lease_seconds=60)) == _MOST
        await uow.execute("UPDATE replicas SET state = 'writing', lease_until = now() - interval '1 minute'")
        assert await blobs.expire_writes(uow, limit=_MOST, grace_seconds=60) == _MOST
        kind = "store_unavailable"
        await uow.execute("UPDATE transfers SET due_at = now() + interval '1 hour', error_kind = %s", [kind])
        hastened = await transfers.hasten(uow, place.b_id, [kind], beyond_seconds=60, limit=_MOST)
        assert len(hastened) == _MOST
