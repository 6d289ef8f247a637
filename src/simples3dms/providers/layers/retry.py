"""Retry: what may be repeated is, a few times, with growing jittered pauses; nothing further out retries again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TypeVar

from simples3dms.providers.base import (
    NOTHING_EXPECTED,
    Body,
    DeleteOutcome,
    Expected,
    ObjectInfo,
    ObjectReader,
    ObjectRef,
    PutResult,
    StorageProvider,
)
from simples3dms.providers.errors import ProviderError
from simples3dms.providers.layers.base import Layer

T = TypeVar("T")


class RetryLayer(Layer):
    """Repeats calls that failed with a retryable error: `attempts` in all, pauses within `base` and `longest`."""

    def __init__(self, inner: StorageProvider, *, attempts: int, base_seconds: float, longest_seconds: float) -> None:
        super().__init__(inner)
        self._attempts = attempts
        self._base_seconds = base_seconds
        self._longest_seconds = longest_seconds

    async def pause(self, attempt: int, error: ProviderError) -> None:
        """Wait as long as the store asked for, or a random part of a growing pause (full jitter)."""
        if error.retry_after is not None:
            await asyncio.sleep(min(error.retry_after, self._longest_seconds))
            return
        ceiling = min(self._longest_seconds, self._base_seconds * 2**attempt)
        await asyncio.sleep(random.uniform(0, ceiling))  # noqa: S311 jitter, not a secret

    async def _repeat(self, call: Callable[[], Awaitable[T]]) -> T:
        attempt = 0
        while True:
            try:
                return await call()
            except ProviderError as error:
                attempt += 1
                if not error.retryable or attempt >= self._attempts:
                    raise
                await self.pause(attempt, error)

    async def put(
        self, key: str, body: Body, *, expected: Expected = NOTHING_EXPECTED, content_type: str | None = None
    ) -> PutResult:
        if not isinstance(body, bytes):
            # A stream can be read once; the kinds repeat its parts by themselves.
            return await self.inner.put(key, body, expected=expected, content_type=content_type)
        return await self._repeat(lambda: self.inner.put(key, body, expected=expected, content_type=content_type))

    def open(
        self,
        key: str,
        *,
        version_id: str | None = None,
        start: int = 0,
        length: int | None = None,
        expected: Expected = NOTHING_EXPECTED,
    ) -> AbstractAsyncContextManager[ObjectReader]:
        def reopen(done: int) -> AbstractAsyncContextManager[ObjectReader]:
            left = None if length is None else length - done
            return self.inner.open(key, version_id=version_id, start=start + done, length=left, expected=expected)

        return _ResumingOpen(self, reopen, self._attempts)

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        return await self._repeat(lambda: self.inner.head(key, version_id=version_id))

    async def delete(self, refs: Sequence[ObjectRef]) -> list[DeleteOutcome]:
        return await self._repeat(lambda: self.inner.delete(refs))

    async def discard(self, key: str) -> None:
        await self._repeat(lambda: self.inner.discard(key))

    async def check(self) -> None:
        await self._repeat(self.inner.check)


class _ResumingOpen:
    """Opens again, where the body was cut, from the byte after the last one handed out."""

    def __init__(
        self,
        layer: RetryLayer,
        reopen: Callable[[int], AbstractAsyncContextManager[ObjectReader]],
        attempts: int,
    ) -> None:
        self._layer = layer
        self._reopen = reopen
        self._attempts = attempts
        self._failed = 0
        self._current: AbstractAsyncContextManager[ObjectReader] | None = None
        self._reader: ObjectReader | None = None
        self._info: ObjectInfo | None = None

    @property
    def info(self) -> ObjectInfo:
        """As the first opening showed it."""
        assert self._info is not None
        return self._info

    async def __aenter__(self) -> ObjectReader:
        await self._open(0)
        assert self._reader is not None
        self._info = self._reader.info
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if self._current is None:
            return None
        current, self._current = self._current, None
        return await current.__aexit__(kind, error, trace)

    async def _open(self, done: int) -> None:
        while True:
            current = self._reopen(done)
            try:
                self._reader = await current.__aenter__()
                self._current = current
                return
            except ProviderError as error:
                await self._may_go_on(error)

    async def _may_go_on(self, error: ProviderError) -> None:
        self._failed += 1
        if not error.retryable or self._failed >= self._attempts:
            raise error
        await self._layer.pause(self._failed, error)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        done = 0
        while True:
            assert self._reader is not None
            try:
                async for chunk in self._reader:
                    done += len(chunk)
                    yield chunk
                return
            except ProviderError as error:
                if self._current is not None:
                    current, self._current = self._current, None
                    await current.__aexit__(None, None, None)
                await self._may_go_on(error)
                await self._open(done)
