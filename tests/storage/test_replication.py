"""How far stores are behind is known without a look at the transfers, exact whatever goes on, and said by name."""

from __future__ import annotations

import asyncio
import random
from typing import Any
from uuid import UUID

import psycopg
import pytest
import structlog
from tests.conftest import Cluster
from tests.support import Place, assert_clean, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.db.provision import Provisioned
from simples3dms.errors import NotFound
from simples3dms.jobs import watchdog
from simples3dms.storage.counters import repository as counters
from simples3dms.storage.counters.values import Owed
from simples3dms.storage.replication import repository
from simples3dms.storage.replication.values import StoreLag
from simples3dms.storage.transfers import repository as transfers

pytestmark = pytest.mark.anyio


@pytest.fixture
async def place(services: Services) -> Place:
    """With a store `b` that is to hold a copy of everything."""
    made = await make_place(services)
    await services.placements.set_placement(HOST, made.tenant_id, write=made.a, copies=[made.b])
    return made


async def lag_of(place: Place, store: str) -> StoreLag:
    found = await place.services.replication.of_tenant(place.tenant_id)
    return next(lag for lag in found.stores if lag.store == store)


async def drift(place: Place) -> list[Owed]:
    async with place.services.database.tenant(place.tenant_id) as uow:
        return await counters.list_owed_drift(uow)


async def run_sql(place: Place, statement: str, *params: object) -> None:
    async with place.services.database.tenant(place.tenant_id) as uow:
        await uow.execute(statement, list(params))


async def test_what_a_store_is_owed_is_counted_and_its_oldest_has_an_age(place: Place) -> None:
    for size in (1, 20, 300):
        await place.upload(bytes(size))
        await place.services.counters.fold()
    await run_sql(place, "UPDATE transfers SET created_at = now() - interval '90 seconds' WHERE size_bytes = 20")
    behind, level = await lag_of(place, place.b), await lag_of(place, place.a)
    assert (behind.pending_count, behind.pending_bytes, behind.failed_count) == (3, 321, 0)
    assert 90 <= behind.lag_seconds < 120
    assert (level.pending_count, level.pending_bytes, level.oldest_at, level.lag_seconds) == (0, 0, None, 0)
    async with working(place.services):
        await quiet(place)
    await place.services.counters.fold()
    caught_up = await lag_of(place, place.b)
    assert (caught_up.pending_count, caught_up.pending_bytes, caught_up.lag_seconds) == (0, 0, 0)
    await assert_clean(place.services)


async def test_a_failed_copy_is_not_pending_and_a_revived_one_is_as_old_as_it_was(place: Place) -> None:
    await place.upload(b"12345")
    await place.upload(b"123")
    await run_sql(
        place,
        """UPDATE transfers SET state = 'failed', created_at = now() - interval '1 day' WHERE size_bytes = 5""",
    )
    found = await lag_of(place, place.b)
    assert (found.pending_count, found.pending_bytes, found.failed_count, found.failed_bytes) == (1, 3, 1, 5)
    assert found.lag_seconds < 3600, "what is tried no more does not wait"
    async with place.services.database.tenant(place.tenant_id) as uow:
        blobs = await uow.scalars("SELECT blob_id FROM transfers WHERE state = 'failed'")
        assert len(await transfers.revive_blobs(uow, blobs)) == 1
    revived = await lag_of(place, place.b)
    assert (revived.pending_count, revived.pending_bytes, revived.failed_count) == (2, 8, 0)
    assert revived.lag_seconds >= 86_400
    await run_sql(place, "UPDATE transfers SET state = 'waived', waived_reason = 'x', waived_at = now()")
    waived = await lag_of(place, place.b)
    assert (waived.pending_count, waived.failed_count, waived.waived_count) == (0, 0, 2)
    assert await drift(place) == []


async def test_a_blob_that_goes_takes_what_is_owed_of_it_along(place: Place) -> None:
    document = (await place.upload(b"12345")).document.id
    await place.upload(b"123")
    await place.services.documents.delete_document(HOST, place.tenant_id, document)
    await place.services.documents.purge_document(HOST, place.tenant_id, document)
    await place.services.blobs.sweep(place.tenant_id)
    async with place.services.database.tenant(place.tenant_id) as uow:
        assert await uow.scalar("SELECT count(*) FROM blobs") == 1, "the blob's row is gone, and its transfer with it"
    found = await lag_of(place, place.b)
    assert (found.pending_count, found.pending_bytes) == (1, 3)
    assert await drift(place) == []


