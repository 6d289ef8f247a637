"""Timeout: no call waits for ever, and a body may take as long as bytes keep coming."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from types import TracebackType
from typing import TypeVar

from simples3dms.providers.base import (
    NOTHING_EXPECTED,
    Body,
    CopySource,
    DeleteOutcome,
    Expected,
    Finding,
    ListPage,
    LockMode,
    ObjectInfo,
    ObjectLock,
    ObjectReader,
    ObjectRef,
    Part,
    PartsUpload,
    PutResult,
    StorageProvider,
)
from simples3dms.providers.errors import StoreTimedOut
from simples3dms.providers.layers.forwarding import Layer

T = TypeVar("T")
#: A write is given at least this rate once its fixed allowance is used up: 64 KiB/s, slower than a bad DSL line.
_SLOWEST_BYTES_PER_SECOND = 64 * 1024
_CALLS_TO_INSPECT = 12


class TimeoutLayer(Layer):
    """Bounds the wait for an answer, for further bytes, and for a whole write by its size."""

    def __init__(
        self, inner: StorageProvider, *, answer_seconds: float, read_seconds: float, call_seconds: float
    ) -> None:
        super().__init__(inner)
        self._answer_seconds = answer_seconds
        self._read_seconds = read_seconds
        self._call_seconds = call_seconds

    async def _bounded(self, seconds: float | None, call: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(seconds):
                return await call()
        except TimeoutError as error:
            raise StoreTimedOut("the store did not answer in time") from error

    async def put(
        self, key: str, body: Body, *, expected: Expected = NOTHING_EXPECTED, content_type: str | None = None
    ) -> PutResult:
        size = len(body) if isinstance(body, bytes) else None
        # How long a stream takes is its source's affair; between its parts the kind's own limits hold.
        limit = None if size is None else self._by_size(size)
        try:
            async with asyncio.timeout(limit):
                return await self.inner.put(key, body, expected=expected, content_type=content_type)
        except TimeoutError as error:
            raise StoreTimedOut("the store did not answer in time") from error

    def open(
        self,
        key: str,
        *,
        version_id: str | None = None,
        start: int = 0,
        length: int | None = None,
        expected: Expected = NOTHING_EXPECTED,
    ) -> AbstractAsyncContextManager[ObjectReader]:
        opened = self.inner.open(key, version_id=version_id, start=start, length=length, expected=expected)
        return _BoundedOpen(opened, self._answer_seconds, self._read_seconds)

    async def get(self, key: str, *, version_id: str | None = None, expected: Expected) -> bytes:
        try:
            async with asyncio.timeout(self._by_size(expected.size_bytes or 0)):
                return await self.inner.get(key, version_id=version_id, expected=expected)
        except TimeoutError as error:
            raise StoreTimedOut("the store did not answer in time") from error

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        return await self._bounded(self._call_seconds, lambda: self.inner.head(key, version_id=version_id))

    async def delete(self, refs: Sequence[ObjectRef]) -> list[DeleteOutcome]:
        return await self._bounded(self._call_seconds + len(refs), lambda: self.inner.delete(refs))

    async def discard(self, key: str) -> None:
        await self._bounded(self._call_seconds, lambda: self.inner.discard(key))

    async def get_lock(self, ref: ObjectRef) -> ObjectLock:
        return await self._bounded(self._call_seconds, lambda: self.inner.get_lock(ref))

    async def set_hold(self, ref: ObjectRef, *, on: bool) -> None:
        await self._bounded(self._call_seconds, lambda: self.inner.set_hold(ref, on=on))

    async def set_retention(self, ref: ObjectRef, *, mode: LockMode, until: datetime, bypass: bool = False) -> None:
        await self._bounded(
            self._call_seconds, lambda: self.inner.set_retention(ref, mode=mode, until=until, bypass=bypass)
        )

    async def list_page(
        self,
        prefix: str = "",
        *,
        start_after: str | None = None,
        cursor: str | None = None,
        unfinished: bool = False,
    ) -> ListPage:
        return await self._bounded(
            self._call_seconds,
            lambda: self.inner.list_page(prefix, start_after=start_after, cursor=cursor, unfinished=unfinished),
        )

    async def copy(self, source: CopySource, key: str, *, content_type: str | None = None) -> PutResult:
        # The service moves the bytes, and some answer only when it is done.
        return await self._bounded(
            self._by_size(source.size_bytes), lambda: self.inner.copy(source, key, content_type=content_type)
        )

    async def begin_parts(
        self,
        key: str,
        *,
        size_bytes: int | None = None,
        content_type: str | None = None,
        sha1: bytes | None = None,
    ) -> PartsUpload:
        return await self._bounded(
            self._call_seconds,
            lambda: self.inner.begin_parts(key, size_bytes=size_bytes, content_type=content_type, sha1=sha1),
        )

    async def put_part(self, upload: PartsUpload, number: int, body: bytes) -> Part:
        return await self._bounded(self._by_size(len(body)), lambda: self.inner.put_part(upload, number, body))

    async def list_parts(self, upload: PartsUpload) -> Sequence[Part]:
        return await self._bounded(self._call_seconds, lambda: self.inner.list_parts(upload))

    async def finish_parts(self, upload: PartsUpload, parts: Sequence[Part]) -> PutResult:
        # Services put the parts together now, and say so only afterwards.
        return await self._bounded(
            self._by_size(sum(part.size_bytes for part in parts)), lambda: self.inner.finish_parts(upload, parts)
        )

    async def abort_parts(self, upload: PartsUpload) -> None:
        await self._bounded(self._call_seconds, lambda: self.inner.abort_parts(upload))

    async def inspect(self, scratch: str) -> Sequence[Finding]:
        # A dozen calls of the kind's own, one after the other.
        return await self._bounded(_CALLS_TO_INSPECT * self._call_seconds, lambda: self.inner.inspect(scratch))

    async def check(self) -> None:
        await self._bounded(self._call_seconds, self.inner.check)

    def _by_size(self, size_bytes: int) -> float:
        return self._call_seconds + size_bytes / _SLOWEST_BYTES_PER_SECOND


class _BoundedOpen:
    """An opening that must answer in time, and a body whose bytes must keep coming."""

    def __init__(
        self, opened: AbstractAsyncContextManager[ObjectReader], answer_seconds: float, read_seconds: float
    ) -> None:
        self._opened = opened
        self._answer_seconds = answer_seconds
        self._read_seconds = read_seconds

    async def __aenter__(self) -> ObjectReader:
        try:
            async with asyncio.timeout(self._answer_seconds):
                return _BoundedReader(await self._opened.__aenter__(), self._read_seconds)
        except TimeoutError as error:
            raise StoreTimedOut("the store did not answer in time") from error

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._opened.__aexit__(kind, error, trace)


class _BoundedReader:
    def __init__(self, reader: ObjectReader, read_seconds: float) -> None:
        self._reader = reader
        self._read_seconds = read_seconds

    @property
    def info(self) -> ObjectInfo:
        return self._reader.info

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._reader)
        while True:
            try:
                async with asyncio.timeout(self._read_seconds):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise StoreTimedOut("the store sent no further bytes in time") from error
            yield chunk
