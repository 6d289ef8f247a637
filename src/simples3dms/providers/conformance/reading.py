"""Reading: whole, in ranges, by version, side by side; never a clean, short or wrong end."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta

from simples3dms.providers.base import Expected, ObjectRef
from simples3dms.providers.conformance.harness import Bench, behaviour, noise, require
from simples3dms.providers.errors import IntegrityError, ObjectNotFound

GROUP = "reading"
_SIZE = 300_000


async def _read_expecting(bench: Bench, name: str, expected: Expected) -> bytes:
    async with bench.store.open(bench.key(name), expected=expected) as reader:
        return b"".join([chunk async for chunk in reader])


@behaviour(GROUP)
async def whole_with_known_digest(bench: Bench) -> None:
    """A body whose digest is known reads as it is."""
    body = noise(_SIZE)
    await bench.put("x", body)
    found = await _read_expecting(bench, "x", Expected(_SIZE, hashlib.sha256(body).digest()))
    require(found == body, "other bytes came")


@behaviour(GROUP)
async def large_with_known_digest(bench: Bench) -> None:
    """A large body whose digest is known reads as it is."""
    body = noise(2 * bench.part_bytes + 54_321)
    await bench.put_stream("x", body)
    found = await _read_expecting(bench, "x", Expected(len(body), hashlib.sha256(body).digest()))
    require(found == body, "other bytes came")


@behaviour(GROUP)
async def another_digest_is_noticed(bench: Bench) -> None:
    """A body with another digest than the expected one raises instead of ending."""
    await bench.put("x", noise(_SIZE))
    reading = _read_expecting(bench, "x", Expected(_SIZE, bytes(32)))
    await bench.require_raises(IntegrityError, reading, "a wrong body read as right")


@behaviour(GROUP)
async def another_size_is_noticed(bench: Bench) -> None:
    """An object of another size than the expected one raises."""
    await bench.put("x", noise(1000))
    for size in (999, 1001):
        reading = _read_expecting(bench, "x", Expected(size))
        await bench.require_raises(IntegrityError, reading, "a body of another size read as right")


@behaviour(GROUP)
async def a_small_object_in_one_call(bench: Bench) -> None:
    """A small object comes whole in one call, compared with what is expected."""
    body = noise(_SIZE)
    await bench.put("x", body)
    digest = hashlib.sha256(body).digest()
    found = await bench.store.get(bench.key("x"), expected=Expected(_SIZE, digest))
    require(found == body, "other bytes came")
    await bench.put("empty", b"")
    require(await bench.store.get(bench.key("empty"), expected=Expected(0)) == b"", "an empty object read as more")


@behaviour(GROUP)
async def another_object_than_expected_in_one_call(bench: Bench) -> None:
    """One call for a small object raises where its digest or its size is another, or where it is not there."""
    await bench.put("x", noise(1000))
    for expected in (Expected(1000, bytes(32)), Expected(999), Expected(1001)):
        reading = bench.store.get(bench.key("x"), expected=expected)
        await bench.require_raises(IntegrityError, reading, "a wrong body read as right")
    missing = bench.store.get(bench.key("missing"), expected=Expected(1000))
    await bench.require_raises(ObjectNotFound, missing, "an object that is not there was read")


async def _range(bench: Bench, start: int, length: int | None) -> None:
    body = noise(_SIZE)
    await bench.put("x", body)
    wanted = body[start:] if length is None else body[start : start + length]
    require(await bench.read("x", start=start, length=length) == wanted, "other bytes came")


@behaviour("ranges")
async def range_first_byte(bench: Bench) -> None:
    """The first byte alone."""
    await _range(bench, 0, 1)


@behaviour("ranges")
async def range_in_the_middle(bench: Bench) -> None:
    """Some bytes in the middle."""
    await _range(bench, 12_345, 6789)


@behaviour("ranges")
async def range_last_byte(bench: Bench) -> None:
    """The last byte alone."""
    await _range(bench, _SIZE - 1, 1)


@behaviour("ranges")
async def range_to_the_end(bench: Bench) -> None:
    """All from some byte on."""
    await _range(bench, 9, None)


@behaviour("ranges")
async def range_over_the_end(bench: Bench) -> None:
    """A range that goes past the end ends there."""
    await _range(bench, _SIZE - 10, 100)


@behaviour("ranges")
async def range_at_the_end(bench: Bench) -> None:
    """A range that begins at the end reads as nothing."""
    await _range(bench, _SIZE, None)


@behaviour("ranges")
async def range_past_the_end(bench: Bench) -> None:
    """A range that begins past the end reads as nothing."""
    await _range(bench, _SIZE + 5, 5)


@behaviour("ranges")
async def range_of_nothing(bench: Bench) -> None:
    """A range of no bytes reads as nothing."""
    await _range(bench, 7, 0)


@behaviour("ranges")
async def range_of_an_empty_object(bench: Bench) -> None:
    """Any range of an empty object reads as nothing."""
    await bench.put("x", b"")
    require(await bench.read("x", start=0, length=10) == b"", "bytes came out of an empty object")
    require(await bench.read("x", start=3) == b"", "bytes came out of an empty object")


@behaviour("ranges")
async def range_across_parts(bench: Bench) -> None:
    """A long range across the borders of parts and windows."""
    body = noise(2 * bench.part_bytes + 54_321)
    await bench.put_stream("x", body)
    start, length = bench.part_bytes - 1000, bench.part_bytes + 30_000
    require(await bench.read("x", start=start, length=length) == body[start : start + length], "other bytes came")


@behaviour(GROUP)
async def missing_object(bench: Bench) -> None:
    """Reading what is not there says so."""
    await bench.require_raises(ObjectNotFound, bench.read("missing"), "a missing object was read")


@behaviour(GROUP)
async def missing_object_in_part(bench: Bench) -> None:
    """Reading a part of what is not there says so."""
    reading = bench.read("missing", start=5, length=5)
    await bench.require_raises(ObjectNotFound, reading, "a missing object was read")


@behaviour(GROUP)
async def missing_object_below_another(bench: Bench) -> None:
    """A key below an object's own key is not there."""
    await bench.put("x", b"1")
    await bench.require_raises(ObjectNotFound, bench.read("x/y"), "a missing object was read")


