"""Everything cut off from everything, and lines that lose a third of what goes over them: afterwards all is well."""

from __future__ import annotations

import asyncio
import secrets
from uuid import UUID

import pytest
from tests.faults.parted import Line, make_parted, worker
from tests.support import Place, assert_clean, chunked, quiet

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.db.provision import Provisioned
from simples3dms.documents.values import UploadRequest
from simples3dms.errors import Failure
from simples3dms.sandbox.faultproxy import FaultProxy, Flow
from simples3dms.sandbox.seaweedfs import SeaweedServer
from simples3dms.settings import Settings

pytestmark = pytest.mark.anyio
#: How long everything may take to be as the placement wants it, once the lines are whole: a minute, and the other tests
#: of this machine take theirs.
CONVERGED_SECONDS = 150


@pytest.fixture
async def place(services: Services, server: SeaweedServer, lines: tuple[Line, Line]) -> Place:
    return await make_parted(services, server, lines)


async def upload_until_taken(place: Place, body: bytes, *, tries: int = 60) -> UUID:
    """As a client does it: the same request again, under the same key, for as long as the answer says that it may."""
    key = secrets.token_hex(8)
    for _ in range(tries):
        request = UploadRequest("file.bin", "application/octet-stream", size_bytes=len(body), idempotency_key=key)
        try:
            return (await place.services.uploads.upload(HOST, place.tenant_id, request, chunked(body))).document.id
        except Failure as failure:
            if not failure.retryable:
                raise
            await asyncio.sleep(0.1)
    raise AssertionError("no attempt was taken")


async def fill(place: Place, count: int) -> dict[UUID, bytes]:
    bodies = [secrets.token_bytes(1000 + number) for number in range(count)]
    return {await upload_until_taken(place, body): body for body in bodies}


async def assert_whole(place: Place, bodies: dict[UUID, bytes]) -> None:
    """Each document is there once, lies once at each store, and nothing else does."""
    await assert_clean(place.services)
    async with place.services.database.tenant(place.tenant_id) as uow:
        # Of what was purged, a document's row stays; its versions do not.
        assert await uow.scalar("SELECT count(*) FROM versions") == len(bodies)
    for document_id, body in bodies.items():
        assert await place.read(document_id) == body
    for store_id in (place.a_id, place.b_id):
        assert len(await place.listing(store_id)) == len(bodies)


async def remove(place: Place, bodies: dict[UUID, bytes], count: int) -> None:
    for document_id in list(bodies)[:count]:
        await place.services.documents.delete_document(HOST, place.tenant_id, document_id)
        await place.services.documents.purge_document(HOST, place.tenant_id, document_id)
        del bodies[document_id]


async def test_f46_after_a_full_partition_everything_converges(
    place: Place, settings: Settings, lines: tuple[Line, Line], database_line: tuple[FaultProxy, str]
) -> None:
    to_database, through = database_line
    async with worker(settings, through) as (first, _):
        bodies = await fill(place, 8)
        await remove(place, bodies, 3)
        for line in lines:
            line.part()
        to_database.is_blackhole = True
        with pytest.raises(Failure) as caught:
            await place.upload(b"nowhere to go")
        assert caught.value.retryable
        for line in lines:
            line.heal()
        to_database.kill_all()
        to_database.accept()
        bodies |= await fill(place, 2)
        await quiet(place, seconds=CONVERGED_SECONDS)
        assert first.poll() is None
        await assert_whole(place, bodies)


@pytest.mark.parametrize("count", [6, pytest.param(60, marks=pytest.mark.long)])
async def test_f46_lines_that_lose_a_third_leave_nothing_twice_and_nothing_out(
    place: Place,
    settings: Settings,
    urls: Provisioned,
    lines: tuple[Line, Line],
    database_line: tuple[FaultProxy, str],
    count: int,
) -> None:
    to_database, through = database_line
    async with worker(settings, through) as (first, _):
        bodies = await fill(place, 1)
        await quiet(place)  # it has started
        for line in lines:
            # Of what is asked, and of what is answered: together three of ten requests come to nothing.
            line.tcp.up, line.tcp.down = Flow(cut_share=0.15), Flow(cut_share=0.15)
        to_database.up, to_database.down = Flow(cut_share=0.02), Flow(cut_share=0.02)
        bodies |= await fill(place, count)
        await remove(place, bodies, count // 3)
        for _ in range(60):
            if any(line.tcp.cut_count for line in lines):
                break
            # Connections are used again, and it is by chance which of them are cut.
            bodies |= await fill(place, 1)
        assert sum(line.tcp.cut_count for line in lines) > 0
        for line in lines:
            line.tcp.heal()
        to_database.heal()
        assert first.poll() is None
        await quiet(place, seconds=CONVERGED_SECONDS)
        assert first.poll() is None
        await assert_whole(place, bodies)
