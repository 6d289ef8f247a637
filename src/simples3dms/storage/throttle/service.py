"""The throttle: people's reads are timed, and work in the background takes turns that are rarer while they wait.

Processes tell one another through the database, once a second, and only while there is something to tell. If it does
not answer, a worker stays at what it was allowed last.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

import structlog

from simples3dms.db.session import Database
from simples3dms.errors import Unavailable
from simples3dms.kit.ids import new_id
from simples3dms.storage.throttle import repository
from simples3dms.storage.throttle.values import Limit, Readings, rest_left

log = structlog.get_logger(__name__)

_EVERY_SECONDS: Final = 1.0
#: What a process said of its readers longer ago than this counts no more.
_STALE_SECONDS: Final = 4.0
_LONGEST_PAUSE_SECONDS: Final = 5.0


class Throttle:
    """This process's part: `reading` is for those who serve people, `turn` for work in the background."""

    def __init__(
        self, database: Database, *, most_slowdown: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`most_slowdown`: how many times as long as usual people may wait for a read's first bytes; 0: endlessly."""
        self._database = database
        self._clock = clock
        self._is_on = most_slowdown > 0
        self._process_id = new_id()
        self._readings = Readings()
        self._limit = Limit(most_slowdown=most_slowdown)
        #: The database's clock, less this process's.
        self._ahead_seconds: float | None = None
        self._has_read = False
        self._has_worked = False
        self._busy = 0
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def limit(self) -> float:
        """Turns at a time; endless while nobody reads."""
        return self._limit.value

    def start(self) -> None:
        """Listen to the other processes. Idempotent; without it nothing is held back here."""
        if self._is_on and self._task is None:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Idempotent."""
        if self._task is None:
            return
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        with suppress(Unavailable):
            async with self._database.platform() as uow:
                await repository.forget(uow, self._process_id)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around what somebody waits for. What fails tells nothing of how long it takes."""
        begun = self._clock()
        yield
        self._has_read = True
        if self._ahead_seconds is not None:
            self._readings.note(self._clock() - begun, begun=begun + self._ahead_seconds)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Around a piece of work in the background: begins when it may. Not one within another."""
        self._has_worked = True
        while (seconds := self._wait_seconds()) is not None:
            await self._wait(seconds)
        self._busy += 1
        begun = self._clock()
        try:
            yield
            if self.limit < 1:
                pause = (self._clock() - begun) * (1 / self.limit - 1)
                await asyncio.sleep(min(pause, _LONGEST_PAUSE_SECONDS))
        finally:
            self._busy -= 1
            self._wake(1)

    def _wait_seconds(self) -> float | None:
        """How long a turn waits before it asks again, unless it is woken; None: not at all."""
        if self.limit == math.inf:
            return None
        if self._busy >= max(1.0, self.limit):
            return _EVERY_SECONDS
        clock = self._clock() + (self._ahead_seconds or 0)
        return rest_left(clock) or None

    async def _wait(self, seconds: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = None
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            return
        finally:
            self._waiting.pop(waiter, None)

    def _wake(self, count: float) -> None:
        """Those who wait longest first. One who was woken and then cancelled is made up for within a second."""
        while count >= 1 and self._waiting:
            waiter = next(iter(self._waiting))
            del self._waiting[waiter]
            if not waiter.done():
                waiter.set_result(None)
                count -= 1

    async def look(self) -> None:
        """Tell what was seen here, and take what was seen anywhere. Raises Unavailable."""
        has_read, has_worked = self._has_read, self._has_worked or self._busy > 0
        self._has_read = self._has_worked = False
        if not has_read and not has_worked:
            return
        async with self._database.platform() as uow:
            if has_read:
                clock = await repository.read_clock(uow)
                self._ahead_seconds = clock - self._clock()
                look = self._readings.look(clock)
                if look.count:
                    await repository.note(uow, self._process_id, look)
            if has_worked:
                seen = await repository.find(uow, seconds=_STALE_SECONDS)
                self._ahead_seconds = seen.clock - self._clock()
                self._limit.update(someone_reads=seen.someone_reads, slowdown=seen.slowdown)
        self._wake(max(1.0, self.limit) - self._busy)

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Unavailable:
                log.warning("throttle.waits", reason="database unavailable")
            except Exception:
                log.exception("throttle.failed")
            await asyncio.sleep(_EVERY_SECONDS)
