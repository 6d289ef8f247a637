"""Streams sent in parts: each part a call of its own, so that retries and limits see parts and not whole bodies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing, suppress
from typing import Final

from simples3dms.providers.base import Capabilities, Expected, Part, PartsUpload, PutResult, StorageProvider
from simples3dms.providers.errors import ObjectTooLarge, ProviderError

#: Bytes of one object on their way at a time, in parts; the one waiting and the one being gathered come on top.
_BYTES_UNDER_WAY: Final = 24 * 2**20
#: Whoever was cancelled, or learnt that the store is gone, does not wait long for tidiness.
_ABORT_SECONDS: Final = 5.0


def part_size(capabilities: Capabilities, size_bytes: int | None, key: str) -> int:
    """The size of all parts of one object (but the last). Raises ObjectTooLarge where the store has no room for it."""
    least = capabilities.part_size_bytes
    if size_bytes is None:
        return least
    if size_bytes > capabilities.largest_object_bytes:
        raise too_large(key)
    needed = -(-size_bytes // capabilities.most_parts)
    # Whole KiB, so that sizes stay round; never below what the number of parts demands.
    size = max(least, -(-needed // 1024) * 1024)
    if size > capabilities.largest_part_bytes:
        raise too_large(key)
    return size


def too_large(key: str) -> ObjectTooLarge:
    return ObjectTooLarge("the object is larger than the store takes", key=key)


async def put_in_parts(
    provider: StorageProvider, key: str, body: AsyncIterable[bytes], expected: Expected, content_type: str | None
) -> PutResult:
    """Write a stream: in one `put` if it fits into a part, else in equal parts, a few at a time.

    Whatever fails, the unfinished upload is aborted, and the error of the source or of the part comes out as it was.
    Memory: about 24 MiB and two parts.
    """
    size = part_size(provider.capabilities, expected.size_bytes, key)
    async with aclosing(_cut(body, size)) as parts:
        first = await anext(parts, b"")
        second = await anext(parts, None)
        if second is None:
            return await provider.put(key, first, expected=expected, content_type=content_type)
        upload = await provider.begin_parts(
            key, size_bytes=expected.size_bytes, content_type=content_type, sha1=expected.sha1
        )
        try:
            sent = await _send(provider, upload, _chained(first, second, parts))
            del first, second
            return await provider.finish_parts(upload, sent)
        except BaseException:
            await asyncio.shield(_abort_quietly(provider, upload))
            raise


async def _send(provider: StorageProvider, upload: PartsUpload, parts: AsyncIterator[bytes]) -> list[Part]:
    slots = asyncio.Semaphore(max(1, _BYTES_UNDER_WAY // upload.part_size_bytes))
    sending: list[asyncio.Task[Part]] = []

    async def send(number: int, body: bytes) -> Part:
        try:
            return await provider.put_part(upload, number, body)
        finally:
            slots.release()

    try:
        async with asyncio.TaskGroup() as group:
            async for body in parts:
                await slots.acquire()
                if len(sending) >= provider.capabilities.most_parts:
                    raise too_large(upload.key)
                sending.append(group.create_task(send(len(sending) + 1, body)))
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in sending]


async def _abort_quietly(provider: StorageProvider, upload: PartsUpload) -> None:
    # What can't be aborted now is cleaned later, by the caller's record of the key.
    with suppress(ProviderError, TimeoutError):
        async with asyncio.timeout(_ABORT_SECONDS):
            await provider.abort_parts(upload)


async def _chained(first: bytes, second: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    yield second
    async for part in rest:
        yield part


async def _cut(body: AsyncIterable[bytes], size: int) -> AsyncGenerator[bytes, None]:
    """The body in parts of one size; the last may be shorter. One part's bytes are held, and joined once."""
    held: list[memoryview] = []
    held_bytes = 0
    async for chunk in body:
        rest = memoryview(chunk)
        # A part goes out only when a byte beyond it has come, so that the last one is never empty.
        while held_bytes + len(rest) > size:
            head, rest = rest[: size - held_bytes], rest[size - held_bytes :]
            part = b"".join((*held, head))
            held.clear()
            held_bytes = 0
            yield part
            del part
        if rest:
            held.append(rest)
            held_bytes += len(rest)
    if held:
        yield b"".join(held)
