"""Helpers for streams of bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress


class LeaseLost(Exception):
    """Another has taken the work over: what was done of it must not count."""


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
async def heartbeat(beat: Callable[[], Awaitable[bool]], *, lease_seconds: float) -> AsyncIterator[None]:
    """Call `beat` three times a lease while the block runs.

    False means that the lease is lost: the block is cancelled, and LeaseLost comes out. A beat that raises (the
    database is restarting, say) is tried again soon, and only counts as lost when the lease itself must be over.
    """
    owner = asyncio.current_task()
    assert owner is not None
    failure: list[BaseException] = []
    every_seconds = lease_seconds / 3

    async def run() -> None:
        good_at, pause = time.monotonic(), every_seconds
        while True:
            await asyncio.sleep(pause)
            problem: BaseException = LeaseLost()
            try:
                if await beat():
                    good_at, pause = time.monotonic(), every_seconds
                    continue
            except Exception as error:  # noqa: BLE001 handed to the block's owner below, if it lasts
                if time.monotonic() - good_at < lease_seconds - every_seconds / 2:
                    pause = min(1.0, every_seconds / 4)
                    continue
                problem = error
            failure.append(problem)
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
