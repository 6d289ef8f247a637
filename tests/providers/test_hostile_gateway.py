"""Whoever stands before an S3 store and says 404 or 403 to everything is never believed about objects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from simples3dms.providers.base import ObjectRef, PartsUpload, StorageProvider
from simples3dms.providers.errors import BucketMissing, ObjectNotFound
from simples3dms.providers.registry import get_kind
from simples3dms.providers.stack import StackSettings, build_stack
from simples3dms.sandbox.httpfaults import Answer, HttpFaultProxy
from simples3dms.sandbox.seaweedfs import SeaweedServer

pytestmark = pytest.mark.anyio
XML = {"Content-Type": "application/xml"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def proxy(server: SeaweedServer) -> Iterator[HttpFaultProxy]:
    with HttpFaultProxy(server.port) as proxy:
        yield proxy


@pytest.fixture
async def store(server: SeaweedServer, proxy: HttpFaultProxy) -> AsyncIterator[StorageProvider]:
    provider = get_kind("s3").create(
        {"endpoint": proxy.url, "bucket": "docs", "prefix": "own"},
        {"access_key_id": server.access_key, "secret_access_key": server.secret_key},
    )
    store = build_stack(provider, StackSettings(retry_attempts=1))
    yield store
    await store.close()


async def read(store: StorageProvider, start: int) -> None:
    async with store.open("x", start=start) as reader:
        async for _ in reader:
            pass


@pytest.mark.parametrize("body", [b"", b"<html><h1>404 Not Found</h1></html>", b"404 page not found"])
async def test_mode_20_a_gateway_that_says_404_to_everything_has_lost_no_object(
    store: StorageProvider, proxy: HttpFaultProxy, body: bytes
) -> None:
    """Else reads would mark replicas missing, and deletes would be taken as done with the bytes still there."""
    await store.put("x", b"1")
    await store.check()
    proxy.add("/docs", instead=Answer(404, {"Content-Type": "text/html"}, body))
    upload = PartsUpload("x", "an-upload", 8 * 2**20)
    for act in (
        lambda: store.head("x"),
        lambda: read(store, 0),
        lambda: read(store, 1),
        lambda: store.discard("x"),
        lambda: store.abort_parts(upload),
        lambda: store.delete([ObjectRef("x")]),
        lambda: store.list_page(),
        lambda: store.list_page(unfinished=True),
        store.check,
    ):
        with pytest.raises(BucketMissing):
            await act()  # type: ignore[operator]
    proxy.faults.clear()
    await read(store, 0)


async def test_an_object_that_is_missing_is_still_said_to_be(store: StorageProvider) -> None:
    with pytest.raises(ObjectNotFound):
        await store.head("none")
    await store.discard("none")


async def test_whether_versions_are_kept_is_guessed_only_as_long_as_it_can_not_be_asked(
    store: StorageProvider, proxy: HttpFaultProxy
) -> None:
    denied = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>no</Message></Error>'
    fault = proxy.add("GET /docs?versioning", instead=Answer(403, XML, denied))
    for _ in range(2):
        before = proxy.count("GET /docs?versioning")
        await store.put("x", b"1")
        await store.discard("x")
        assert proxy.count("GET /docs?versioning") == before + 1
        assert [info async for info in store.list("x")] == []
    before = proxy.count("GET /docs?versioning")
    proxy.faults.remove(fault)
    for _ in range(3):
        await store.discard("x")
    assert proxy.count("GET /docs?versioning") == before + 1


@pytest.mark.parametrize("says_more", [True, False])
async def test_mode_14_a_full_page_is_followed_and_one_that_only_repeats_ends_the_listing(
    server: SeaweedServer, proxy: HttpFaultProxy, says_more: bool
) -> None:
    """JuiceFS tells a full page of versions as the last; others take no heed of where a page is to begin."""
    listed = "".join(f"<Contents><Key>{n:04}</Key><Size>1</Size><ETag>e</ETag></Contents>" for n in range(1000))
    more = "".join(f"<Contents><Key>{n:04}</Key><Size>1</Size><ETag>e</ETag></Contents>" for n in range(1000, 1007))
    page, rest = (
        Answer(200, XML, f"<ListBucketResult><IsTruncated>false</IsTruncated>{one}</ListBucketResult>".encode())
        for one in (listed, more)
    )
    if says_more:
        proxy.add("start-after=0999", instead=rest)
    proxy.add("GET /docs?list-type=2", instead=page)
    provider = get_kind("s3").create(
        {"endpoint": proxy.url, "bucket": "docs"},
        {"access_key_id": server.access_key, "secret_access_key": server.secret_key},
    )
    store = build_stack(provider, StackSettings(retry_attempts=1))
    assert len([info async for info in store.list()]) == (1007 if says_more else 1000)
    await store.close()