@behaviour(GROUP)
async def head_tells_the_size(bench: Bench) -> None:
    """Asking tells the size, and nothing is read."""
    await bench.put("x", noise(4321))
    info = await bench.store.head(bench.key("x"))
    require((info.key, info.size_bytes) == (bench.key("x"), 4321), f"was told {info.size_bytes} bytes")


@behaviour(GROUP)
async def head_of_a_large_object(bench: Bench) -> None:
    """Asking tells the size of an object made of parts."""
    await bench.put_stream("x", noise(2 * bench.part_bytes + 1))
    info = await bench.store.head(bench.key("x"))
    require(info.size_bytes == 2 * bench.part_bytes + 1, f"was told {info.size_bytes} bytes")


@behaviour(GROUP)
async def head_tells_the_time(bench: Bench) -> None:
    """The time of the last change, where it is told, is now: the clocks agree within a quarter of an hour."""
    await bench.put("x", b"1")
    told = (await bench.store.head(bench.key("x"))).modified_at
    if told is not None:
        require(abs(datetime.now(UTC) - told) < timedelta(minutes=15), f"the store says that it is {told}")


@behaviour(GROUP)
async def head_of_a_missing_object(bench: Bench) -> None:
    """Asking for what is not there says so."""
    head = bench.store.head(bench.key("missing"))
    await bench.require_raises(ObjectNotFound, head, "a missing object was found")


@behaviour(GROUP)
async def leaving_early(bench: Bench) -> None:
    """A reader that leaves early does no harm to the next one."""
    body = noise(bench.part_bytes + 5)
    await bench.put_stream("x", body)
    for _ in range(5):
        async with bench.store.open(bench.key("x")) as reader:
            async for _chunk in reader:
                break
    await bench.require_body("x", body)


@behaviour(GROUP)
async def readers_side_by_side(bench: Bench) -> None:
    """Many readers at a time each get all."""
    body = noise(_SIZE)
    await bench.put("x", body)
    found = await asyncio.gather(*(bench.read("x") for _ in range(24)))
    require(all(one == body for one in found), "a reader got other bytes")


@behaviour(GROUP, "versions")
async def read_by_version(bench: Bench) -> None:
    """Each version reads as what was written then."""
    first, second = await bench.put("x", b"first"), await bench.put("x", b"second")
    require(await bench.read("x", version_id=first.version_id) == b"first", "the first version reads otherwise")
    require(await bench.read("x", version_id=second.version_id) == b"second", "the second version reads otherwise")
    require(await bench.read("x") == b"second", "the newest version is not what reads without an id")


@behaviour(GROUP, "versions")
async def head_by_version(bench: Bench) -> None:
    """Asking for a version tells that version's size."""
    first = await bench.put("x", b"12345")
    await bench.put("x", b"1")
    info = await bench.store.head(bench.key("x"), version_id=first.version_id)
    require(info.size_bytes == 5, f"was told {info.size_bytes} bytes")


@behaviour(GROUP, "versions")
async def a_removed_version_is_missing(bench: Bench) -> None:
    """A version that was deleted is not there."""
    first = await bench.put("x", b"1")
    await bench.put("x", b"2")
    await bench.store.delete([ObjectRef(bench.key("x"), first.version_id)])
    reading = bench.read("x", version_id=first.version_id)
    await bench.require_raises(ObjectNotFound, reading, "a deleted version was read")
