"""F19: the connection is killed while the queue notes a job's end over it: the row goes all the same, and soon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.conftest import Cluster
from tests.support import Place, assert_clean, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.settings import Settings

pytestmark = pytest.mark.anyio
Wait = Callable[..., Any]
DOING = "SELECT id FROM procrastinate_jobs WHERE status = 'doing' AND task_name = 'transfer.run'"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """One job at a time: a slot that is lost with a connection would be missed."""
    return settings.model_copy(update={"worker_concurrency": 1})


@pytest.fixture
async def place(services: Services) -> Place:
    place = await make_place(services)
    await services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b])
    return place


@pytest.fixture
async def superuser(cluster: Cluster, services: Services) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    name = conninfo_to_dict(services.urls.app_url)["dbname"]
    async with await psycopg.AsyncConnection.connect(cluster.server.superuser_dsn(str(name)), autocommit=True) as one:
        yield one


async def _kill_the_end_of(superuser: psycopg.AsyncConnection[Any], go_on: asyncio.Event, wait: Wait) -> int:
    """Let the job that is held come to its end, and kill the connection that notes it; the job's id."""
    # On a connection of its own: who is active is looked up once in a transaction.
    async with await psycopg.AsyncConnection.connect(superuser.info.dsn, password=superuser.info.password) as holder:
        cursor = await holder.execute(f"{DOING} FOR UPDATE")
        ((job_id,),) = await cursor.fetchall()
        go_on.set()

        async def killed() -> bool:
            found = await superuser.execute(
                """SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
                   AND wait_event_type = 'Lock' AND query LIKE '%procrastinate_finish_job%'"""
            )
            return await found.fetchone() is not None

        await wait(killed, seconds=30)
    return int(job_id)


async def _ids(superuser: psycopg.AsyncConnection[Any]) -> set[int]:
    return {row[0] for row in await (await superuser.execute(DOING)).fetchall()}


async def test_f19_a_job_whose_end_was_lost_is_not_taken_for_one_that_runs(
    place: Place, superuser: psycopg.AsyncConnection[Any], eventually: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = place.services
    run, at_its_end, go_on = services.transfers.run, asyncio.Event(), asyncio.Event()

    async def held(*ids: Any) -> None:
        await run(*ids)
        at_its_end.set()
        await go_on.wait()

    monkeypatch.setattr(services.transfers, "run", held)
    async with working(services):
        await place.upload(b"first")
        await at_its_end.wait()
        job_id = await _kill_the_end_of(superuser, go_on, eventually)
        assert await _ids(superuser) == {job_id}, "nobody has noted its end"

        async def gone() -> bool:
            return job_id not in await _ids(superuser)

        await eventually(gone, seconds=20)
        await place.upload(b"second")
        await eventually(lambda: _has_copies(place, 2), seconds=20)
        await quiet(place)
    await assert_clean(services)


async def test_f19_a_job_that_was_handed_out_into_nothing_is_queued_anew(
    place: Place, superuser: psycopg.AsyncConnection[Any], eventually: Wait
) -> None:
    """The answer to a worker's question for work was lost: it has never heard of the job that it is said to be at."""
    services = place.services
    await place.upload(b"first")
    await superuser.execute("UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 hour'")
    async with working(services):
        await eventually(lambda: _has_copies(place, 1), seconds=20)
        await superuser.execute(
            """UPDATE procrastinate_jobs SET status = 'doing', worker_id = (SELECT id FROM procrastinate_workers)
               WHERE scheduled_at > now()"""
        )
        lost = await _ids(superuser)
        assert lost

        async def gone() -> bool:
            return not lost & await _ids(superuser)

        await eventually(gone, seconds=20)
    await assert_clean(services)


async def _has_copies(place: Place, count: int) -> bool:
    return len(await place.listing(place.b_id)) == count
