"""Uploads that several stores must have before they are answered, and stores that stand in for one that fails."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from tests.storage.test_router import policies, subjects
from tests.support import Place, assert_clean, chunked, make_place, quiet, working

from simples3dms.bootstrap import Services
from simples3dms.context import HOST
from simples3dms.documents.values import UploadRequest
from simples3dms.errors import Failure
from simples3dms.kit.streams import Tee
from simples3dms.providers.errors import StoreUnavailable
from simples3dms.storage.blobs import repository as blobs_repository
from simples3dms.storage.placement.router import needs_size, stores_for_writing, wanted_stores
from simples3dms.storage.placement.values import Match, Policy, RuleWords, Subject

LARGE = b"0123456789abcdef" * 200_000


@pytest.fixture
async def place(services: Services) -> Place:
    place = await make_place(services)
    await services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b], min_acks=2)
    return place


async def replicas(place: Place) -> dict[str, tuple[str, str]]:
    async with place.services.database.tenant(place.tenant_id) as uow:
        cursor = await uow.connection.execute(
            "SELECT store_id, state, evidence FROM replicas WHERE blob_id IS NOT NULL"
        )
        names = {place.a_id: "a", place.b_id: "b"}
        return {names[store_id]: (state, evidence) for store_id, state, evidence in await cursor.fetchall()}


async def break_put(
    monkeypatch: pytest.MonkeyPatch, place: Place, store_id: UUID, *, after: int = 0, error: Exception | None = None
) -> None:
    """Have a store fail its writes, of a stream after so many chunks of it."""
    provider = await place.services.stores.provider(store_id)

    async def put(key: str, body: Any, **_: Any) -> Any:
        if after:
            assert not isinstance(body, bytes)
            chunks = aiter(body)
            for _number in range(after):
                await anext(chunks)
        raise error or StoreUnavailable("down")

    monkeypatch.setattr(provider, "put", put)


async def code_of(act: Any) -> tuple[str, bool]:
    with pytest.raises(Failure) as caught:
        await act
    return caught.value.problem_code, caught.value.retryable


@pytest.mark.anyio
@pytest.mark.parametrize("body", [b"small", LARGE, b""], ids=["held", "streamed", "empty"])
async def test_both_stores_have_it_before_the_answer(place: Place, body: bytes) -> None:
    done = await place.upload(body, sha256=hashlib.sha256(body).digest())
    assert await replicas(place) == {"a": ("live", "written"), "b": ("live", "written")}
    for store_id in (place.a_id, place.b_id):
        (info,) = await place.listing(store_id)
        assert info.size_bytes == len(body)
    async with working(place.services):
        await quiet(place)
    assert (await replicas(place))["b"] == ("live", "read-back"), "a copy counts when it was read back, as ever"
    assert await place.read(done.document.id) == body
    await assert_clean(place.services)


@pytest.mark.anyio
@pytest.mark.parametrize("body", [b"small", LARGE], ids=["held", "streamed"])
@pytest.mark.parametrize("broken", ["a", "b"])
async def test_with_too_few_stores_nothing_is_stored(
    place: Place, body: bytes, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await break_put(monkeypatch, place, place.a_id if broken == "a" else place.b_id)
    assert await code_of(place.upload(body)) == ("too_few_stores", True)
    assert await replicas(place) == {}
    monkeypatch.undo()
    async with working(place.services):
        await quiet(place)
    assert await place.listing(place.a_id) == await place.listing(place.b_id) == []
    async with place.services.database.tenant(place.tenant_id) as uow:
        assert await uow.scalar("SELECT count(*) FROM documents", []) == 0
    await assert_clean(place.services)


@pytest.mark.anyio
async def test_one_that_fails_midway_ends_the_upload(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await break_put(monkeypatch, place, place.b_id, after=3)
    assert await code_of(place.upload(LARGE)) == ("too_few_stores", True)
    assert await replicas(place) == {}


@pytest.mark.anyio
@pytest.mark.parametrize("body", [b"small", LARGE], ids=["held", "streamed"])
async def test_the_clients_fault_is_told_as_its_own(place: Place, body: bytes) -> None:
    assert await code_of(place.upload(body, size_bytes=len(body) + 1)) == ("size_mismatch", False)
    assert await code_of(place.upload(body, sha256=b"x" * 32)) == ("digest_mismatch", False)
    assert await replicas(place) == {}


@pytest.mark.anyio
@pytest.mark.parametrize("body", [b"small", LARGE], ids=["held", "streamed"])
async def test_a_copys_store_stands_in_for_the_write_target(
    place: Place, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as nothing of the body was read, or all of it is held."""
    await place.services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b])
    await break_put(monkeypatch, place, place.a_id)
    done = await place.upload(body)
    assert await replicas(place) == {"b": ("live", "written")}
    assert await place.read(done.document.id) == body
    monkeypatch.undo()
    async with working(place.services):
        await quiet(place)
    assert await replicas(place) == {"a": ("live", "read-back"), "b": ("live", "read-back")}
    await assert_clean(place.services)


