"""A store that can't be reached any more, and then can: people go on, what is due there waits, and drains calmly."""

from __future__ import annotations

import asyncio
import secrets
from uuid import UUID

import pytest
from tests.faults.parted import BUDGET, Cut, Line, make_parted
from tests.support import Place, assert_clean, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.errors import Failure
from simples3dms.sandbox.seaweedfs import SeaweedServer

pytestmark = pytest.mark.anyio

long = pytest.mark.long


@pytest.fixture
async def place(services: Services, server: SeaweedServer, lines: tuple[Line, Line]) -> Place:
    return await make_parted(services, server, lines)


async def put_in(place: Place, count: int) -> dict[UUID, bytes]:
    """So many small documents, a few at a time."""
    bodies = [secrets.token_bytes(500) for _ in range(count)]
    slots = asyncio.Semaphore(8)

    async def one(body: bytes) -> UUID:
        async with slots:
            return (await place.upload(body)).document.id

    return dict(zip(await asyncio.gather(*(one(body) for body in bodies)), bodies, strict=True))


async def assert_whole(place: Place, bodies: dict[UUID, bytes]) -> None:
    """Each document can be read, lies once at each store, and nothing else does."""
    await assert_clean(place.services)
    for document_id, body in bodies.items():
        assert await place.read(document_id) == body
    for store_id in (place.a_id, place.b_id):
        assert len(await place.listing(store_id)) == len(bodies)


@pytest.mark.parametrize("how", ["hole", pytest.param("refused", marks=long), pytest.param("answers", marks=long)])
async def test_f44_people_go_on_without_the_store_that_is_cut_off(
    place: Place, lines: tuple[Line, Line], how: Cut
) -> None:
    async with working(place.services):
        bodies = await put_in(place, 3)
        await quiet(place)
        lines[0].part(how)
        for document_id, body in bodies.items():
            assert await place.read(document_id) == body
        bodies |= await put_in(place, 30)
        for document_id, body in bodies.items():
            assert await place.read(document_id) == body
        assert len(await place.listing(place.b_id)) == len(bodies)
        lines[0].heal()
        await quiet(place, seconds=60)
        # What was never sent there need not be looked for there.
        assert lines[0].http.count("DELETE") <= 3 * BUDGET
        await assert_whole(place, bodies)


@pytest.mark.parametrize("how", [pytest.param("hole", marks=long), "answers"])
async def test_f44_where_both_stores_are_asked_for_an_upload_fails_whole(
    place: Place, lines: tuple[Line, Line], how: Cut
) -> None:
    await place.services.placements.set_placement(HOST, place.tenant_id, write="a", copies=["b"], min_acks=2)
    lines[0].part(how)
    with pytest.raises(Failure) as caught:
        await place.upload(b"nowhere")
    assert (caught.value.problem_code, caught.value.retryable) == ("too_few_stores", True)
    lines[0].heal()
    async with working(place.services):
        await quiet(place, seconds=60)
        bodies = await put_in(place, 2)
        await quiet(place, seconds=60)
        await assert_whole(place, bodies)


@pytest.mark.parametrize("backlog", [60, pytest.param(200, marks=long)])
async def test_f44_a_backlog_drains_without_a_storm(place: Place, lines: tuple[Line, Line], backlog: int) -> None:
    """While the store is down it is asked now and then, and when it is back for little more than it is owed."""
    line = lines[1]
    async with working(place.services):
        line.part()
        before = line.tcp.accepted_count
        bodies = await put_in(place, backlog)
        async with asyncio.timeout(60):
            # Given up, and asked again in vain.
            while not place.services.stores.is_resting(place.b_id) or await most_attempts(place) < 2:
                await asyncio.sleep(0.02)
        asked = line.tcp.accepted_count - before
        line.http.requests.clear()
        line.http.most_at_once = 0
        line.heal()
        await quiet(place, seconds=60)
        requests, most_at_once = list(line.http.requests), line.http.most_at_once
    await assert_whole(place, bodies)
    assert asked <= 4 * BUDGET, "it was asked again and again while it was down"
    assert 1 <= most_at_once <= BUDGET
    # One to write each, one to read it back; and what is left of the few that were under way when it went.
    assert sum(request.startswith("PUT") for request in requests) <= backlog + BUDGET
    assert len(requests) <= backlog * 2 + 20 * BUDGET


async def most_attempts(place: Place) -> int:
    async with place.services.database.tenant(place.tenant_id) as uow:
        return int(await uow.scalar("SELECT coalesce(max(attempt), 0) FROM transfers") or 0)
