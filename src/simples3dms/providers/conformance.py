"""The conformance suite: what every provider must do, as checks that run on a live store and clean up afterwards.

`run_conformance(provider)` writes below scratch prefixes of its own, gives each check's verdict, and removes all it
made.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from simples3dms.kit.ids import new_id
from simples3dms.providers.base import Expected, ObjectRef, StorageProvider
from simples3dms.providers.errors import IntegrityError, ObjectNotFound, ProviderError

#: Over the part size of every kind, so that a stream of it takes several parts.
_LARGE_BYTES: Final = 20 * 1024 * 1024 + 17
_CHUNK_BYTES: Final = 100_000


class Failed(Exception):
    """A check found something else than it must."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check's verdict: `error` is None if the store did as it must."""

    name: str
    meaning: str
    error: str | None = None

    @property
    def ok(self) -> bool:
        return self.error is None


Check = Callable[[StorageProvider, str], Awaitable[None]]


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Failed(otherwise)


async def _stream(body: bytes) -> AsyncIterator[bytes]:
    for offset in range(0, len(body), _CHUNK_BYTES):
        yield body[offset : offset + _CHUNK_BYTES]


async def _read(provider: StorageProvider, key: str, *, start: int = 0, length: int | None = None) -> bytes:
    async with provider.open(key, start=start, length=length) as reader:
        return b"".join([chunk async for chunk in reader])


async def _keys(provider: StorageProvider, prefix: str) -> list[str]:
    return [info.key async for info in provider.list(prefix)]


async def _nothing_left(provider: StorageProvider, prefix: str) -> None:
    _require(await _keys(provider, prefix) == [], "an object is left")
    _require([info async for info in provider.list_unfinished(prefix)] == [], "an unfinished upload is left")


async def check_bytes_round_trip(provider: StorageProvider, scratch: str) -> None:
    """What is written as bytes reads back the same, empty objects included."""
    for size in (0, 1, 70_000, 1024 * 1024):
        body = os.urandom(size)
        result = await provider.put(f"{scratch}bytes-{size}", body)
        _require(result.size_bytes == size, f"{size} bytes were reported as {result.size_bytes}")
        _require(await _read(provider, f"{scratch}bytes-{size}") == body, f"{size} bytes came back different")


async def check_streams_round_trip(provider: StorageProvider, scratch: str) -> None:
    """What is streamed reads back the same, of known and of unknown size, in one part and in several."""
    for size in (0, 1000, _LARGE_BYTES):
        body = os.urandom(size)
        for name, expected in (("unknown", Expected()), ("known", Expected(size, hashlib.sha256(body).digest()))):
            key = f"{scratch}stream-{name}-{size}"
            await provider.put(key, _stream(body), expected=expected)
            _require(await _read(provider, key) == body, f"a stream of {size} bytes ({name} size) came back different")


async def check_wrong_digest_is_refused(provider: StorageProvider, scratch: str) -> None:
    """A body that is not the expected one is refused, and nothing of it is left."""
    for size in (1000, _LARGE_BYTES):
        for expected in (Expected(size, bytes(32)), Expected(size + 1), Expected(size - 1)):
            try:
                await provider.put(f"{scratch}wrong/{size}", _stream(os.urandom(size)), expected=expected)
            except IntegrityError:
                continue
            raise Failed("a wrong body was taken")
    await _nothing_left(provider, f"{scratch}wrong/")


async def check_broken_source_leaves_nothing(provider: StorageProvider, scratch: str) -> None:
    """A source that fails in the middle comes out as it was, and nothing of it is left."""

    class Broken(Exception):
        pass

    async def breaks(size: int) -> AsyncIterator[bytes]:
        async for chunk in _stream(os.urandom(size)):
            yield chunk
        raise Broken

    for size in (1000, _LARGE_BYTES):
        try:
            await provider.put(f"{scratch}broken/{size}", breaks(size))
        except Broken:
            continue
        raise Failed("a broken source made an object")
    await _nothing_left(provider, f"{scratch}broken/")


async def check_cancelled_put_leaves_nothing(provider: StorageProvider, scratch: str) -> None:
    """A write that is cancelled leaves nothing that `discard` does not remove."""
    reached = asyncio.Event()

    async def stalls() -> AsyncIterator[bytes]:
        async for chunk in _stream(os.urandom(_LARGE_BYTES)):
            yield chunk
        reached.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(provider.put(f"{scratch}cancelled/x", stalls()))
    await reached.wait()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await provider.discard(f"{scratch}cancelled/x")
    await _nothing_left(provider, f"{scratch}cancelled/")


async def check_ranges(provider: StorageProvider, scratch: str) -> None:
    """A part of an object reads as that part; a range past the end reads as nothing."""
    body = os.urandom(300_000)
    await provider.put(f"{scratch}range", body)
    for start, length in (
        (0, 1),
        (5, 10),
        (299_990, 100),
        (299_999, 1),
        (300_000, None),
        (300_005, 5),
        (7, 0),
        (9, None),
    ):
        wanted = body[start:] if length is None else body[start : start + length]
        found = await _read(provider, f"{scratch}range", start=start, length=length)
        _require(found == wanted, f"the range {start}+{length} came back different")


