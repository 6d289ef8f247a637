"""How much a tenant has, and where, is known without a look at every row, and is exact whatever goes on."""

from __future__ import annotations

import asyncio
import random
from uuid import UUID

import psycopg
import pytest
from tests.conftest import Cluster
from tests.support import Place, assert_clean, make_place, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.db.provision import Provisioned
from simples3dms.kit.ids import new_id
from simples3dms.storage.counters import repository
from simples3dms.storage.counters.values import Drift, Total

pytestmark = pytest.mark.anyio


@pytest.fixture
async def place(services: Services) -> Place:
    return await make_place(services)


async def totals(place: Place) -> dict[UUID | None, tuple[int, int]]:
    async with place.services.database.tenant(place.tenant_id) as uow:
        return {one.store_id: (one.blob_count, one.size_bytes) for one in await repository.list_totals(uow)}


async def drift(place: Place) -> list[Drift]:
    async with place.services.database.tenant(place.tenant_id) as uow:
        return await repository.list_drift(uow)


async def fold(place: Place) -> None:
    async with place.services.database.platform() as uow:
        await repository.fold(uow, limit=20_000)


async def test_uploads_versions_and_purges_are_counted_where_they_lie(place: Place) -> None:
    assert await totals(place) == {}
    first = (await place.upload(b"12345")).document.id
    await place.upload(b"123", document_id=first)
    second = (await place.upload(b"1234567")).document.id
    assert await totals(place) == {None: (3, 15), place.a_id: (3, 15)}
    await place.services.documents.delete_document(HOST, place.tenant_id, second)
    assert (await totals(place))[None] == (3, 15), "the trash still takes its room"
    await place.services.documents.purge_document(HOST, place.tenant_id, second)
    await fold(place)
    assert await totals(place) == {None: (2, 8), place.a_id: (2, 8)}


async def test_a_move_carries_the_numbers_along(place: Place) -> None:
    for size in (1, 20, 300):
        await place.upload(bytes(size))
    migrations = place.services.migrations
    async with working(place.services):
        planned = await migrations.plan_migration(HOST, place.tenant_id, target=place.b)
        assert (planned.plan.blob_count, planned.plan.size_bytes) == (3, 321)
        await migrations.start_migration(HOST, place.tenant_id, planned.id)
        await place.until(planned.id, "ready")
        assert await totals(place) == {None: (3, 321), place.a_id: (3, 321), place.b_id: (3, 321)}
        await migrations.cut_over(HOST, place.tenant_id, planned.id)
        await migrations.finalize(HOST, place.tenant_id, planned.id)
        await place.until(planned.id, "done")
    await fold(place)
    found = await totals(place)
    assert (found[None], found[place.b_id], found.get(place.a_id, (0, 0))) == ((3, 321), (3, 321), (0, 0))
    await assert_clean(place.services)


async def test_no_change_is_lost_or_counted_twice_beside_folds(place: Place) -> None:
    """Uploads, removals and folds at once: nobody waits for one row, and the sum is right at each moment."""
    draw = random.Random(7)
    documents = [(await place.upload(bytes(draw.randrange(50)))).document.id for _ in range(10)]

    async def remove(document: UUID) -> None:
        await place.services.documents.delete_document(HOST, place.tenant_id, document)
        await place.services.documents.purge_document(HOST, place.tenant_id, document)

    async def add() -> None:
        await place.upload(bytes(draw.randrange(50)))

    async def look() -> None:
        found = await totals(place)
        assert found[None] == found[place.a_id]

    acts = [add() for _ in range(20)] + [remove(one) for one in documents] + [fold(place) for _ in range(15)]
    acts += [look() for _ in range(15)]
    draw.shuffle(acts)
    await asyncio.gather(*acts)
    assert await drift(place) == []
    assert (await totals(place))[None][0] == 20


async def test_one_statement_over_several_tenants_counts_for_each(services: Services) -> None:
    one, two = [await make_place(services) for _ in range(2)]
    for place, sizes in ((one, (1, 2)), (two, (10,))):
        for size in sizes:
            await place.upload(bytes(size))
    async with services.database.platform() as uow:
        await uow.execute("UPDATE replicas SET state = 'suspect' WHERE state = 'live'")
    assert await totals(one) == {None: (2, 3), one.a_id: (0, 0)}
    assert await totals(two) == {None: (1, 10), two.a_id: (0, 0)}
    async with services.database.platform() as uow:
        await uow.execute("UPDATE replicas SET state = 'live' WHERE state = 'suspect'")
    assert [await drift(one), await drift(two)] == [[], []]


async def test_what_is_rolled_back_was_never_counted(place: Place) -> None:
    await place.upload(b"12345")

    async def fail() -> None:
        async with place.services.database.tenant(place.tenant_id) as uow:
            await uow.execute(
                "INSERT INTO blobs (tenant_id, id, digest, size_bytes) VALUES (%s, %s, sha256(''), 7)",
                [place.tenant_id, new_id()],
            )
            assert (await repository.find_total(uow)) == Total(None, 2, 12)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await totals(place) == {None: (1, 5), place.a_id: (1, 5)}


async def test_wrong_numbers_are_found_and_put_right_beside_traffic(place: Place) -> None:
    await place.upload(b"12345")
    async with place.services.database.tenant(place.tenant_id) as uow:
        await uow.execute(
            "INSERT INTO catalogue_deltas (tenant_id, blob_count, size_bytes) VALUES (%s, 3, 70)", [place.tenant_id]
        )
    report = await place.services.upkeep.fsck()
    assert [(one.kind, one.tenant_id) for one in report.findings] == [("counters_wrong", place.tenant_id)]
    assert await drift(place) == [Drift(None, -3, -70)]
    wrong, _ = await asyncio.gather(
        place.services.counters.recount(), asyncio.gather(*(place.upload(b"1") for _ in range(10)))
    )
    assert wrong == 1
    assert await totals(place) == {None: (11, 15), place.a_id: (11, 15)}
    assert await place.services.counters.recount() == 0
    await assert_clean(place.services)


async def test_a_plan_looks_at_no_row_of_the_catalogue(place: Place, cluster: Cluster, urls: Provisioned) -> None:
    """Nobody can read the catalogue meanwhile, and the plan is there all the same."""
    await place.upload(b"12345")
    name = str(psycopg.conninfo.conninfo_to_dict(urls.app_url)["dbname"])
    superuser = await psycopg.AsyncConnection.connect(cluster.server.superuser_dsn(name))
    async with superuser, superuser.transaction():
        await superuser.execute("LOCK TABLE blobs, replicas, versions IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(20):
            planned = await place.services.migrations.plan_migration(HOST, place.tenant_id, target=place.b)
            looked = await place.services.migrations.get_migration(place.tenant_id, planned.id)
    assert (planned.plan.blob_count, looked.plan.size_bytes) == (1, 5)
