"""S3 servers that lie in HTTP: errors in a 200, wrong ranges, short bodies that fit their length, endless answers."""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import psutil
import pytest

from simples3dms.providers.base import Expected, ObjectRef, StorageProvider
from simples3dms.providers.errors import (
    IntegrityError,
    ObjectNotFound,
    ProviderError,
    StoreTimedOut,
    StoreUnavailable,
    Throttled,
)
from simples3dms.providers.registry import BuildOptions, get_kind
from simples3dms.providers.stack import StackSettings, build_stack
from simples3dms.sandbox.httpfaults import Answer, HttpFaultProxy
from simples3dms.sandbox.seaweedfs import SeaweedServer

pytestmark = pytest.mark.anyio
SMALL = secrets.token_bytes(50_000)
LARGE = secrets.token_bytes(11 * 2**20)
XML = {"Content-Type": "application/xml"}
ERROR = b'<?xml version="1.0"?><Error><Code>InternalError</Code><Message>We failed.</Message></Error>'
MiB = 2**20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def proxy(server: SeaweedServer) -> Iterator[HttpFaultProxy]:
    with HttpFaultProxy(server.port) as proxy:
        yield proxy


def make(server: SeaweedServer, endpoint: str, **tuning: Any) -> StorageProvider:
    chosen = StackSettings(
        **{
            "retry_base_seconds": 0.01,
            "retry_longest_seconds": 5,
            "connect_timeout_seconds": 1,
            "read_timeout_seconds": 2,
            "retry_attempts": 3,
            **tuning,
        }
    )
    provider = get_kind("s3").create(
        {"endpoint": endpoint, "bucket": "docs", "prefix": "own"},
        {"access_key_id": server.access_key, "secret_access_key": server.secret_key},
        options=BuildOptions(connect_seconds=1, read_seconds=2),
    )
    return build_stack(provider, chosen)


@pytest.fixture
async def store(server: SeaweedServer, proxy: HttpFaultProxy) -> AsyncIterator[StorageProvider]:
    store = make(server, proxy.url)
    yield store
    await store.close()


@pytest.fixture
async def honest(server: SeaweedServer) -> AsyncIterator[StorageProvider]:
    store = make(server, server.endpoint)
    yield store
    await store.close()


def digested(body: bytes) -> Expected:
    return Expected(len(body), hashlib.sha256(body).digest())


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    for offset in range(0, len(body), 500_000):
        yield body[offset : offset + 500_000]


async def read(provider: StorageProvider, key: str, **how: Any) -> bytes:
    async with provider.open(key, **how) as reader:
        return b"".join([chunk async for chunk in reader])


def shorter(answer: Answer) -> Answer:
    assert isinstance(answer.body, bytes)
    return replace(answer, body=answer.body[:-100])


def flipped(answer: Answer) -> Answer:
    assert isinstance(answer.body, bytes)
    middle = len(answer.body) // 2
    return replace(answer, body=answer.body[:middle] + bytes([answer.body[middle] ^ 1]) + answer.body[middle + 1 :])


async def test_f28_an_error_in_a_200_is_not_a_finished_upload(
    store: StorageProvider, honest: StorageProvider, proxy: HttpFaultProxy
) -> None:
    """CompleteMultipartUpload may answer 200 and fail in its body: either it is repeated, or told as an error."""
    proxy.add("POST /docs/own/finish?uploadId", instead=Answer(200, XML, ERROR))
    with pytest.raises(ProviderError):
        await store.put("finish", chunks(LARGE), expected=digested(LARGE))
    with pytest.raises(ObjectNotFound):
        await honest.head("finish")
    proxy.faults.clear()
    proxy.add("POST /docs/own/finish?uploadId", instead=Answer(200, XML, ERROR), times=1)
    await store.put("finish", chunks(LARGE), expected=digested(LARGE))
    assert await read(honest, "finish", expected=digested(LARGE)) == LARGE


async def test_f28_an_error_in_a_200_is_no_listing_and_no_delete(
    store: StorageProvider, honest: StorageProvider, proxy: HttpFaultProxy
) -> None:
    await honest.put("kept", SMALL)
    proxy.add("GET /docs?list-type", instead=Answer(200, XML, ERROR))
    proxy.add("POST /docs?delete", instead=Answer(200, XML, ERROR))
    with pytest.raises(ProviderError):
        assert [info async for info in store.list()] == "an empty listing would make every object missing"
    outcome: Any = None
    try:
        outcome = (await store.delete([ObjectRef("kept")]))[0].error
    except ProviderError as error:
        outcome = error
    assert outcome is not None
    assert await read(honest, "kept") == SMALL