async def check_not_found(provider: StorageProvider, scratch: str) -> None:
    """What is not there is said to be not there, on reading and on asking."""
    for act in (_read(provider, f"{scratch}missing"), provider.head(f"{scratch}missing")):
        try:
            await act
        except ObjectNotFound:
            continue
        raise Failed("a missing object was found")


async def check_head(provider: StorageProvider, scratch: str) -> None:
    """Asking tells the size."""
    await provider.put(f"{scratch}head", b"12345")
    info = await provider.head(f"{scratch}head")
    _require((info.key, info.size_bytes) == (f"{scratch}head", 5), f"was told {info}")


async def check_delete(provider: StorageProvider, scratch: str) -> None:
    """Deleting many removes each; deleting what is not there succeeds."""
    refs = []
    for number in range(5):
        result = await provider.put(f"{scratch}delete/{number}", b"x")
        refs.append(ObjectRef(result.key, result.version_id))
    refs.append(ObjectRef(f"{scratch}delete/missing"))
    for _ in range(2):
        outcomes = await provider.delete(refs)
        _require([outcome.ref for outcome in outcomes] == refs, "outcomes are not in order")
        _require(all(outcome.error is None for outcome in outcomes), "a deletion failed")
    await _nothing_left(provider, f"{scratch}delete/")


async def check_discard(provider: StorageProvider, scratch: str) -> None:
    """Discarding removes every version of exactly that key, and may be repeated."""
    for _ in range(2):
        await provider.put(f"{scratch}discard/a", b"x")
    await provider.put(f"{scratch}discard/ab", b"x")
    versions = (await _keys(provider, f"{scratch}discard/")).count(f"{scratch}discard/a")
    _require(versions == (2 if provider.capabilities.versions else 1), f"{versions} versions are listed")
    for _ in range(2):
        await provider.discard(f"{scratch}discard/a")
    _require(
        await _keys(provider, f"{scratch}discard/") == [f"{scratch}discard/ab"], "another key went, or this one stayed"
    )


async def check_list(provider: StorageProvider, scratch: str) -> None:
    """Listing gives every key under the prefix once, also over several pages."""
    wanted = {f"{scratch}list/{number % 7}/{number:04}" for number in range(60)}
    await asyncio.gather(*(provider.put(key, b"") for key in wanted))
    found = await _keys(provider, f"{scratch}list/")
    _require(len(found) == len(wanted) and set(found) == wanted, f"{len(found)} of {len(wanted)} keys were listed")
    part = {key for key in wanted if key.startswith(f"{scratch}list/3/")}
    _require(set(await _keys(provider, f"{scratch}list/3/")) == part, "a narrower prefix lists other keys")
    middle = sorted(wanted)[30]
    after = {info.key async for info in provider.list(f"{scratch}list/", start_after=middle)}
    _require(after == {key for key in wanted if key > middle}, "listing after a key lists other keys")


async def check_early_exit(provider: StorageProvider, scratch: str) -> None:
    """A reader that leaves early does no harm."""
    body = os.urandom(5_000_000)
    await provider.put(f"{scratch}early", body)
    for _ in range(5):
        async with provider.open(f"{scratch}early") as reader:
            async for _chunk in reader:
                break
    _require(await _read(provider, f"{scratch}early") == body, "the object came back different afterwards")


CHECKS: Final[Sequence[Check]] = (
    check_bytes_round_trip,
    check_streams_round_trip,
    check_wrong_digest_is_refused,
    check_broken_source_leaves_nothing,
    check_cancelled_put_leaves_nothing,
    check_ranges,
    check_not_found,
    check_head,
    check_delete,
    check_discard,
    check_list,
    check_early_exit,
)


async def run_check(provider: StorageProvider, check: Check) -> CheckResult:
    """Run one check below a scratch prefix of its own, and remove all it made."""
    scratch = f"conformance/{new_id()}/"
    name = getattr(check, "__name__", "check").removeprefix("check_")
    meaning = (check.__doc__ or "").strip()
    try:
        await check(provider, scratch)
        return CheckResult(name, meaning)
    except (Failed, ProviderError) as error:
        return CheckResult(name, meaning, str(error))
    finally:
        await _clean(provider, scratch)


async def _clean(provider: StorageProvider, scratch: str) -> None:
    keys = {info.key async for info in provider.list(scratch)}
    keys |= {info.key async for info in provider.list_unfinished(scratch)}
    for key in keys:
        await provider.discard(key)


async def run_conformance(provider: StorageProvider) -> list[CheckResult]:
    """Every check in turn. `provider` is the whole stack, with the integrity layer."""
    return [await run_check(provider, check) for check in CHECKS]
