"""The layer that sees every call begin, move bytes and end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import ClassVar, Final, TypeVar

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
    SignedRequest,
    StorageProvider,
)
from simples3dms.providers.errors import STORE_FAULTS, ProviderError
from simples3dms.providers.layers.forwarding import Layer

T = TypeVar("T")
#: Operations that change something at the store.
WRITES: Final = frozenset(
    {
        "put",
        "delete",
        "discard",
        "copy",
        "begin_parts",
        "put_part",
        "finish_parts",
        "abort_parts",
        "sign_upload",
        "sign_part",
        "inspect",
        "set_hold",
        "set_retention",
    }
)
#: Operations that never leave this process.
LOCAL: Final = frozenset({"sign_download", "sign_upload", "sign_part"})


@dataclass(slots=True)
class Call:
    """One call on its way through a `CallLayer`."""

    operation: str
    bytes_sent: int = 0
    """Of a whole body or a part: known before the call. A stream's bytes are told while they move."""
    is_stream: bool = False
    has_answered: bool = False
    """Of `open`: the reader is there; what follows are its bytes."""
    object_count: int = 1
    bytes_read: int = 0
    began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    @property
    def writes(self) -> bool:
        return self.operation in WRITES


class CallLayer(Layer):
    """Sees each call that reaches the store. Subclasses override `begin` or, where a call may have to wait, `before`,
    and `moved` and `after`; all may raise.

    `after` is called for every call whose `begin` or `before` returned, also when it was cancelled (then with that
    error). For `open` that is when the reader is left, so that whatever they took is held as long as bytes may flow.
    """

    #: Whether `bytes_read` is needed: the readers of layers that neither count nor meet bytes are not wrapped.
    counts_bytes: ClassVar[bool] = False

    def __init__(self, inner: StorageProvider) -> None:
        super().__init__(inner)
        self.meets_bytes = self.counts_bytes or type(self).moved is not CallLayer.moved
        #: Most layers never wait, and a coroutine that does nothing is dear where a call takes a millisecond.
        self.waits = type(self).before is not CallLayer.before

    def begin(self, call: Call) -> None:
        """The call has not begun. Raising keeps it from the store."""

    async def before(self, call: Call) -> None:
        """The same, for a layer that may wait."""

    async def moved(self, call: Call, size_bytes: int) -> None:
        """Bytes of a stream passed, in either direction."""

    def answered(self, call: Call) -> None:
        """The store has answered an `open`; its bytes are still to come. (Of a `get`, answer and bytes are one.)"""

    def after(self, call: Call, error: BaseException | None) -> None:
        """The call has ended."""

    async def _run(self, call: Call, run: Callable[[], Awaitable[T]]) -> T:
        self.begin(call)
        if self.waits:
            await self.before(call)
        try:
            result = await run()
        except BaseException as error:
            self.after(call, error)
            raise
        self.after(call, None)
        return result

    async def put(
        self, key: str, body: Body, *, expected: Expected = NOTHING_EXPECTED, content_type: str | None = None
    ) -> PutResult:
        sent: Body
        if isinstance(body, bytes):
            call, sent = Call("put", bytes_sent=len(body)), body
        else:
            call = Call("put", is_stream=True)
            sent = _Moving(self, call, body) if self.meets_bytes else body
        # As `_run`, written out: of all calls, small writes are the most.
        self.begin(call)
        if self.waits:
            await self.before(call)
        try:
            result = await self.inner.put(key, sent, expected=expected, content_type=content_type)
        except BaseException as error:
            self.after(call, error)
            raise
        self.after(call, None)
        return result

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
        return _WatchedOpen(self, opened)

    async def get(self, key: str, *, version_id: str | None = None, expected: Expected) -> bytes:
        # To those who count it is a reading like any other.
        call = Call("open")
        self.begin(call)
        if self.waits:
            await self.before(call)
        try:
            body = await self.inner.get(key, version_id=version_id, expected=expected)
            if self.meets_bytes:
                call.bytes_read = len(body)
                await self.moved(call, len(body))
        except BaseException as error:
            self.after(call, error)
            raise
        self.after(call, None)
        return body

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        return await self._run(Call("head"), lambda: self.inner.head(key, version_id=version_id))

    async def delete(self, refs: Sequence[ObjectRef]) -> list[DeleteOutcome]:
        call = Call("delete", object_count=len(refs))
        self.begin(call)
        if self.waits:
            await self.before(call)
        try:
            outcomes = await self.inner.delete(refs)
        except BaseException as error:
            self.after(call, error)
            raise
        # A store may answer the request and say of each object that it is unwell.
        self.after(call, next((one.error for one in outcomes if isinstance(one.error, STORE_FAULTS)), None))
        return outcomes

    async def discard(self, key: str) -> None:
        await self._run(Call("discard"), lambda: self.inner.discard(key))

    async def get_lock(self, ref: ObjectRef) -> ObjectLock:
        return await self._run(Call("get_lock"), lambda: self.inner.get_lock(ref))

    async def set_hold(self, ref: ObjectRef, *, on: bool) -> None:
        await self._run(Call("set_hold"), lambda: self.inner.set_hold(ref, on=on))

    async def set_retention(self, ref: ObjectRef, *, mode: LockMode, until: datetime, bypass: bool = False) -> None:
        await self._run(
            Call("set_retention"), lambda: self.inner.set_retention(ref, mode=mode, until=until, bypass=bypass)
        )

    async def list_page(
        self,
        prefix: str = "",
        *,
        start_after: str | None = None,
        cursor: str | None = None,
        unfinished: bool = False,
    ) -> ListPage:
        return await self._run(
            Call("list"),
            lambda: self.inner.list_page(prefix, start_after=start_after, cursor=cursor, unfinished=unfinished),
        )

    async def copy(self, source: CopySource, key: str, *, content_type: str | None = None) -> PutResult:
        return await self._run(Call("copy"), lambda: self.inner.copy(source, key, content_type=content_type))

    async def begin_parts(
        self,
        key: str,
        *,
        size_bytes: int | None = None,
        content_type: str | None = None,
        sha1: bytes | None = None,
    ) -> PartsUpload:
        return await self._run(
            Call("begin_parts"),
            lambda: self.inner.begin_parts(key, size_bytes=size_bytes, content_type=content_type, sha1=sha1),
        )

    async def put_part(self, upload: PartsUpload, number: int, body: bytes) -> Part:
        return await self._run(
            Call("put_part", bytes_sent=len(body)), lambda: self.inner.put_part(upload, number, body)
        )

    async def list_parts(self, upload: PartsUpload) -> Sequence[Part]:
        return await self._run(Call("list_parts"), lambda: self.inner.list_parts(upload))

    async def finish_parts(self, upload: PartsUpload, parts: Sequence[Part]) -> PutResult:
        return await self._run(Call("finish_parts"), lambda: self.inner.finish_parts(upload, parts))

    async def abort_parts(self, upload: PartsUpload) -> None:
        await self._run(Call("abort_parts"), lambda: self.inner.abort_parts(upload))

    async def sign_download(
        self, ref: ObjectRef, *, expires_seconds: int, filename: str, content_type: str
    ) -> SignedRequest:
        return await self._run(
            Call("sign_download"),
            lambda: self.inner.sign_download(
                ref, expires_seconds=expires_seconds, filename=filename, content_type=content_type
            ),
        )

    async def sign_upload(self, key: str, *, size_bytes: int, content_type: str, expires_seconds: int) -> SignedRequest:
        return await self._run(
            Call("sign_upload"),
            lambda: self.inner.sign_upload(
                key, size_bytes=size_bytes, content_type=content_type, expires_seconds=expires_seconds
            ),
        )

    async def sign_part(
        self, upload: PartsUpload, number: int, *, size_bytes: int, expires_seconds: int
    ) -> SignedRequest:
        return await self._run(
            Call("sign_part"),
            lambda: self.inner.sign_part(upload, number, size_bytes=size_bytes, expires_seconds=expires_seconds),
        )

    async def inspect(self, scratch: str) -> Sequence[Finding]:
        return await self._run(Call("inspect"), lambda: self.inner.inspect(scratch))

    async def check(self) -> None:
        await self._run(Call("check"), self.inner.check)


