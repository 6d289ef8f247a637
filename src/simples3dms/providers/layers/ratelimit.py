"""Rate limit: requests and bytes per second of one store, shared fairly among those who use it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextvars import ContextVar
from typing import Final

from simples3dms.providers.base import StorageProvider
from simples3dms.providers.layers.base import LOCAL, Call, CallLayer

#: How much may be used at once after a quiet time: this many seconds' worth.
_BURST_SECONDS: Final = 1.0
_share: ContextVar[str] = ContextVar("share", default="")


def share_as(share: str) -> None:
    """From here on, calls of this asyncio task (and of those that it starts) count for this share, such as a tenant's.

    Shares take turns, whatever each of them asks for.
    """
    _share.set(share)


class _Bucket:
    """Tokens that come at a steady rate; whoever waits is served by shares in turn. One large use may go into debt."""

    def __init__(self, per_second: float) -> None:
        self._whole = self._per_second = per_second
        self._tokens = self._burst
        self._at = time.monotonic()
        self._queues: dict[str, deque[tuple[float, asyncio.Future[None]]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def _burst(self) -> float:
        return max(1.0, self._per_second * _BURST_SECONDS)

    def set_share(self, share: float) -> None:
        self._refill()
        self._per_second = self._whole * share
        self._tokens = min(self._tokens, self._burst)

    async def take(self, amount: float) -> None:
        self._refill()
        if not self._queues and self._tokens > 0:
            self._tokens -= amount
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(_share.get(), deque()).append((amount, turn))
        self._arm()
        await turn

    def _refill(self) -> None:
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second)
        self._at = now

    def _arm(self) -> None:
        if self._timer is None and self._queues:
            wait = max(0.001, -self._tokens / self._per_second + 1 / max(self._per_second, 1000))
            self._timer = asyncio.get_running_loop().call_later(wait, self._serve)

    def _serve(self) -> None:
        self._timer = None
        self._refill()
        while self._queues and self._tokens > 0:
            # The first share in line is served once and goes to the end of the line.
            share = next(iter(self._queues))
            queue = self._queues.pop(share)
            amount, turn = queue.popleft()
            if queue:
                self._queues[share] = queue
            if not turn.done():
                self._tokens -= amount
                turn.set_result(None)
        self._arm()


class RateLimitLayer(CallLayer):
    """At most so many requests and bytes per second; None: no bound. Both ways count together."""

    def __init__(
        self, inner: StorageProvider, *, requests_per_second: float | None, bytes_per_second: float | None
    ) -> None:
        super().__init__(inner)
        self._requests = None if requests_per_second is None else _Bucket(requests_per_second)
        self._bytes = None if bytes_per_second is None else _Bucket(bytes_per_second)

    def set_share(self, share: float) -> None:
        """Give out so much of the rates from now on (above 0, up to 1)."""
        for bucket in (self._requests, self._bytes):
            if bucket is not None:
                bucket.set_share(share)

    async def before(self, call: Call) -> None:
        if call.operation in LOCAL:
            return
        if self._requests is not None:
            await self._requests.take(1)
        if self._bytes is not None and call.bytes_sent:
            await self._bytes.take(call.bytes_sent)

    async def moved(self, call: Call, size_bytes: int) -> None:  # noqa: ARG002 both ways count together
        if self._bytes is not None:
            await self._bytes.take(size_bytes)
