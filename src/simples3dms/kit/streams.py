"""Helpers for streams of bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from simples3dms.kit.leases import Lease, LeaseLost

__all__ = ["LeaseLost", "Tee", "gather_small", "heartbeat", "single"]


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
async def heartbeat(
    beat: Callable[[], Awaitable[bool]], *, lease_seconds: float, asked_at: float | None = None
) -> AsyncIterator[Lease]:
    """Call `beat` three times a lease while the block runs, which is under that lease.

    False means that the lease is lost: the block is cancelled, and LeaseLost comes out. A beat that raises (the
    database is restarting, say) is tried again soon, and only counts as lost when the lease itself may be over; so
    does one that does not come back. `asked_at`: when the claim was asked for; now, if it was just before.
    """
    owner = asyncio.current_task()
    assert owner is not None
    failure: list[BaseException] = []
    every_seconds = lease_seconds / 3
    lease = Lease(lease_seconds, asked_at=asked_at)

    async def run() -> None:
        pause = every_seconds
        problem: BaseException = LeaseLost()
        while lease.left_seconds > 0:
            await asyncio.sleep(min(pause, max(0.0, lease.left_seconds)))
            beaten_at = time.monotonic()
            try:
                if not await _within(beat(), lease.left_seconds):
                    problem = LeaseLost()
                    break
                lease.renew(beaten_at)
                pause = every_seconds
            except Exception as error:  # noqa: BLE001 handed to the block's owner below, if it lasts
                problem, pause = error, min(1.0, every_seconds / 4)
        failure.append(problem)
        owner.cancel()

    task = asyncio.create_task(run())
    try:
        with lease:
            yield lease
    except asyncio.CancelledError:
        if failure and owner.uncancel() == 0:
            raise failure[0] from None
        raise
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _within(work: Awaitable[bool], seconds: float) -> bool:
    """What comes of it, if it does in time: else LeaseLost.

    Nobody waits until it has heard that it is cancelled: a connection that is not answered takes its time for that.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=max(0.0, seconds))
    finally:
        if not task.done():
            task.cancel()
            _left.add(task)
            task.add_done_callback(_forget)
    if not done:
        raise LeaseLost
    return task.result()


#: Held, so that they come to their end.
_left: set[asyncio.Future[bool]] = set()


def _forget(task: asyncio.Future[bool]) -> None:
    _left.discard(task)
    if not task.cancelled():
        task.exception()