class _Moving:
    """A stream into the store whose bytes the layer sees."""

    def __init__(self, layer: CallLayer, call: Call, body: AsyncIterable[bytes]) -> None:
        self._layer, self._call, self._body = layer, call, body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._body:
            await self._layer.moved(self._call, len(chunk))
            self._call.bytes_sent += len(chunk)
            yield chunk


class _WatchedOpen:
    """An opening whose call ends when its reader is left."""

    def __init__(self, layer: CallLayer, opened: AbstractAsyncContextManager[ObjectReader]) -> None:
        self._layer, self._opened = layer, opened
        self._call = Call("open")

    async def __aenter__(self) -> ObjectReader:
        self._call.began = time.perf_counter()
        self._layer.begin(self._call)
        if self._layer.waits:
            await self._layer.before(self._call)
        try:
            reader = await self._opened.__aenter__()
        except BaseException as error:
            self._layer.after(self._call, error)
            raise
        self._call.has_answered = True
        self._layer.answered(self._call)
        return _WatchedReader(self._layer, self._call, reader) if self._layer.meets_bytes else reader

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        failed = error
        try:
            return await self._opened.__aexit__(kind, error, trace)
        except BaseException as another:
            failed = another
            raise
        finally:
            # What the reader's user does wrong says nothing of the store.
            told = failed if isinstance(failed, ProviderError | asyncio.CancelledError) else None
            self._layer.after(self._call, told)


class _WatchedReader:
    def __init__(self, layer: CallLayer, call: Call, reader: ObjectReader) -> None:
        self.info = reader.info
        self._layer, self._call, self._reader = layer, call, reader

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._reader:
            self._call.bytes_read += len(chunk)
            await self._layer.moved(self._call, len(chunk))
            yield chunk
