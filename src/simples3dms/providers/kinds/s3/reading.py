"""Reading through obstore: small bodies in one answer, large ones in windows, the next ones fetched ahead.

Windows, because one long answer is the slowest way to read a large object from most services (SeaweedFS: eight times
slower than ranges of it), and because a window that fails is all that has to be read again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import obstore

from simples3dms.providers.base import ObjectInfo
from simples3dms.providers.errors import IntegrityError, ProviderError
from simples3dms.providers.kinds.s3.errors import from_vendor

#: A window, and how many are on their way beside the one that is being read: three windows in memory a reader.
WINDOW_BYTES: Final = 4 * 1024 * 1024
WINDOWS_AHEAD: Final = 2
#: Small enough that a line of 50 KB/s shows a sign of life every few seconds.
_CHUNK_BYTES: Final = 256 * 1024

Fetch = Callable[[int, int], Awaitable[Any]]


class RangeIgnored(ProviderError):
    """The store answered with everything where a part was asked for."""


class StreamReader:
    """The bytes of one answer, in small chunks; without the first `skip`, where a range was not honoured."""

    def __init__(self, info: ObjectInfo, result: Any, *, skip: int = 0, length: int | None = None) -> None:
        self.info = info
        self._result = result
        self._skip = skip
        self._length = length

    async def __aiter__(self) -> AsyncIterator[bytes]:
        skip, left = self._skip, self._length
        try:
            if self.info.size_bytes <= _CHUNK_BYTES and not skip and left is None:
                # One wait instead of two: for small objects that is a good part of the time.
                yield bytes(await self._result.bytes_async())
                return
            async for found in self._result.stream(min_chunk_size=_CHUNK_BYTES):
                chunk = bytes(found)
                if skip:
                    skip, chunk = max(0, skip - len(chunk)), chunk[skip:]
                if left is not None:
                    chunk = chunk[:left]
                    left -= len(chunk)
                if chunk:
                    yield chunk
                if left == 0:
                    return
        except Exception as error:  # noqa: BLE001  as in the provider: what is raised in here is the vendor's
            raise from_vendor(error, self.info.key) from None


class _Window:
    """A part of the object on its way: its chunks can be taken as they come, not only when all of it is there."""

    def __init__(self, info: ObjectInfo, fetch: Fetch, start: int, end: int) -> None:
        self._info = info
        self._fetch = fetch
        self._due = end - start
        # No longer than the window: its memory is the window's.
        self._chunks: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.task = asyncio.create_task(self._run(start, end))

    async def _run(self, start: int, end: int) -> None:
        try:
            result = await self._fetch(start, end)
            if result.meta.get("e_tag") != self._info.etag:
                raise IntegrityError("the object changed while it was read", key=self._info.key)
            came = 0
            async for chunk in StreamReader(self._info, result):
                came += len(chunk)
                _compare(came, self._due, self._info, more=True)
                self._chunks.put_nowait(chunk)
            _compare(came, self._due, self._info)
        except Exception as error:  # noqa: BLE001  what nobody foresaw, too, or the reader would wait for ever
            self._chunks.put_nowait(error)
        else:
            self._chunks.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self._chunks.get()) is not None:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk


class WindowReader:
    """The bytes from `start` to `end` in windows. The first window's answer is there; the others come while it is read.

    All windows must be of the same object: an entity tag that changes in between is an IntegrityError.
    """

    def __init__(self, info: ObjectInfo, first: Any, fetch: Fetch, start: int, end: int) -> None:
        self.info = info
        self._first = first
        self._fetch = fetch
        self._start, self._next = start, start + WINDOW_BYTES
        self._end = end
        self._ahead: deque[_Window] = deque()
        self._current: _Window | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        came, due = 0, min(self._next, self._end) - self._start
        self._fill()
        async for chunk in StreamReader(self.info, self._first):
            came += len(chunk)
            _compare(came, due, self.info, more=True)
            yield chunk
        _compare(came, due, self.info)
        while self._ahead:
            self._current = self._ahead.popleft()
            self._fill()
            async for chunk in self._current:
                yield chunk

    def _fill(self) -> None:
        while len(self._ahead) < WINDOWS_AHEAD and self._next < self._end:
            upto = min(self._next + WINDOW_BYTES, self._end)
            self._ahead.append(_Window(self.info, self._fetch, self._next, upto))
            self._next = upto

    async def close(self) -> None:
        """Stop what is on its way. Its outcome is nobody's concern any more."""
        tasks = [window.task for window in (*self._ahead, *([self._current] if self._current else []))]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._ahead.clear()


def _compare(came: int, due: int, info: ObjectInfo, *, more: bool = False) -> None:
    """Raise IntegrityError unless the range is whole; with `more` to come, only if it is too long already."""
    if came > due or (came < due and not more):
        raise IntegrityError(f"{came} bytes came for a range of {due}", key=info.key)


class EmptyReader:
    """Nothing to read."""

    def __init__(self, info: ObjectInfo) -> None:
        self.info = info

    async def __aiter__(self) -> AsyncIterator[bytes]:
        nothing: tuple[bytes, ...] = ()
        for chunk in nothing:
            yield chunk


def is_range_ignored(error: ProviderError, text: str) -> bool:
    """Whether the store answered a range with the whole object (obstore refuses that; some servers know no ranges)."""
    return error.retryable and "non-partial" in text


async def get(store: Any, path: str, options: dict[str, Any]) -> Any:
    return await obstore.get_async(store, path, options=options)  # type: ignore[arg-type]