async def test_f28_an_error_in_a_200_is_not_the_object(
    store: StorageProvider, honest: StorageProvider, proxy: HttpFaultProxy
) -> None:
    await honest.put("x", SMALL)
    proxy.add("GET /docs/own/x", change=lambda answer: replace(answer, body=ERROR))
    with pytest.raises(IntegrityError):
        await read(store, "x", expected=digested(SMALL))


async def test_f28_a_missing_entity_tag_is_never_half_an_answer(
    store: StorageProvider, honest: StorageProvider, proxy: HttpFaultProxy
) -> None:
    """Failure mode 8, too: the tag is an opaque token that nothing depends on, so its lack may fail, but not lie."""
    await honest.put("x", LARGE)
    proxy.add("GET /docs/own/x", change=lambda answer: answer.without("etag"))
    try:
        assert await read(store, "x", expected=digested(LARGE)) == LARGE
    except ProviderError:
        assert await read(honest, "x") == LARGE


async def test_mode_8_an_entity_tag_is_no_digest(
    store: StorageProvider, honest: StorageProvider, proxy: HttpFaultProxy
) -> None:
    """A tag that looks like another MD5, as multipart, KMS and R2 give them, changes nothing."""
    proxy.add("/docs/own/x", change=lambda answer: answer.having(ETag='"d41d8cd98f00b204e9800998ecf8427e"'))
    await store.put("x", SMALL, expected=digested(SMALL))
    assert await read(store, "x", expected=digested(SMALL)) == SMALL


@pytest.mark.parametrize("told", ["bytes 7-{end}/{size}", "bytes 0-{end}/9", "bytes */{size}", "nonsense"])
async def test_f28_a_wrong_content_range_is_an_error(
    store: StorageProvider, honest: StorageProvider, proxy: HttpFaultProxy, told: str
) -> None:
    await honest.put("x", LARGE)
    text = told.format(end=4 * MiB - 1, size=len(LARGE))
    proxy.add("GET /docs/own/x", change=lambda answer: answer.having(Content_Range=text))
    with pytest.raises(ProviderError):
        assert await read(store, "x", expected=digested(LARGE)) == "other bytes"


async def test_f28_a_store_that_ignores_ranges_gives_the_right_part_all_the_same(
    store: StorageProvider, honest: StorageProvider, proxy: HttpFaultProxy
) -> None:
    await honest.put("x", LARGE)
    proxy.add("GET /docs/own/x", change=lambda answer: Answer(200, answer.without("content-range").headers, LARGE))
    assert await read(store, "x", start=1_000_000, length=2_000_000) == LARGE[1_000_000:3_000_000]
    assert await read(store, "x", expected=digested(LARGE)) == LARGE


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
async def test_f30_a_short_body_with_a_short_length_is_noticed(
    store: StorageProvider, honest: StorageProvider, proxy: HttpFaultProxy, body: bytes
) -> None:
    """K10: nothing in the answer contradicts itself; only our own record does."""
    await honest.put("x", chunks(body))

    def lie(answer: Answer) -> Answer:
        return shorter(answer).without("content-range") if answer.status == 200 else shorter(answer)

    proxy.add("GET /docs/own/x", change=lie)
    with pytest.raises(IntegrityError):
        await read(store, "x", expected=digested(body))


async def test_f31_one_flipped_bit_is_read_again_and_then_right(
    store: StorageProvider, honest: StorageProvider, proxy: HttpFaultProxy
) -> None:
    await honest.put("x", SMALL)
    proxy.add("GET /docs/own/x", change=flipped, times=1)
    with pytest.raises(IntegrityError):
        await read(store, "x", expected=digested(SMALL))
    assert await read(store, "x", expected=digested(SMALL)) == SMALL


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_f23_a_burst_of_errors_is_outlasted_and_a_lasting_one_is_told(
    store: StorageProvider, honest: StorageProvider, proxy: HttpFaultProxy, status: int
) -> None:
    burst = proxy.add("/docs/own/x", instead=Answer(status, XML, ERROR), times=2)
    await store.put("x", SMALL, expected=digested(SMALL))
    assert await read(honest, "x") == SMALL
    burst.times = 1_000_000
    before = len(proxy.requests)
    with pytest.raises((StoreUnavailable, StoreTimedOut)):
        await store.head("x")
    assert proxy.requests[before:].count("HEAD /docs/own/x") == 3


