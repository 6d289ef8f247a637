"""Bytes on their way from a reader into a cache: the reader never waits, and a cache that is too slow is given up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

#: How far the cache may be behind the reader.
MOST_BEHIND_BYTES: Final = 8 * 1024 * 1024


class Abandoned(Exception):
    """The reader did not come to a good end, or the cache was too slow for it."""


class Filling:
    """Filled by one reader, emptied by one writer. Nothing counts before `finish`: the bytes were verified then."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._behind = 0
        self._more = asyncio.Event()
        self._is_finished = False
        self._is_abandoned = False

    def offer(self, chunk: bytes) -> None:
        """Pass further bytes on. Never waits."""
        if self._is_abandoned:
            return
        self._chunks.append(chunk)
        self._behind += len(chunk)
        if self._behind > MOST_BEHIND_BYTES:
            self.abandon()
        self._more.set()

    def finish(self) -> None:
        """All bytes were passed on, and they are what the records say."""
        self._is_finished = not self._is_abandoned
        self._more.set()

    def abandon(self) -> None:
        """Give up, unless it was finished. Idempotent."""
        if not self._is_finished:
            self.close()

    def close(self) -> None:
        """Hold nothing any more."""
        self._is_abandoned = True
        self._chunks.clear()
        self._more.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            while self._chunks and not self._is_abandoned:
                chunk = self._chunks.popleft()
                self._behind -= len(chunk)
                yield chunk
            if self._is_abandoned:
                raise Abandoned
            if self._is_finished:
                return
            self._more.clear()
            await self._more.wait()
