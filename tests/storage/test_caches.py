"""Caches in front of an object store: filled by reads, bounded, evicted by use, safe to lose, and never a copy."""

from __future__ import annotations

import asyncio
import shutil

import pytest
from tests.storage.cached import MOST_BYTES, Cached, body_of, cached, server
from tests.support import assert_clean, quiet, working

from simples3dms.context import HOST
from simples3dms.errors import Conflict

pytestmark = pytest.mark.anyio
__all__ = ["cached", "server"]


async def test_a_read_fills_it_and_the_next_one_is_served_from_it(cached: Cached) -> None:
    small, large = body_of(), body_of(MOST_BYTES - 2000)
    for body in (small, large):
        document = await cached.upload(body)
        assert await cached.read(document) == (body, {"far"})
        assert await cached.states(document) == [("far", "live"), ("cache", "cached")]
        assert await cached.read(document) == (body, {"cache"})
        assert await cached.read(document, start=10, length=5) == (body[10:15], {"cache"})
    assert len(cached.files()) == 2
    assert await cached.used_bytes() == len(small) + len(large)
    # Never a copy: neither counted, nor owed, nor explained as one.
    listed = await cached.services.stores.list_granted_stores(cached.place.tenant_id)
    assert {one.name: one.is_cache for one in listed} == {"far": False, "cache": True}
    found = await cached.services.documents.explain_placement(cached.place.tenant_id, document)
    assert [one.store for one in found.stores] == ["far"]
    await quiet(cached.place)
    await assert_clean(cached.services)
    report = await cached.services.upkeep.fsck(read_data=True)
    assert report.counts["replicas_read"] == 2


async def test_a_large_document_is_passed_on_as_it_is_read(cached: Cached) -> None:
    await cached.sql("UPDATE stores SET cache_max_bytes = 10000000 WHERE id = %s", cached.cache_id)
    body = body_of(3_000_000)
    document = await cached.upload(body)
    # A part of it is not compared with anything, so it fills nothing; nor does a reader who goes away.
    assert (await cached.read(document, start=1, length=5))[0] == body[1:6]
    async with cached.services.documents.open_download(cached.place.tenant_id, document) as download:
        await anext(download.chunks)
    await cached.services.blobs.caches.settle()
    assert not await cached.is_cached(document)
    assert await cached.read(document) == (body, {"far"})
    assert await cached.read(document) == (body, {"cache"})
    async with working(cached.services):
        await quiet(cached.place)
    assert len(cached.files()) == 1
    assert await cached.used_bytes() == len(body)


async def test_it_is_made_smaller_and_larger(cached: Cached) -> None:
    caches, documents = cached.services.blobs.caches, [await cached.upload(body_of(3000)) for _ in range(3)]
    for document in documents:
        await cached.read(document)
    resized = await caches.resize(HOST, "cache", 7000)
    assert resized.cache_max_bytes == 7000
    async with working(cached.services):
        await quiet(cached.place)
        await cached.settle_at(6000)
    assert [await cached.is_cached(document) for document in documents] == [False, True, True]
    assert len(cached.files()) == 2
    await caches.resize(HOST, "cache", 9000)
    assert await cached.read(documents[0]) == (await cached.place.read(documents[0]), {"far"})
    assert await cached.used_bytes() == 9000
    with pytest.raises(Conflict, match="far is no cache"):
        await caches.resize(HOST, "far", 1)


async def test_it_never_holds_more_than_it_may_and_what_was_used_last_stays(cached: Cached) -> None:
    documents = [await cached.upload(body_of(3000)) for _ in range(4)]
    for document in documents[:3]:
        await cached.read(document)
    assert await cached.used_bytes() == 9000
    # The first is used again, and it was noted long enough ago that it was.
    await cached.sql("UPDATE cache_entries SET used_at = used_at - interval '1 hour'")
    assert (await cached.read(documents[0]))[1] == {"cache"}
    await cached.read(documents[3])
    assert [await cached.is_cached(one) for one in documents] == [True, False, True, True]
    assert await cached.used_bytes() == 9000
    assert sum(one.stat().st_size for one in cached.files()) == 9000
    # What is larger than all of it is not even tried.
    large = await cached.upload(body_of(MOST_BYTES + 1))
    await cached.read(large)
    assert not await cached.is_cached(large)
    # Many at once: each has its room reserved before its first byte.
    more = [await cached.upload(body_of(2500)) for _ in range(12)]
    reads = [asyncio.create_task(cached.read(one, settle=False)) for one in more]
    while not all(one.done() for one in reads):
        assert sum(one.stat().st_size for one in cached.files()) <= MOST_BYTES
        assert await cached.used_bytes() <= MOST_BYTES
    await cached.services.blobs.caches.settle()
    assert 0 < await cached.used_bytes() <= MOST_BYTES
    async with working(cached.services):
        await quiet(cached.place)
    await assert_clean(cached.services)


async def test_readers_at_once_fill_it_once(cached: Cached) -> None:
    body = body_of()
    document = await cached.upload(body)
    reads = await asyncio.gather(*(cached.read(document, settle=False) for _ in range(10)))
    assert {read[0] for read in reads} == {body}
    await cached.services.blobs.caches.settle()
    ((count,),) = await cached.sql("SELECT count(*) FROM cache_entries")
    assert count == len(cached.files()) == 1


async def test_what_is_lost_or_wrong_in_it_is_read_from_the_store(cached: Cached) -> None:
    bodies = [body_of() for _ in range(3)]
    documents = [await cached.upload(body) for body in bodies]
    for document in documents:
        await cached.read(document)
    one, two, _ = [next(path for path in cached.files() if path.read_bytes() == body) for body in bodies]
    one.unlink()
    two.write_bytes(bytes(1000))
    assert await cached.read(documents[0]) == (bodies[0], {"far", "cache"})
    assert await cached.read(documents[1]) == (bodies[1], {"far", "cache"})
    assert await cached.read(documents[2]) == (bodies[2], {"cache"})
    # Both were filled anew.
    assert await cached.read(documents[0]) == (bodies[0], {"cache"})
    assert await cached.read(documents[1]) == (bodies[1], {"cache"})
    async with working(cached.services):
        await quiet(cached.place)
    assert sorted(path.read_bytes() for path in cached.files()) == sorted(bodies)
    # The whole directory is gone: nobody who reads notices.
    shutil.rmtree(cached.directory)
    for document, body in zip(documents, bodies, strict=True):
        assert (await cached.read(document))[0] == body
    assert [state for document in documents for store, state in await cached.states(document) if store == "far"] == [
        "live"
    ] * 3
