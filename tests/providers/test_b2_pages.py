"""B2 behind a proxy that lies: pages that never end, ranges that are other ranges; and many versions of one name."""

from __future__ import annotations

import asyncio
import json
import secrets
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


def make(server: B2Sandbox, realm: str) -> StorageProvider:
    credential = {"application_key_id": server.application_key_id, "application_key": server.application_key}
    kind = get_kind("b2").create(
        {"realm": realm, "bucket": "documents"}, credential, options=BuildOptions(read_seconds=5)
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
