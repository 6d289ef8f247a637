"""B2 behind a proxy that lies: pages that never end, ranges that are other ranges; and many versions of one name."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from simples3dms.providers.base import StorageProvider
from simples3dms.providers.errors import IntegrityError, StoreUnavailable
from simples3dms.providers.kinds.b2 import provider as b2_provider
from simples3dms.providers.registry import BuildOptions, get_kind
from simples3dms.providers.stack import StackSettings, build_stack
from simples3dms.sandbox.b2 import B2Sandbox
from simples3dms.sandbox.httpfaults import Answer, HttpFaultProxy

pytestmark = pytest.mark.anyio
BODY = secrets.token_bytes(40_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[B2Sandbox]:
    with B2Sandbox(tmp_path_factory.mktemp("b2"), buckets=("documents",)) as server:
        yield server


@pytest.fixture
def proxy(server: B2Sandbox) -> Iterator[HttpFaultProxy]:
    port = int(server.url.rpartition(":")[2])
    with HttpFaultProxy(port) as proxy:

        def here(answer: Answer) -> Answer:
            assert isinstance(answer.body, bytes)
            body = answer.body.replace(f":{port}".encode(), f":{proxy.port}".encode())
            return replace(answer, body=body).having(Content_Length=str(len(body)))

        proxy.add("b2_authorize_account", change=here)
        yield proxy


def credential_of(server: B2Sandbox) -> dict[str, str]:
    return {"application_key_id": server.application_key_id, "application_key": server.application_key}


def make(server: B2Sandbox, realm: str) -> StorageProvider:
    kind = get_kind("b2").create(
        {"realm": realm, "bucket": "documents"}, credential_of(server), options=BuildOptions(read_seconds=5)
    )
    return build_stack(kind, StackSettings(retry_attempts=1))


@pytest.fixture
async def store(server: B2Sandbox, proxy: HttpFaultProxy) -> AsyncIterator[StorageProvider]:
    store = make(server, proxy.url)
    yield store
    await store.close()


def saying(**fields: Any) -> Callable[[Answer], Answer]:
    def change(answer: Answer) -> Answer:
        assert isinstance(answer.body, bytes)
        body = json.dumps({**json.loads(answer.body), **fields}).encode()
        return replace(answer, body=body).having(Content_Length=str(len(body)))

    return change


async def test_f50_a_listing_that_never_gets_anywhere_ends_as_an_error(
    store: StorageProvider, proxy: HttpFaultProxy
) -> None:
    """The same page again and again, of versions, of unfinished files and of parts."""
    made = await store.put("stuck", BODY)
    upload = await store.begin_parts("stuck")
    part = await store.put_part(upload, 1, BODY)
    assert list(await store.list_parts(upload)) == [part]
    lies = {
        "b2_list_file_versions": saying(nextFileName="stuck", nextFileId=made.version_id),
        "b2_list_unfinished_large_files": saying(nextFileId=upload.upload_id),
    }
    async with asyncio.timeout(60):
        for call, lie in lies.items():
            fault = proxy.add(call, change=lie)
            with pytest.raises(StoreUnavailable) as caught:
                await store.discard("stuck")
            assert caught.value.vendor_code == "malformed_answer"
            proxy.faults.remove(fault)
        upload = await store.begin_parts("stuck")
        proxy.add("b2_list_parts", change=saying(nextPartNumber=1))
        with pytest.raises(StoreUnavailable):
            await store.list_parts(upload)
    assert proxy.count("b2_list_parts") <= 3


async def test_mode_16_a_name_of_many_versions_goes_page_by_page(
    store: StorageProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(b2_provider, "_LIST_PAGE", 2)
    monkeypatch.setattr(b2_provider, "_UNFINISHED_PAGE", 2)
    for _ in range(5):
        await store.put("many", BODY)
        await store.begin_parts("many")
    await store.put("many-more", BODY)
    await store.discard("many")
    assert [info.key async for info in store.list("many")] == ["many-more"]
    assert [info async for info in store.list_unfinished("many")] == []


async def test_pages_in_a_ring_end_as_an_error(store: StorageProvider, proxy: HttpFaultProxy) -> None:
    """Each page names another one than itself, and none is the last."""
    made = [(await store.put("ring", BODY)).version_id for _ in range(3)]
    begun = [(await store.begin_parts("ring")).upload_id for _ in range(3)]
    lies = {
        "b2_list_file_versions": ({"nextFileName": "ring", "nextFileId": one} for one in itertools.cycle(made)),
        "b2_list_unfinished_large_files": ({"nextFileId": one} for one in itertools.cycle(begun)),
    }
    async with asyncio.timeout(60):
        for call, ring in lies.items():
            fault = proxy.add(call, change=lambda answer, ring=ring: saying(**next(ring))(answer))
            with pytest.raises(StoreUnavailable):
                await store.discard("ring")
            assert proxy.count(call) <= 8
            proxy.faults.remove(fault)
    await store.discard("ring")
    assert [info async for info in store.list("ring")] == []


async def test_a_page_that_leads_to_itself_is_an_error_whoever_turns_it(
    server: B2Sandbox, proxy: HttpFaultProxy
) -> None:
    """One page at a time, as an upkeep that keeps its place turns them."""
    store = get_kind("b2").create({"realm": proxy.url, "bucket": "documents"}, credential_of(server))
    made, upload = await store.put("itself", BODY), await store.begin_parts("itself")
    proxy.add("b2_list_file_versions", change=saying(nextFileName="itself", nextFileId=made.version_id))
    proxy.add("b2_list_unfinished_large_files", change=saying(nextFileId=upload.upload_id))
    for unfinished in (False, True):
        page = await store.list_page("itself", unfinished=unfinished)
        assert page.cursor is not None
        with pytest.raises(StoreUnavailable) as caught:
            await store.list_page("itself", cursor=page.cursor, unfinished=unfinished)
        assert caught.value.vendor_code == "malformed_answer"
    await store.close()


async def test_parts_past_the_last_possible_one_are_not_asked_for(
    store: StorageProvider, proxy: HttpFaultProxy
) -> None:
    upload = await store.begin_parts("parts")
    numbers = itertools.count(1001, 1000)
    proxy.add("b2_list_parts", change=lambda answer: saying(nextPartNumber=next(numbers))(answer))
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable):
            await store.list_parts(upload)
    assert proxy.count("b2_list_parts") == 10


async def test_whoever_gives_up_on_a_long_list_of_parts_has_no_more_pages_asked_for(
    store: StorageProvider, proxy: HttpFaultProxy
) -> None:
    upload = await store.begin_parts("long")
    numbers, enough, go_on = itertools.count(2), threading.Event(), threading.Event()

    def held(answer: Answer) -> Answer:
        if (number := next(numbers)) == 5:
            enough.set()
            go_on.wait(30)
        return saying(nextPartNumber=number)(answer)

    proxy.add("b2_list_parts", change=held)
    listing = asyncio.create_task(store.list_parts(upload))
    assert await asyncio.to_thread(enough.wait, 30)
    listing.cancel()
    await asyncio.gather(listing, return_exceptions=True)
    go_on.set()
    await asyncio.sleep(0.5)
    assert proxy.count("b2_list_parts") == 4
    await store.discard("long")


async def test_what_one_page_names_is_removed_before_the_next_is_asked_for(
    store: StorageProvider, proxy: HttpFaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a name of a million versions costs the memory of a page."""
    monkeypatch.setattr(b2_provider, "_LIST_PAGE", 2)
    for _ in range(6):
        await store.put("flat", BODY)
    proxy.requests.clear()
    await store.discard("flat")
    letters = {"b2_list_file_versions": "L", "b2_delete_file_version": "d"}
    called = "".join(letters.get(request.rpartition("/")[2], "") for request in proxy.requests)
    assert called == "LddLddLdd"


RANGES: dict[str, Callable[[Answer], Answer]] = {
    "answered with all": lambda answer: replace(answer, status=200),
    "another range": lambda answer: answer.having(Content_Range=f"bytes 11-20/{len(BODY)}"),
    "of another object": lambda answer: answer.having(Content_Range="bytes 10-19/77"),
    "without a range": lambda answer: answer.without("Content-Range"),
    "no range at all": lambda answer: answer.having(Content_Range="bytes ten"),
}


@pytest.mark.parametrize("lie", sorted(RANGES))
async def test_f30_a_range_that_is_another_one_is_noticed(
    store: StorageProvider, proxy: HttpFaultProxy, lie: str
) -> None:
    made = await store.put("ranged", BODY)

    async def read() -> bytes:
        async with store.open("ranged", version_id=made.version_id, start=10, length=10) as reader:
            return b"".join([chunk async for chunk in reader])

    assert await read() == BODY[10:20]
    proxy.add("b2_download_file_by_id", change=RANGES[lie])
    with pytest.raises(IntegrityError):
        await read()
