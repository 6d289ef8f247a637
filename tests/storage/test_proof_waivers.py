"""A proof leaves out what was waived: one during which a waiver is taken back counts for nothing."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from tests.support import Place, make_place, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.errors import Conflict
from simples3dms.providers.kinds import memory
from simples3dms.storage.migrations import repository, service
from simples3dms.storage.migrations.values import ProofPage

pytestmark = pytest.mark.anyio


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def _ready_with_a_waiver(place: Place) -> tuple[UUID, list[UUID]]:
    """A migration that is ready but for a blob that can't be read; its id, and its waived items."""
    for number in range(3):
        await place.upload(f"body {number}".encode())
    del memory._shelves[place.a].objects[(await place.listing(place.a_id))[1].key]
    migrations = place.services.migrations
    async with working(place.services):
        planned = await migrations.plan_migration(HOST, place.tenant_id, target=place.b)
        await migrations.start_migration(HOST, place.tenant_id, planned.id)
        async with asyncio.timeout(60):
            # The copy to the target, and the repair of what is gone.
            while len(failures := await migrations.failures.list_page(place.tenant_id, planned.id)) < 2:
                await asyncio.sleep(0.05)
        named = [one.id for one in failures]
        await migrations.failures.waive(HOST, place.tenant_id, planned.id, named, reason="gone")
        await place.until(planned.id, "ready")
    return planned.id, named


async def test_i6_a_waiver_that_is_taken_back_during_the_proof_stops_the_cut_over(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    migration_id, named = await _ready_with_a_waiver(place)
    migrations, proven = place.services.migrations, repository.prove_page
    retried = 0

    async def prove_and_retry(*given: Any, **page: Any) -> ProofPage:
        nonlocal retried
        found = await proven(*given, **page)
        if found.last_seq is None and not retried:
            # All pages are walked, and the waived item was left out of them.
            retried = await migrations.failures.retry(HOST, place.tenant_id, migration_id, named)
        return found

    monkeypatch.setattr(repository, "prove_page", prove_and_retry)
    monkeypatch.setattr(service, "_CUT_OVER_TRIES", 2)
    with pytest.raises(Conflict) as caught:
        await migrations.cut_over(HOST, place.tenant_id, migration_id)
    assert (caught.value.problem_code, retried) == ("migration_not_proven", len(named))
    assert (await place.migration(migration_id)).state == "copying"
    assert (await place.services.placements.get_placement(place.tenant_id)).write == place.a


async def test_i6_a_waiver_that_stands_holds_no_cut_over(place: Place) -> None:
    migration_id, _ = await _ready_with_a_waiver(place)
    assert (await place.services.migrations.cut_over(HOST, place.tenant_id, migration_id)).state == "soaking"
