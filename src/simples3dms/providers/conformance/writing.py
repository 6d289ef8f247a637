"""Writing: bytes and streams of any size, known or not, checked, all or nothing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

from simples3dms.providers.base import Expected
from simples3dms.providers.conformance.harness import Bench, behaviour, noise, require, stream
from simples3dms.providers.errors import IntegrityError

GROUP = "writing"


def _digested(body: bytes) -> Expected:
    return Expected(len(body), hashlib.sha256(body).digest())


async def _round_trip(bench: Bench, size: int) -> None:
    body = noise(size)
    result = await bench.put("x", body)
    require(result.size_bytes == size, f"{size} bytes were reported as {result.size_bytes}")
    await bench.require_body("x", body)


@behaviour(GROUP)
async def put_empty(bench: Bench) -> None:
    """An empty object is an object."""
    await _round_trip(bench, 0)


@behaviour(GROUP)
async def put_one_byte(bench: Bench) -> None:
    """One byte comes back as it was."""
    await _round_trip(bench, 1)


@behaviour(GROUP)
async def put_small(bench: Bench) -> None:
    """70,000 bytes come back as they were."""
    await _round_trip(bench, 70_000)


@behaviour(GROUP)
async def put_larger_than_a_part(bench: Bench) -> None:
    """Bytes given whole may be more than a part."""
    await _round_trip(bench, bench.part_bytes + 1)


@behaviour(GROUP)
async def put_text_that_looks_encoded(bench: Bench) -> None:
    """Bytes that look like chunk framing, gzip or markup are just bytes."""
    for number, body in enumerate(
        (b"5\r\nhello\r\n0\r\n\r\n", b"\x1f\x8b\x08\x00" + noise(200), b"<?xml version='1.0'?><a/>")
    ):
        await bench.put(f"x{number}", body)
        await bench.require_body(f"x{number}", body)


@behaviour(GROUP)
async def stream_empty(bench: Bench) -> None:
    """A stream without bytes makes an empty object."""
    await bench.put_stream("x", b"")
    await bench.require_body("x", b"")


@behaviour(GROUP)
async def stream_small_of_unknown_size(bench: Bench) -> None:
    """A short stream of unknown size."""
    body = noise(1000)
    await bench.put_stream("x", body)
    await bench.require_body("x", body)


@behaviour(GROUP)
async def stream_small_of_known_size(bench: Bench) -> None:
    """A short stream whose size and digest are known."""
    body = noise(1000)
    await bench.put_stream("x", body, _digested(body))
    await bench.require_body("x", body)


@behaviour(GROUP)
async def stream_large_of_unknown_size(bench: Bench) -> None:
    """A stream of several parts and unknown size."""
    body = noise(2 * bench.part_bytes + 12_345)
    await bench.put_stream("x", body)
    await bench.require_body("x", body)


@behaviour(GROUP)
async def stream_large_of_known_size(bench: Bench) -> None:
    """A stream of several parts whose size and digest are known."""
    body = noise(2 * bench.part_bytes + 12_345)
    await bench.put_stream("x", body, _digested(body))
    await bench.require_body("x", body)


@behaviour(GROUP)
async def stream_of_exactly_one_part(bench: Bench) -> None:
    """A stream that fills one part to the last byte."""
    body = noise(bench.part_bytes)
    await bench.put_stream("x", body)
    await bench.require_body("x", body)


@behaviour(GROUP)
async def stream_of_exactly_two_parts(bench: Bench) -> None:
    """A stream that fills two parts to the last byte."""
    body = noise(2 * bench.part_bytes)
    await bench.put_stream("x", body)
    await bench.require_body("x", body)


@behaviour(GROUP)
async def stream_of_odd_chunks(bench: Bench) -> None:
    """A stream whose chunks are empty, tiny and huge."""
    pieces = [b"", b"a", noise(bench.part_bytes + 7), b"", noise(3)]

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    await bench.store.put(bench.key("x"), body())
    await bench.require_body("x", b"".join(pieces))


@behaviour(GROUP)
async def result_tells_size_and_digest(bench: Bench) -> None:
    """A write tells how many bytes it took, and their SHA-256 as we computed it."""
    body = noise(5000)
    result = await bench.put_stream("x", body)
    require(result.size_bytes == 5000, "another size was told")
    require(result.key == bench.key("x"), "another key was told")
    require(result.sha256 == hashlib.sha256(body).digest(), "another digest was told")
    head = await bench.store.head(bench.key("x"))
    versions = (result.version_id, head.version_id)
    require(None in versions or versions[0] == versions[1], "the write told another version than is there")


@behaviour(GROUP, "versions")
async def result_tells_the_version(bench: Bench) -> None:
    """A store that keeps versions tells which one a write made."""
    first, second = await bench.put("x", b"1"), await bench.put("x", b"2")
    require(first.version_id is not None and first.version_id != second.version_id, "the version ids do not tell apart")


@behaviour(GROUP)
async def content_type_is_taken(bench: Bench) -> None:
    """A content type, whatever it says, does not change the bytes: small, and in parts."""
    for number, content_type in enumerate(("text/plain; charset=utf-8", "application/gzip", "text/html")):
        body = b"<p>\r\n" + noise(500)
        await bench.store.put(bench.key(f"x{number}"), body, content_type=content_type)
        await bench.require_body(f"x{number}", body)
    large = noise(2 * bench.part_bytes + 5)
    await bench.store.put(bench.key("y"), stream(large), content_type="application/x-tar; part=1")
    await bench.require_body("y", large)


async def _refused(bench: Bench, size: int, expected: Expected) -> None:
    body = noise(size)
    put = bench.store.put(bench.key("wrong/x"), stream(body), expected=expected)
    await bench.require_raises(IntegrityError, put, "a wrong body was taken")
    await bench.require_nothing("wrong/")


@behaviour(GROUP)
async def wrong_digest_small(bench: Bench) -> None:
    """A small body with another digest is refused, and nothing of it is left."""
    await _refused(bench, 1000, Expected(1000, bytes(32)))


@behaviour(GROUP)
async def wrong_digest_large(bench: Bench) -> None:
    """A large body with another digest is refused, and nothing of it is left."""
    size = 2 * bench.part_bytes + 5
    await _refused(bench, size, Expected(size, bytes(32)))


@behaviour(GROUP)
async def too_short_small(bench: Bench) -> None:
    """A small body shorter than announced is refused, and nothing of it is left."""
    await _refused(bench, 1000, Expected(1001))


@behaviour(GROUP)
async def too_short_large(bench: Bench) -> None:
    """A large body shorter than announced is refused, and nothing of it is left."""
    size = 2 * bench.part_bytes + 5
    await _refused(bench, size, Expected(size + 1))


@behaviour(GROUP)
async def too_long_small(bench: Bench) -> None:
    """A small body longer than announced is refused, and nothing of it is left."""
    await _refused(bench, 1000, Expected(999))


@behaviour(GROUP)
async def too_long_large(bench: Bench) -> None:
    """A large body longer than announced is refused, and nothing of it is left."""
    size = 2 * bench.part_bytes + 5
    await _refused(bench, size, Expected(size - 1))


class _Broken(Exception):
    pass


async def _breaks(size: int) -> AsyncIterator[bytes]:
    async for chunk in stream(noise(size)):
        yield chunk
    raise _Broken


async def _broken_source(bench: Bench, size: int) -> None:
    try:
        await bench.store.put(bench.key("broken/x"), _breaks(size))
    except _Broken:
        await bench.require_nothing("broken/")
        return
    require(False, "a broken source made an object")


@behaviour(GROUP)
async def broken_source_small(bench: Bench) -> None:
    """A source that fails comes out as it was, and leaves nothing."""
    await _broken_source(bench, 1000)


@behaviour(GROUP)
async def broken_source_large(bench: Bench) -> None:
    """A source that fails after several parts comes out as it was, and leaves nothing."""
    await _broken_source(bench, 2 * bench.part_bytes + 5)


@behaviour(GROUP)
async def cancelled_write(bench: Bench) -> None:
    """A write that is cancelled leaves nothing that `discard` does not remove."""
    reached = asyncio.Event()

    async def stalls() -> AsyncIterator[bytes]:
        async for chunk in stream(noise(bench.part_bytes + 5)):
            yield chunk
        reached.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(bench.store.put(bench.key("cancelled/x"), stalls()))
    await reached.wait()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await bench.store.discard(bench.key("cancelled/x"))
    await bench.require_nothing("cancelled/")


async def _key_round_trip(bench: Bench, *names: str) -> None:
    for name in names:
        await bench.put(name, name.encode())
    for name in names:
        await bench.require_body(name, name.encode())
    found = await bench.keys()
    require(sorted(set(found)) == sorted(names), f"the keys are listed as {sorted(set(found))}")


@behaviour("keys")
async def key_deep(bench: Bench) -> None:
    """Keys may have many segments."""
    await _key_round_trip(bench, "/".join("abcdefghijklmnop"))


@behaviour("keys")
async def key_with_punctuation(bench: Bench) -> None:
    """Keys may hold spaces, plus, percent, ampersand, hash, question mark and quotes."""
    await _key_round_trip(bench, "a b+c%20d&e=f", "q?x#y", 'it\'s "so"', "~!@$^*(),;:[]{}|")


@behaviour("keys")
async def key_in_unicode(bench: Bench) -> None:
    """Keys may hold letters of any script, and emoji."""
    await _key_round_trip(bench, "Übersicht/漢字/файл", "emoji-🗂️")


@behaviour("keys")
async def key_long(bench: Bench) -> None:
    """Keys may have 900 bytes in segments of 200."""
    await _key_round_trip(bench, "/".join("x" * 200 for _ in range(4)) + "/end")


@behaviour("keys")
async def key_neighbours(bench: Bench) -> None:
    """Keys that begin alike are different keys."""
    await _key_round_trip(bench, "a", "ab", "a-b", "a.b", "A")


@behaviour("keys")
async def key_in_other_case(bench: Bench) -> None:
    """Keys that differ only in case are different keys."""
    await _key_round_trip(bench, "Readme", "README", "readme")


@behaviour(GROUP)
async def writes_side_by_side(bench: Bench) -> None:
    """Many writes at a time do not disturb one another."""
    bodies = {f"x{number}": noise(3000 + number) for number in range(32)}
    await asyncio.gather(*(bench.put(name, body) for name, body in bodies.items()))
    for name, body in bodies.items():
        await bench.require_body(name, body)