@pytest.mark.anyio
async def test_the_claim_at_a_store_that_stands_in_is_kept_alive_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while what the first store may have got is given up, however long that takes."""
    await place.services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b])
    await break_put(monkeypatch, place, place.a_id)
    blobs = place.services.blobs
    give_up, extend_leases, beats = blobs.give_up, blobs_repository.extend_leases, asyncio.Queue[int]()

    async def extend(*args: Any, **how: Any) -> int:
        count = await extend_leases(*args, **how)
        beats.put_nowait(count)
        return count

    async def give_up_slowly(*args: Any, **how: Any) -> None:
        await give_up(*args, **how)
        while not beats.empty():
            beats.get_nowait()
        async with asyncio.timeout(10):
            for _ in range(2):
                await beats.get()

    monkeypatch.setattr(blobs, "lease_seconds", 1.0)
    monkeypatch.setattr(blobs, "give_up", give_up_slowly)
    monkeypatch.setattr(blobs_repository, "extend_leases", extend)
    done = await place.upload(b"small")
    assert await replicas(place) == {"b": ("live", "written")}
    assert await place.read(done.document.id) == b"small"


@pytest.mark.anyio
async def test_a_stream_that_was_begun_is_not_given_to_another(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await place.services.placements.set_placement(HOST, place.tenant_id, write=place.a, copies=[place.b])
    await break_put(monkeypatch, place, place.a_id, after=1)
    assert await code_of(place.upload(LARGE)) == ("store_unreachable", True)
    assert await replicas(place) == {}


@pytest.mark.anyio
async def test_a_size_that_decides_has_to_be_announced(place: Place) -> None:
    rule = RuleWords(place.a, (place.b,), min_acks=2, match=Match(("application/*",), min_bytes=10))
    await place.services.placements.set_placement(HOST, place.tenant_id, write=place.a, rules=[rule])
    assert await code_of(place.upload(b"x" * 20, size_bytes=None)) == ("upload_size_needed", False)
    await place.upload(b"x" * 20)
    assert set(await replicas(place)) == {"a", "b"}
    request = UploadRequest("x", "text/plain")
    await place.services.uploads.upload(HOST, place.tenant_id, request, chunked(b"x"))


@pytest.mark.anyio
async def test_the_slowest_reader_decides() -> None:
    """Nobody runs ahead: the stream is read on only when all have taken what there was."""
    read = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal read
        for number in range(100):
            read += 1
            yield b"%d" % number

    tee = Tee(source(), 2)
    pump = asyncio.create_task(tee.pump())
    slow = tee.read(1)
    fast = asyncio.create_task(_all(tee.read(0)))
    await anext(slow)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert read <= 4
    rest = await _all(slow)
    assert [b"0", *rest] == await fast == [b"%d" % number for number in range(100)]
    await pump


async def _all(chunks: AsyncIterator[bytes]) -> list[bytes]:
    return [chunk async for chunk in chunks]


@given(policies(), subjects())
def test_where_a_blob_belongs_is_written_first(policy: Policy, blob: Subject) -> None:
    stores = stores_for_writing(policy, blob)
    wanted = wanted_stores(policy, blob)
    assert stores[: len(wanted)] == wanted
    assert len(set(stores)) == len(stores)
    assert set(stores) <= set(policy.wanted_store_ids)
    if blob.size_bytes is not None:
        assert not needs_size(policy, blob)
