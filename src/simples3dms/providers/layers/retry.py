"""Retry: what may be repeated is, a few times, with growing jittered pauses; nothing further out retries again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import datetime
from types import TracebackType
from typing import TypeVar

import structlog

from simples3dms.providers.base import (
    NOTHING_EXPECTED,
    Body,
    CopySource,
    DeleteOutcome,
    Expected,
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
from simples3dms.providers.errors import IntegrityError, ProviderError, StoreResting, StoreUnavailable
from simples3dms.providers.layers.forwarding import Layer
from simples3dms.providers.parts import put_in_parts

log = structlog.get_logger(__name__)
T = TypeVar("T")


class RetryBudget:
    """Repeats are paid from a purse that successes fill: a store that fails for everybody is not asked many times over.

    Every success puts a tenth in, every repeat takes one out, and it holds `most`. Empty: errors are passed on at once.
    """

    def __init__(self, most: float = 20) -> None:
        self._most = most
        self._left = most

    def succeed(self) -> None:
        self._left = min(self._most, self._left + 0.1)

    def take(self) -> bool:
        """Whether one more repeat may be made."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


class RetryLayer(Layer):
    """Repeats calls that failed with a retryable error: `attempts` in all, pauses within `base` and `longest`.

    Nothing further out repeats a request; whoever takes the work up later does so from records, minutes later. A
    stream can be read once: stores that take parts get it in parts, and each part is repeated by itself.
    """

    def __init__(
        self,
        inner: StorageProvider,
        *,
        attempts: int,
        base_seconds: float,
        longest_seconds: float,
        budget: RetryBudget | None = None,
    ) -> None:
        super().__init__(inner)
        self._attempts = attempts
        self._base_seconds = base_seconds
        self._longest_seconds = longest_seconds
        self.budget = budget or RetryBudget()

    async def may_repeat(self, failed: int, error: ProviderError) -> bool:
        """Wait as long as it takes before call `failed + 1`, and say whether there may be one.

        As long as the store asked for, never less (a longer time than ours to wait is not waited: the caller learns of
        it), or else a random part of a growing pause (full jitter).
        """
        if not error.retryable or isinstance(error, StoreResting) or failed >= self._attempts:
            return False
        if error.retry_after is not None and error.retry_after > self._longest_seconds:
            return False
        if not self.budget.take():
            return False
        ceiling = min(self._longest_seconds, self._base_seconds * 2**failed)
        jitter = random.uniform(0, ceiling)  # noqa: S311 jitter, not a secret
        # Those who were told the same time do not all come back in the same instant.
        await asyncio.sleep(jitter if error.retry_after is None else error.retry_after + min(jitter, 1.0))
        return True

    async def _repeat(self, call: Callable[[], Awaitable[T]]) -> T:
        return (await self._counted(call))[0]

    async def _counted(self, call: Callable[[], Awaitable[T]]) -> tuple[T, int]:
        """The result, and how many calls failed before.

        Raises StoreResting only where nothing was sent: else the error of what was, though the breaker opened since.
        """
        failed = 0
        sent: ProviderError | None = None
        while True:
            try:
                result = await call()
            except ProviderError as error:
                failed += 1
                if not await self.may_repeat(failed, error):
                    if sent is not None and isinstance(error, StoreResting):
                        raise sent from error
                    raise
                sent = error
            else:
                self.budget.succeed()
                return result, failed

    async def _remove_others(self, key: str, *, keep: str, unfinished: bool = False) -> None:
        """After an answer that was lost: what that call made beside what a repeat of it made.

        Quietly: what can't be removed now goes when the key is discarded.
        """
        try:
            page = await self.inner.list_page(key, unfinished=unfinished)
            others = [one for one in page.items if one.key == key and one.version_id not in (None, keep)]
            if unfinished:
                for one in others:
                    await self.inner.abort_parts(PartsUpload(key, str(one.version_id), 0))
            elif others:
                await self.inner.delete([ObjectRef(key, one.version_id) for one in others])
        except ProviderError as error:
            log.info("store.left_over", kind=self.kind, error=error.kind)

    async def put(
        self, key: str, body: Body, *, expected: Expected = NOTHING_EXPECTED, content_type: str | None = None
    ) -> PutResult:
        if isinstance(body, bytes):
            result, failed = await self._counted(
                lambda: self.inner.put(key, body, expected=expected, content_type=content_type)
            )
            if (failed or result.repeated) and result.version_id is not None:
                await self._remove_others(key, keep=result.version_id)
            return result
        if self.capabilities.multipart:
            return await put_in_parts(self, key, body, expected, content_type)
        return await self.inner.put(key, body, expected=expected, content_type=content_type)

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

        return _ResumingOpen(self, reopen)

    async def get(self, key: str, *, version_id: str | None = None, expected: Expected) -> bytes:
        return await self._repeat(lambda: self.inner.get(key, version_id=version_id, expected=expected))

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        return await self._repeat(lambda: self.inner.head(key, version_id=version_id))

    async def delete(self, refs: Sequence[ObjectRef]) -> list[DeleteOutcome]:
        outcomes: dict[ObjectRef, DeleteOutcome] = {}
        left, failed = refs, 0
        while True:
            try:
                found = await self.inner.delete(left)
            except ProviderError as error:
                failed += 1
                if not await self.may_repeat(failed, error):
                    raise
                continue
            outcomes |= {one.ref: one for one in found}
            again = {one.ref: one.error for one in found if one.error is not None and one.error.retryable}
            if not again:
                self.budget.succeed()
                break
            failed += 1
            if not await self.may_repeat(failed, max(again.values(), key=lambda error: error.retry_after or 0)):
                break
            left = list(again)
        untold = StoreUnavailable("the store did not say what became of it", vendor_code="malformed_answer")
        return [outcomes.get(ref) or DeleteOutcome(ref, untold) for ref in refs]

    async def discard(self, key: str) -> None:
        await self._repeat(lambda: self.inner.discard(key))

    async def get_lock(self, ref: ObjectRef) -> ObjectLock:
        return await self._repeat(lambda: self.inner.get_lock(ref))

    async def set_hold(self, ref: ObjectRef, *, on: bool) -> None:
        await self._repeat(lambda: self.inner.set_hold(ref, on=on))

    async def set_retention(self, ref: ObjectRef, *, mode: LockMode, until: datetime, bypass: bool = False) -> None:
        await self._repeat(lambda: self.inner.set_retention(ref, mode=mode, until=until, bypass=bypass))

    async def list_page(
        self,
        prefix: str = "",
        *,
        start_after: str | None = None,
        cursor: str | None = None,
        unfinished: bool = False,
    ) -> ListPage:
        return await self._repeat(
            lambda: self.inner.list_page(prefix, start_after=start_after, cursor=cursor, unfinished=unfinished)
        )

    async def copy(self, source: CopySource, key: str, *, content_type: str | None = None) -> PutResult:
        result, failed = await self._counted(lambda: self.inner.copy(source, key, content_type=content_type))
        if failed and result.version_id is not None:
            await self._remove_others(key, keep=result.version_id)
        return result

    async def begin_parts(
        self,
        key: str,
        *,
        size_bytes: int | None = None,
        content_type: str | None = None,
        sha1: bytes | None = None,
    ) -> PartsUpload:
        upload, failed = await self._counted(
            lambda: self.inner.begin_parts(key, size_bytes=size_bytes, content_type=content_type, sha1=sha1)
        )
        if failed:
            await self._remove_others(key, keep=upload.upload_id, unfinished=True)
        return upload

    async def put_part(self, upload: PartsUpload, number: int, body: bytes) -> Part:
        return await self._repeat(lambda: self.inner.put_part(upload, number, body))

    async def list_parts(self, upload: PartsUpload) -> Sequence[Part]:
        return await self._repeat(lambda: self.inner.list_parts(upload))

    async def finish_parts(self, upload: PartsUpload, parts: Sequence[Part]) -> PutResult:
        return await self._repeat(lambda: self.inner.finish_parts(upload, parts))

    async def abort_parts(self, upload: PartsUpload) -> None:
        await self._repeat(lambda: self.inner.abort_parts(upload))

    async def check(self) -> None:
        await self._repeat(self.inner.check)