async def test_no_copy_is_lost_or_counted_twice_beside_folds_and_workers(place: Place) -> None:
    draw = random.Random(11)

    async def add() -> None:
        await place.upload(bytes(draw.randrange(50)))

    async def look() -> None:
        found = await lag_of(place, place.b)
        assert found.pending_count >= 0
        assert found.pending_bytes >= 0

    async with working(place.services):
        acts = [add() for _ in range(25)] + [place.services.counters.fold() for _ in range(10)]
        acts += [look() for _ in range(10)]
        draw.shuffle(acts)
        await asyncio.gather(*acts)
        await quiet(place)
    assert await drift(place) == []
    assert (await lag_of(place, place.b)).pending_count == 0


async def test_wrong_numbers_are_found_and_put_right(place: Place) -> None:
    await place.upload(b"12345")
    await run_sql(
        place,
        """INSERT INTO transfer_deltas (tenant_id, store_id, state, transfer_count, size_bytes)
           VALUES (%s, %s, 'pending', 3, 70)""",
        place.tenant_id,
        place.b_id,
    )
    report = await place.services.upkeep.fsck()
    assert [(one.kind, one.target) for one in report.findings] == [("counters_wrong", str(place.b_id))]
    assert await drift(place) == [Owed(place.b_id, "pending", -3, -70)]
    assert await place.services.counters.recount() == 1
    assert (await lag_of(place, place.b)).pending_bytes == 5
    assert await place.services.counters.recount() == 0


async def test_operators_see_all_tenants_together_and_whose_documents_wait(services: Services) -> None:
    one, two = await make_place(services), await make_place(services)
    await services.stores.grant_store(HOST, two.tenant_id, one.b)
    for place, copies in ((one, [one.b]), (two, [one.b, two.b])):
        await services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=copies)
        await place.upload(b"12345")
    await two.upload(b"123")
    await run_sql(two, "UPDATE transfers SET created_at = now() - interval '2 hours'")
    every = {lag.store: lag for lag in await services.replication.of_all()}
    assert (every[one.b].pending_count, every[one.b].pending_bytes) == (3, 13)
    assert set(every) == {one.a, one.b, two.a, two.b}
    found = await services.replication.of_store(one.b)
    assert found.store.lag_seconds >= 7200
    assert [(lag.tenant_id, lag.pending_count) for lag in found.tenants] == [(two.tenant_id, 2), (one.tenant_id, 1)]
    assert (await lag_of(one, one.b)).pending_count == 1, "a tenant's numbers are its own"
    with pytest.raises(NotFound):
        await services.replication.of_store("no-such-store")


async def codes(services: Services) -> set[tuple[str, str | None]]:
    return {(one.code, one.store) for one in await services.health.list_degradations()}


async def test_what_is_wrong_has_a_name_and_is_told_once(place: Place) -> None:
    services = place.services
    assert await codes(services) == set()
    await place.upload(b"12345")
    await services.health.tell()
    await run_sql(place, "UPDATE transfers SET created_at = now() - interval '59 minutes', due_at = 'infinity'")
    assert await codes(services) == set(), "late after an hour, says the setting"
    await run_sql(place, "UPDATE transfers SET created_at = now() - interval '61 minutes'")
    assert await codes(services) == {("replication_late", place.b)}
    with structlog.testing.capture_logs() as told:
        for _ in range(2):
            await watchdog.tick(services)
        services.replication.late_seconds = 0
        await watchdog.tick(services)
    events = [(line["event"], line["code"]) for line in told if line["event"].startswith("health.")]
    assert events == [("health.degraded", "replication_late"), ("health.mended", "replication_late")]
    assert await codes(services) == set()
    await run_sql(place, "UPDATE transfers SET state = 'failed'")
    assert await codes(services) == {("copies_failed", place.b)}
    async with services.database.platform() as uow:
        await uow.execute(
            "UPDATE stores SET untrusted_at = now(), untrusted_reason = 'it smells' WHERE id = %s", [place.a_id]
        )
    await services.restores.declare(HOST, "restored from yesterday")
    assert await codes(services) == {
        ("copies_failed", place.b),
        ("store_untrusted", place.a),
        ("removals_held", None),
    }


