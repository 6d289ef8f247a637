"""Helpers for streams of bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress


async def single(body: bytes) -> AsyncIterator[bytes]:
    """A stream of one chunk (none when it is empty)."""
    if body:
        yield body


async def gather_small(chunks: AsyncIterable[bytes], limit_bytes: int) -> bytes:
    """The whole of a stream that the caller knows to be small. Raises ValueError past the limit."""
    parts: list[bytes] = []
    total = 0
    async for chunk in chunks:
        total += len(chunk)
        if total > limit_bytes:
            raise ValueError("the stream is longer than announced")
        parts.append(chunk)
    return parts[0] if len(parts) == 1 else b"".join(parts)


@asynccontextmanager
async def heartbeat(beat: Callable[[], Awaitable[None]], *, every_seconds: float) -> AsyncIterator[None]:
    """Call `beat` now and then while the block runs. If it raises, the block is cancelled and the error comes out."""
    owner = asyncio.current_task()
    assert owner is not None
    failure: list[BaseException] = []

    async def run() -> None:
        while True:
            await asyncio.sleep(every_seconds)
            try:
                await beat()
            except Exception as error:  # noqa: BLE001 handed to the block's owner below
                failure.append(error)
                owner.cancel()
                return

    task = asyncio.create_task(run())
    try:
        yield
    except asyncio.CancelledError:
        if failure and owner.uncancel() == 0:
            raise failure[0] from None
        raise
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
