"""Hedged reads: the next store is asked as well when the first one takes longer than it nearly always does.

The first that gives bytes serves, alone: all that a reader gets, until that store fails, is of one answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import structlog

from simples3dms.providers.errors import ProviderError
from simples3dms.storage.blobs.latencies import Latencies
from simples3dms.storage.blobs.values import Replica

log = structlog.get_logger(__name__)
T = TypeVar("T")

#: So much of a second request is earned by each read: one in twenty, at most.
SHARE: Final = 0.05
#: What may be saved up, for a store that becomes slow after a long good time.
_MOST_SAVED: Final = 5.0


@dataclass(slots=True)
class HedgeCounts:
    """Reads that could have been hedged, those that were, and those of which the second store was the first."""

    reads: int = 0
    hedged: int = 0
    won: int = 0


@dataclass(frozen=True, slots=True)
class Attempt(Generic[T]):
    """How to ask a replica's store until its first bytes, and how to let go of an answer that nobody wants."""

    begin: Callable[[Replica], Awaitable[T]]
    discard: Callable[[T], Awaitable[None]]


class Hedges:
    """What hedging is allowed in this process, and what came of it. All stores share one budget.

    A store that is slow for all raises its own 95th percentile, and until it has, the budget holds.
    """

    def __init__(self, latencies: Latencies) -> None:
        self._latencies = latencies
        self._saved = 1.0
        self._ending: set[asyncio.Task[Any]] = set()
        self.counts = HedgeCounts()

    async def race(
        self,
        first: Replica,
        second: Callable[[], Replica | None],
        attempt: Attempt[T],
        failed: Callable[[Replica, ProviderError], Awaitable[None]],
    ) -> tuple[Replica, T] | None:
        """The replica whose store gave its first bytes first, with what `attempt` made of them; None if all failed.

        `second` is asked for another replica only when the first is late and the budget allows it; `failed` hears of
        each failure. The one that is late is cancelled, and its connection closed, without anybody waiting for it.
        """
        self.counts.reads += 1
        self._saved = min(_MOST_SAVED, self._saved + SHARE)
        tasks = {asyncio.ensure_future(attempt.begin(first)): (first, time.monotonic())}
        try:
            late_after = self._latencies.late_after(first.store_id)
            if late_after is not None:
                done, _ = await asyncio.wait(tasks, timeout=late_after)
                other = None if done or self._saved < 1 else second()
                if other is not None:
                    self._saved -= 1
                    self.counts.hedged += 1
                    tasks[asyncio.ensure_future(attempt.begin(other))] = (other, time.monotonic())
            while tasks:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=lambda one: tasks[one][1]):
                    replica, _ = tasks.pop(task)
                    try:
                        answer = task.result()
                    except ProviderError as error:
                        await failed(replica, error)
                        continue
                    self.counts.won += replica is not first
                    return replica, answer
            return None
        finally:
            for task, (replica, began_at) in tasks.items():
                self._end(task, replica, began_at, attempt)

    def _end(self, task: asyncio.Future[T], replica: Replica, began_at: float, attempt: Attempt[T]) -> None:
        """Let go of an attempt that lost; that it took so long at least is known of its store."""
        if not task.done():
            self._latencies.note(replica.store_id, time.monotonic() - began_at)
        task.cancel()
        ending = asyncio.create_task(_discard(task, attempt))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def settle(self) -> None:
        """Wait until all that lost has been let go of."""
        while self._ending:
            await asyncio.gather(*self._ending, return_exceptions=True)


async def _discard(task: asyncio.Future[T], attempt: Attempt[T]) -> None:
    await asyncio.wait([task])
    if task.cancelled():
        return
    if task.exception() is None:
        await attempt.discard(task.result())
    elif not isinstance(task.exception(), ProviderError):
        log.error("hedge.failed", error=type(task.exception()).__name__)