async def test_numbers_for_prometheus_have_a_series_for_each_store_and_none_for_tenants(place: Place) -> None:
    await place.upload(b"12345")
    gauges = {gauge.name: gauge.values for gauge in await place.services.health.measure()}
    of_copies = gauges["simples3dms_replication_pending_copies"]
    assert ({"store": place.b, "owner": "platform"}, 1.0) in of_copies
    assert ({"store": place.a, "owner": "platform"}, 0.0) in of_copies
    assert ({"owner": "tenants"}, 0.0) in of_copies
    assert len(of_copies) == 3
    assert gauges["simples3dms_replication_pending_bytes"][0][1] == 5
    async with place.services.database.platform() as uow:
        await uow.execute("UPDATE stores SET owner_tenant_id = %s WHERE id = %s", [place.tenant_id, place.b_id])
    gauges = {gauge.name: gauge.values for gauge in await place.services.health.measure()}
    assert ({"owner": "tenants"}, 1.0) in gauges["simples3dms_replication_pending_copies"]
    assert place.b not in str(gauges)


async def test_a_placement_that_was_changed_says_that_more_may_come(place: Place) -> None:
    await place.services.transfers.survey(place.tenant_id)
    assert not (await place.services.replication.of_tenant(place.tenant_id)).is_surveying
    await place.services.placements.set_placement(HOST, place.tenant_id, write=place.a)
    await place.upload(b"12345")
    await place.services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b])
    assert (await place.services.replication.of_tenant(place.tenant_id)).is_surveying
    async with working(place.services):
        async with asyncio.timeout(60):
            while (await place.services.replication.of_tenant(place.tenant_id)).is_surveying:
                await asyncio.sleep(0.05)
        await quiet(place)
    assert len(await place.listing(place.b_id)) == 1


async def test_ages_come_from_an_index_alone(place: Place, cluster: Cluster, urls: Provisioned) -> None:
    """Whatever waits: the first entry of an index, for a tenant as for all; and no blob has to be read."""
    name = str(psycopg.conninfo.conninfo_to_dict(urls.app_url)["dbname"])
    await place.upload(b"12345")
    superuser = await psycopg.AsyncConnection.connect(cluster.server.superuser_dsn(name), autocommit=True)
    async with superuser:
        await superuser.execute(
            """INSERT INTO blobs (tenant_id, id, digest, size_bytes)
               SELECT %s, gen_random_uuid(), sha256(n::text::bytea), 1 FROM generate_series(1, 3000) n""",
            [place.tenant_id],
        )
        await superuser.execute(
            """INSERT INTO transfers (tenant_id, id, blob_id, target_store_id, state)
               SELECT tenant_id, gen_random_uuid(), id, %s, 'pending' FROM blobs WHERE size_bytes = 1""",
            [place.b_id],
        )
        await superuser.execute("VACUUM ANALYZE transfers, blobs")
        async with superuser.transaction():
            await superuser.execute("LOCK TABLE blobs, replicas IN ACCESS EXCLUSIVE MODE")
            async with asyncio.timeout(20):
                assert (await lag_of(place, place.b)).pending_count == 3001
                assert (await place.services.replication.of_all())[0].pending_bytes == 3005
    database = place.services.database
    async with database.tenant(place.tenant_id) as uow:
        of_tenant = await plan(uow, repository._OF_TENANT, {"tenant": place.tenant_id})
    async with database.platform() as uow:
        of_all = await plan(uow, repository._OF_ALL, {"store": None})
    assert "Index Only Scan using transfers_waiting on transfers" in of_tenant, of_tenant
    assert "Index Only Scan using transfers_waiting_at_store on transfers" in of_all, of_all
    for text in (of_tenant, of_all):
        assert "Seq Scan on transfers" not in text, text


async def plan(uow: Any, statement: str, params: dict[str, UUID | None]) -> str:
    return "\n".join(await uow.scalars(f"EXPLAIN {statement}", params))
