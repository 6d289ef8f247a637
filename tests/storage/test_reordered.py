"""Jobs that come in any order, late, or long after what they were for is done: the end is the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.conftest import Cluster
from tests.support import Place, assert_clean, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.settings import Settings
from simples3dms.storage.migrations.values import Schedule

pytestmark = pytest.mark.anyio
#: Each job is put somewhere else in the queue; of those that may wait besides others of their kind, each third for an
#: hour. A job that is alone of its kind (`queueing_lock`) stands for work that waits as long as it does.
_SHUFFLE = """
CREATE FUNCTION shuffle_job() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  NEW.priority := floor(random() * 100)::int - 50;
  NEW.scheduled_at := now() + make_interval(secs => CASE
    WHEN NEW.queueing_lock IS NULL AND random() < 0.34 THEN 3600 ELSE random() * 0.7 END);
  RETURN NEW;
END $$;
CREATE TRIGGER shuffle_job BEFORE INSERT ON procrastinate_jobs FOR EACH ROW EXECUTE FUNCTION shuffle_job();
"""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"chunk_blobs": 4})


@asynccontextmanager
async def _queue(cluster: Cluster, services: Services) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """The queue's tables, as nobody of ours may touch them."""
    dsn = cluster.server.superuser_dsn(str(conninfo_to_dict(services.database.url)["dbname"]))
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        yield connection


async def _scenario(place: Place) -> dict[UUID, bytes]:
    """A move to the other store by itself, while documents come and go; what is alive at its end."""
    documents, migrations, tenant_id = place.services.documents, place.services.migrations, place.tenant_id
    bodies: dict[UUID, bytes] = {}

    async def upload(count: int) -> None:
        for number in range(count):
            body = b"%d of %d" % (number, len(bodies))
            bodies[(await place.upload(body)).document.id] = body

    async def remove(count: int) -> None:
        for document_id in list(bodies)[:count]:
            await documents.delete_document(HOST, tenant_id, document_id)
            await documents.purge_document(HOST, tenant_id, document_id)
            del bodies[document_id]

    await upload(12)
    schedule = Schedule(automatic_cutover=True, finalize_after_seconds=0)
    planned = await migrations.plan_migration(HOST, tenant_id, target=place.b, schedule=schedule)
    await migrations.start_migration(HOST, tenant_id, planned.id)
    await remove(3)
    await upload(3)
    await place.until(planned.id, "soaking", "finalizing", "done")
    await remove(3)
    await upload(3)
    await place.until(planned.id, "done")
    await remove(2)
    await quiet(place)
    return bodies


async def _state(place: Place) -> dict[str, Any]:
    """What the records and the stores have in the end."""
    async with place.services.database.tenant(place.tenant_id) as uow:
        cursor = await uow.connection.execute(
            """SELECT store_id, state, count(*) FROM replicas GROUP BY 1, 2 ORDER BY 1, 2"""
        )
        replicas = await cursor.fetchall()
        cursor = await uow.connection.execute(
            "SELECT action, count(*) FROM audit_events WHERE action <> 'migration.ready' GROUP BY 1 ORDER BY 1"
        )
        acts = await cursor.fetchall()
        left = await uow.scalar("SELECT count(*) FROM transfers")
        used = await uow.scalar("SELECT sum(document_count) FROM usage_shards")
    names = {place.a_id: "a", place.b_id: "b"}
    return {
        "replicas": [(names[store_id], *rest) for store_id, *rest in replicas],
        "acts": acts,
        "transfers": left,
        "documents": int(used),
        "objects": [len(await place.listing(store_id)) for store_id in names],
    }


async def test_f39_jobs_in_any_order_and_an_hour_late_end_alike(services: Services, cluster: Cluster) -> None:
    in_order = await make_place(services)
    shuffled = [await make_place(services) for _ in range(2)]
    async with _queue(cluster, services) as queue:
        async with working(services):
            await _scenario(in_order)
            expected = await _state(in_order)
            await queue.execute(_SHUFFLE)
            late_count = 0
            for place in shuffled:
                bodies = await _scenario(place)
                assert await _state(place) == expected
                # An hour later: what was left is run when all of it is done.
                late = await queue.execute("UPDATE procrastinate_jobs SET scheduled_at = now() WHERE status = 'todo'")
                late_count += late.rowcount
                await _until_empty(queue)
                await quiet(place)
                assert await _state(place) == expected
                assert {document_id: await place.read(document_id) for document_id in bodies} == bodies
        assert late_count > 0
        await assert_clean(services)


async def _until_empty(queue: psycopg.AsyncConnection[Any]) -> None:
    """No job is left of those that were to run by now; the watchdog's newer ones come and go."""
    cursor = await queue.execute("SELECT max(id) FROM procrastinate_jobs")
    ((newest,),) = await cursor.fetchall()
    async with asyncio.timeout(60):
        while True:
            cursor = await queue.execute("SELECT count(*) FROM procrastinate_jobs WHERE id <= %s", [newest])
            if await cursor.fetchall() == [(0,)]:
                return
            await asyncio.sleep(0.05)