async def test_f24_the_time_that_a_store_names_is_waited_out(
    store: StorageProvider, honest: StorageProvider, proxy: HttpFaultProxy
) -> None:
    slow = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
    proxy.add("GET /docs?list-type", instead=Answer(503, {**XML, "Retry-After": "2"}, slow), times=1)
    began = time.monotonic()
    await store.list_page()
    assert time.monotonic() - began >= 2
    proxy.add("GET /docs?list-type", instead=Answer(503, {**XML, "Retry-After": "90"}, slow))
    before = len(proxy.requests)
    with pytest.raises(Throttled) as caught:
        await store.list_page()
    assert caught.value.retry_after == 90
    assert len(proxy.requests) - before == 1
    # obstore keeps the headers of its answers to itself: the bucket is asked.
    proxy.add("/docs/own/", instead=Answer(503, {**XML, "Retry-After": "90"}, slow))
    before = len(proxy.requests)
    with pytest.raises(Throttled) as caught:
        await store.put("x", SMALL)
    assert caught.value.retry_after == 90
    assert len(proxy.requests) - before == 2


async def test_mode_15_a_lost_answer_leaves_one_object_and_no_parts(
    store: StorageProvider, honest: StorageProvider, proxy: HttpFaultProxy
) -> None:
    proxy.add("POST /docs/own/x?uploadId", change=lambda _: None, times=1)
    proxy.add("PUT /docs/own/y", change=lambda _: None, times=1)
    await store.put("x", chunks(LARGE), expected=digested(LARGE))
    await store.put("y", SMALL, expected=digested(SMALL))
    assert await read(honest, "x", expected=digested(LARGE)) == LARGE
    assert await read(honest, "y", expected=digested(SMALL)) == SMALL
    assert [info async for info in honest.list_unfinished()] == []


async def test_mode_9_no_checksum_header_is_sent_unless_it_was_chosen(
    store: StorageProvider, proxy: HttpFaultProxy
) -> None:
    """And no trailer that a store could keep as content (mode 10)."""
    seen: list[str] = []
    real = proxy._ask

    def ask(handler: Any, body: bytes) -> Answer:
        seen.extend(f"{name}: {value}".lower() for name, value in handler.headers.items())
        return real(handler, body)

    proxy._ask = ask  # type: ignore[method-assign]
    await store.put("x", SMALL)
    await store.put("y", chunks(LARGE))
    await store.delete([ObjectRef("x"), ObjectRef("y")])
    assert [one for one in seen if "x-amz-checksum" in one or "x-amz-sdk" in one or "trailer" in one] == []
    assert [one for one in seen if "aws-chunked" in one] == []


async def test_mode_11_a_part_of_an_object_with_a_checksum_of_the_whole_can_be_read(
    server: SeaweedServer, honest: StorageProvider
) -> None:
    provider = get_kind("s3").create(
        {"endpoint": server.endpoint, "bucket": "docs", "prefix": "own", "checksum": "crc32c"},
        {"access_key_id": server.access_key, "secret_access_key": server.secret_key},
    )
    checked = build_stack(provider, StackSettings())
    await checked.put("summed", SMALL, expected=digested(SMALL))
    assert await read(checked, "summed", start=10, length=100) == SMALL[10:110]
    await checked.close()


async def test_mode_13_all_parts_but_the_last_have_one_size(store: StorageProvider, proxy: HttpFaultProxy) -> None:
    sizes: dict[int, int] = {}
    real = proxy._ask

    def ask(handler: Any, body: bytes) -> Answer:
        if "partNumber=" in handler.path:
            sizes[int(handler.path.split("partNumber=")[1].split("&")[0])] = len(body)
        return real(handler, body)

    proxy._ask = ask  # type: ignore[method-assign]
    body = secrets.token_bytes(20 * MiB + 12345)
    await store.put("parts", chunks(body))
    in_order = [sizes[number] for number in sorted(sizes)]
    assert len(in_order) >= 3
    assert len(set(in_order[:-1])) == 1
    assert in_order[-1] <= in_order[0]


async def delete(store: StorageProvider, key: str) -> None:
    for outcome in await store.delete([ObjectRef(key)]):
        if outcome.error is not None:
            raise outcome.error


def memory() -> int:
    return psutil.Process(os.getpid()).memory_info().rss


def endless(piece: bytes = b"A" * MiB) -> Iterator[bytes]:
    return itertools.repeat(piece)


def slow_endless() -> Iterator[bytes]:
    """About 20 MB/s, as a line would have it."""
    while True:
        time.sleep(0.01)
        yield b"A" * 200_000


