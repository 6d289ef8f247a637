"""Concurrency: as many calls at a time as the store bears, found out while running."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

from simples3dms.providers.base import StorageProvider
from simples3dms.providers.errors import Throttled
from simples3dms.providers.layers.base import LOCAL, Call, CallLayer

#: A latency this many times the best one seen lately means that more at a time would only wait inside the store.
_SLOW: Final = 3.0
#: Below this the difference between calls is this process's own noise.
_QUICK_SECONDS: Final = 0.005
#: One throttled moment makes many calls fail; they halve the limit once.
_HALVING_SECONDS: Final = 1.0
#: Calls with more bytes than this measure the line, not the store.
_SMALL_BYTES: Final = 256 * 1024
#: The best latency is forgotten this slowly, so that a store that became slower for good is not starved.
_FORGET: Final = 1.002


class ConcurrencyLayer(CallLayer):
    """Bounds calls that wait for the store: between 1 and `most`; begins at `first`.

    Grows while calls use the whole limit and latency holds: by one a call until latency first rises or the store
    throttles, by one a round of calls from then on. Halved when the store throttles. A reader counts
    until the store has answered, not while its bytes flow, and a stream to a store without parts not at all: they move
    at their other end's pace, and holding a place while waiting for another store could close a circle.
    """

    def __init__(self, inner: StorageProvider, *, most: int, first: int = 16) -> None:
        super().__init__(inner)
        self._most = most
        self._limit = float(min(most, first))
        self._busy = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._best_seconds: float | None = None
        self._halved_at = 0.0
        self._share = 1.0
        self._is_starting = True

    @property
    def limit(self) -> int:
        return max(1, int(min(self._limit, self._most * self._share)))

    def set_share(self, share: float) -> None:
        """Of `most`, only so much is this process's from now on (above 0, up to 1)."""
        self._share = share

    @property
    def busy_count(self) -> int:
        return self._busy

    async def before(self, call: Call) -> None:
        if call.operation in LOCAL or call.is_stream:
            return
        if self._busy < self.limit and not self._waiting:
            self._busy += 1
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._leave()  # the place was given just as we were cancelled
                raise
        call.began = time.perf_counter()

    def answered(self, call: Call) -> None:
        self._measure(call)
        self._leave()

    def after(self, call: Call, error: BaseException | None) -> None:
        if call.operation in LOCAL or call.is_stream:
            return
        if isinstance(error, Throttled):
            self._halve()
        if call.has_answered:
            return  # its place was given back then
        if error is None:
            self._measure(call)
        self._leave()

    def _leave(self) -> None:
        self._busy -= 1
        while self._waiting and self._busy < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._busy += 1
                turn.set_result(None)

    def _measure(self, call: Call) -> None:
        if call.bytes_sent > _SMALL_BYTES or call.operation == "delete":
            return
        seconds = call.seconds
        if self._best_seconds is None or seconds < self._best_seconds:
            self._best_seconds = seconds
        else:
            self._best_seconds *= _FORGET
        if self._busy < self.limit:
            return
        if seconds > max(self._best_seconds, _QUICK_SECONDS) * _SLOW * self._crowding():
            self._is_starting = False
        else:
            self._limit = min(self._most, self._limit + (1 if self._is_starting else 1 / self._limit))

    def _crowding(self) -> float:
        """Latency may grow with what we ourselves have under way, a little: stores answer some calls side by side."""
        return 1 + self._busy / 16

    def _halve(self) -> None:
        now = time.monotonic()
        if now - self._halved_at >= _HALVING_SECONDS:
            self._halved_at = now
            self._is_starting = False
            self._limit = max(1.0, self._limit / 2)
