"""A COMMIT that was sent and never answered: what was done is found out, or it is said that nobody knows; never twice.

Between the service and PostgreSQL stands a proxy. In a row, each COMMIT of an act gets lost: once on its way there, and
once on its way back, when all has been done.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr
from tests.support import Place, assert_clean, make_place, quiet, working

from simples3dms.bootstrap import Services, build_services
from simples3dms.context import HOST
from simples3dms.documents.values import UploadResult
from simples3dms.errors import Failure
from simples3dms.sandbox.faultproxy import FaultProxy, LostAnswer
from simples3dms.settings import Settings
from simples3dms.storage.migrations.values import Migration

pytestmark = pytest.mark.anyio
T = TypeVar("T")
_COMMIT = b"COMMIT"
#: More than any act here has.
_MOST_COMMITS = 30
_TRIES = 5


@pytest.fixture
async def proxy(settings: Settings) -> AsyncIterator[FaultProxy]:
    assert settings.database_url is not None
    at = conninfo_to_dict(settings.database_url.get_secret_value())
    async with FaultProxy(Path(at["host"]) / f".s.PGSQL.{at['port']}") as proxy:
        yield proxy


@pytest.fixture
async def services(settings: Settings, proxy: FaultProxy) -> AsyncIterator[Services]:
    assert settings.database_url is not None
    url = make_conninfo(settings.database_url.get_secret_value(), host="127.0.0.1", port=proxy.port, sslmode="disable")
    behind = settings.model_copy(update={"database_url": SecretStr(url), "lease_seconds": 30})
    services = await asyncio.to_thread(build_services, behind)
    await services.open()
    yield services
    proxy.heal()
    await services.close()


async def _each_lost(
    proxy: FaultProxy, act: Callable[[int], Awaitable[T]], check: Callable[[int, T], Awaitable[None]]
) -> list[int]:
    """The act again and again, with its first COMMIT lost, its second, and so on; repeated as a client does while it is
    told to. How many COMMITs it has, lost on the way there and on the way back."""
    counts, number = [], 0
    for is_delivered in (False, True):
        for at in range(1, _MOST_COMMITS):
            number += 1
            proxy.lost_answer = lost = LostAnswer(_COMMIT, at, is_delivered)
            result = await _insisting(lambda number=number: act(number))
            proxy.lost_answer = None
            await check(number, result)
            if not lost.is_done:
                counts.append(at - 1)
                break
    return counts


async def _insisting(act: Callable[[], Awaitable[T]]) -> T:
    for _ in range(_TRIES):
        try:
            return await act()
        except Failure as failure:
            if not failure.retryable:
                raise
    raise AssertionError("it is told again and again to try again")


async def _events(place: Place, action: str) -> int:
    async with place.services.database.tenant(place.tenant_id) as uow:
        return int(await uow.scalar("SELECT count(*) FROM audit_events WHERE action = %s", [action]))


async def test_f18_an_upload_has_one_effect_and_one_answer(services: Services, proxy: FaultProxy) -> None:
    place = await make_place(services)
    bodies = {}

    async def upload(number: int) -> UploadResult:
        return await place.upload(b"body %d" % number, idempotency_key=f"key-{number}")

    async def check(number: int, result: UploadResult) -> None:
        again = await upload(number)
        assert (again.document.id, again.version.number, again.replayed) == (result.document.id, 1, True)
        assert await place.read(result.document.id) == b"body %d" % number
        bodies[result.document.id] = b"body %d" % number
        assert {one.id for one in await services.documents.list_documents(place.tenant_id)} == set(bodies)
        assert await _events(place, "document.uploaded") == len(bodies)

    there, back = await _each_lost(proxy, upload, check)
    assert there >= 2
    assert back >= 2
    async with services.database.tenant(place.tenant_id) as uow:
        assert await uow.scalar("SELECT sum(document_count) FROM usage_shards") == len(bodies)
        # Nobody is at work any more: what was given up need not be waited for.
        await uow.execute("UPDATE replicas SET lease_until = now() WHERE state IN ('writing', 'retiring')")
        await uow.execute("UPDATE uploads SET lease_until = now() WHERE state = 'open'")
    async with working(services):
        await quiet(place)
    assert len(await place.listing(place.a_id)) == len(bodies)
    await assert_clean(services)


async def test_f18_an_upload_that_was_done_is_told_so_without_a_key(services: Services, proxy: FaultProxy) -> None:
    """Its last COMMIT was done and its answer lost: a repeat would make a second document, so there must be none."""
    place = await make_place(services)
    await place.upload(b"the first one looks up its store")
    proxy.lost_answer = lost = LostAnswer(_COMMIT, at=10**6)
    await place.upload(b"counts its commits")
    last = lost.seen_count
    proxy.lost_answer = LostAnswer(_COMMIT, at=last)
    result = await place.upload(b"once")
    assert (proxy.lost_answer.is_done, result.replayed) == (True, False)
    assert await place.read(result.document.id) == b"once"
    assert await _events(place, "document.uploaded") == 3


async def test_f18_a_document_is_deleted_and_purged_once(services: Services, proxy: FaultProxy) -> None:
    place = await make_place(services)
    documents = [(await place.upload(b"body")).document.id for _ in range(8)]
    gone = 0

    async def delete(number: int) -> None:
        await services.documents.delete_document(HOST, place.tenant_id, documents[number])

    async def purge(number: int) -> None:
        try:
            await services.documents.purge_document(HOST, place.tenant_id, documents[number - 1])
        except Failure as failure:
            # The truth, asked again, is that it is gone.
            if failure.problem_code != "document_not_found":
                raise

    async def is_deleted(number: int, _: None) -> None:
        found = await services.documents.get_document(place.tenant_id, documents[number])
        assert found.deleted_at is not None
        assert await _events(place, "document.deleted") == number

    async def is_purged(number: int, _: None) -> None:
        nonlocal gone
        gone += 1
        assert await _events(place, "document.purged") == gone

    assert min(await _each_lost(proxy, delete, is_deleted)) >= 1
    await services.documents.delete_document(HOST, place.tenant_id, documents[0])
    assert min(await _each_lost(proxy, purge, is_purged)) >= 1
    async with services.database.tenant(place.tenant_id) as uow:
        assert await uow.scalar("SELECT sum(document_count) FROM usage_shards") == len(documents) - gone
    async with working(services):
        await quiet(place)
    assert len(await place.listing(place.a_id)) == len(documents) - gone
    await assert_clean(services)


async def test_f18_a_migration_turns_once(services: Services, proxy: FaultProxy) -> None:
    """Each COMMIT of a cut-over gets lost, of one migration after the other, there and back."""
    place = await make_place(services)
    body = b"moved to and fro"
    document_id = (await place.upload(body)).document.id
    migrations, engine = services.migrations, services.migration_engine
    turns = 0

    async def ready() -> Any:
        write = (await services.placements.get_placement(place.tenant_id)).write
        target = place.b if write == place.a else place.a
        planned = await migrations.plan_migration(HOST, place.tenant_id, target=target)
        await migrations.start_migration(HOST, place.tenant_id, planned.id)
        await engine.advance(place.tenant_id, planned.id)
        await engine.run_chunk(place.tenant_id, planned.id, "copy", 1)
        assert await engine.advance(place.tenant_id, planned.id) == "ready"
        return planned.id

    under_way: dict[int, Any] = {}

    async def cut_over(number: int) -> Migration:
        try:
            return await migrations.cut_over(HOST, place.tenant_id, under_way[number])
        except Failure as failure:
            if failure.problem_code != "migration_already_cut_over":
                raise
            return await place.migration(under_way[number])

    async def prepared(number: int) -> Migration:
        lost, proxy.lost_answer = proxy.lost_answer, None
        if number not in under_way:
            under_way[number] = await ready()
        proxy.lost_answer = lost
        return await cut_over(number)

    async def check(number: int, migration: Migration) -> None:
        nonlocal turns
        turns += 1
        assert migration.state == "soaking"
        placement = await services.placements.get_placement(place.tenant_id)
        # The first one, and three for each migration: started, cut over, rolled back. This one is still to be so.
        assert placement.version == 1 + 3 * turns - 1
        assert await _events(place, "migration.cut_over") == turns
        assert await place.read(document_id) == body
        await migrations.roll_back(HOST, place.tenant_id, under_way[number])
        # What workers do; with one at work, nobody could say whose COMMIT gets lost.
        async with asyncio.timeout(60):
            while (await place.migration(under_way[number])).state != "rolled_back":
                await engine.advance(place.tenant_id, under_way[number])
                await engine.run_chunk(place.tenant_id, under_way[number], "evacuate", 1)
                await services.blobs.sweep(place.tenant_id)

    there, back = await _each_lost(proxy, prepared, check)
    assert there == back >= 3
    assert await place.read(document_id) == body
    await assert_clean(services)
