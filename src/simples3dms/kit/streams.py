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


class Tee:
    """One stream for several readers, at the pace of the slowest: each holds one chunk, the stream another.

    `pump` reads it, beside the readers; all of them must read on, or be cancelled together with it. What the stream
    raises, each reader raises.
    """

    def __init__(self, source: AsyncIterable[bytes], readers: int) -> None:
        self._source = source
        self._queues: list[asyncio.Queue[bytes | Exception | None]] = [asyncio.Queue(1) for _ in range(readers)]

    async def pump(self) -> None:
        end: Exception | None = None
        try:
            async for chunk in self._source:
                for queue in self._queues:
                    await queue.put(chunk)
        except Exception as error:  # noqa: BLE001 the readers' to raise
            end = error
        for queue in self._queues:
            await queue.put(end)

    async def read(self, number: int) -> AsyncIterator[bytes]:
        """The stream, for one reader."""
        while (item := await self._queues[number].get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item


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