class _ResumingOpen:
    """Opens again, where the body was cut, from the byte after the last one handed out."""

    def __init__(
        self,
        layer: RetryLayer,
        reopen: Callable[[int], AbstractAsyncContextManager[ObjectReader]],
    ) -> None:
        self._layer = layer
        self._reopen = reopen
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

    async def _leave(self, error: ProviderError) -> None:
        """Tell the layers below how the stretch ended: to them it is a call that failed."""
        if self._current is not None:
            current, self._current = self._current, None
            with suppress(ProviderError):
                await current.__aexit__(type(error), error, error.__traceback__)

    async def _may_go_on(self, error: ProviderError) -> None:
        self._failed += 1
        if not await self._layer.may_repeat(self._failed, error):
            raise error

    def _require_same(self) -> None:
        """Raise IntegrityError if another object than the one begun with was opened: a part has no digest to tell."""
        assert self._reader is not None
        first, now = self.info, self._reader.info
        differs = first.size_bytes != now.size_bytes or any(
            one is not None and other is not None and one != other
            for one, other in ((first.etag, now.etag), (first.version_id, now.version_id))
        )
        if differs:
            raise IntegrityError("the object changed while it was read", key=first.key)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        done = 0
        while True:
            assert self._reader is not None
            try:
                async for chunk in self._reader:
                    done += len(chunk)
                    # A long body that is cut now and then goes on for as long as each stretch brings something.
                    self._failed = 0
                    yield chunk
                self._layer.budget.succeed()
                return
            except ProviderError as error:
                await self._leave(error)
                await self._may_go_on(error)
                await self._open(done)
                self._require_same()