@pytest.mark.parametrize("status", [200, 403, 500])
@pytest.mark.parametrize("call", ["list", "delete"])
async def test_s38_an_endless_control_answer_ends(
    store: StorageProvider, proxy: HttpFaultProxy, status: int, call: str
) -> None:
    proxy.add("/docs?", instead=Answer(status, XML, endless()))
    before, began = memory(), time.monotonic()
    with pytest.raises(ProviderError):
        await (store.list_page() if call == "list" else delete(store, "x"))
    assert memory() - before < 200 * MiB
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("status", [403, 404, 500])
async def test_s38_an_endless_error_ends(store: StorageProvider, proxy: HttpFaultProxy, status: int) -> None:
    """obstore reads an error's body whole: what bounds it is time."""
    proxy.add("/docs", instead=Answer(status, XML, slow_endless()))
    before, began = memory(), time.monotonic()
    with pytest.raises(ProviderError):
        await read(store, "x")
    assert memory() - before < 300 * MiB
    assert time.monotonic() - began < 40


async def test_s38_an_endless_body_ends_where_the_object_should(
    store: StorageProvider, honest: StorageProvider, proxy: HttpFaultProxy
) -> None:
    await honest.put("x", SMALL)
    proxy.add(
        "GET /docs/own/x",
        change=lambda answer: replace(
            answer.having(Content_Length=str(10**12)).without("content-range"), body=endless()
        ),
    )
    before = memory()
    with pytest.raises(ProviderError):
        await read(store, "x", expected=digested(SMALL))
    assert memory() - before < 200 * MiB


async def test_s38_a_range_that_never_ends_is_cut_off(
    store: StorageProvider, honest: StorageProvider, proxy: HttpFaultProxy
) -> None:
    """Each window is bounded by what was asked for, also those that are fetched ahead."""
    await honest.put("x", chunks(LARGE))
    proxy.add(
        "GET /docs/own/x", change=lambda answer: replace(answer.having(Content_Length=str(10**12)), body=endless())
    )
    before = memory()
    with pytest.raises(ProviderError):
        await read(store, "x", expected=digested(LARGE))
    assert memory() - before < 200 * MiB


async def test_s38_the_same_page_for_ever_ends(store: StorageProvider, proxy: HttpFaultProxy) -> None:
    page = (
        b'<?xml version="1.0"?><ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>same'
        b"</NextContinuationToken><Contents><Key>own/x</Key><Size>1</Size><ETag>x</ETag></Contents></ListBucketResult>"
    )
    proxy.add("GET /docs?list-type", instead=Answer(200, XML, page))
    with pytest.raises(ProviderError):
        async for _ in store.list():
            pass
    assert len(proxy.requests) < 20


async def test_s38_listed_keys_outside_our_own_place_are_left_out(
    store: StorageProvider, proxy: HttpFaultProxy
) -> None:
    keys = ["own/mine", "other/theirs", "../up", "own", "/own/x", "own2/x"]
    listed = "".join(f"<Contents><Key>{key}</Key><Size>1</Size><ETag>x</ETag></Contents>" for key in keys)
    page = f'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>{listed}</ListBucketResult>'
    proxy.add("GET /docs?list-type", instead=Answer(200, XML, page.encode()))
    assert [info.key async for info in store.list()] == ["mine"]


async def test_s38_an_xml_bomb_is_an_error(store: StorageProvider, proxy: HttpFaultProxy) -> None:
    layers = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    document = "<ListBucketResult><Name>&l11;</Name></ListBucketResult>"
    bomb = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "lol">{layers}]>{document}'
    proxy.add("GET /docs?list-type", instead=Answer(200, XML, bomb.encode()))
    before = memory()
    with pytest.raises(ProviderError):
        await store.list_page()
    assert memory() - before < 200 * MiB


async def test_s38_a_compressed_bomb_is_not_unpacked(
    store: StorageProvider, honest: StorageProvider, proxy: HttpFaultProxy
) -> None:
    await honest.put("x", SMALL)
    proxy.add("GET /docs", change=lambda answer: answer.having(Content_Encoding="gzip"))
    assert await read(store, "x", expected=digested(SMALL)) == SMALL


async def test_s38_huge_headers_are_an_error(store: StorageProvider, proxy: HttpFaultProxy) -> None:
    proxy.add("/docs", instead=Answer(200, {**XML, "ETag": "e" * 5_000_000}, b""))
    for call in (store.list_page(), store.head("x"), read(store, "x"), store.put("x", b"1")):
        with pytest.raises(ProviderError):
            await call
