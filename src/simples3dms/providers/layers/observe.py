"""Observe: how many calls of each kind, how long they took, how they ended. Never keys, never URLs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

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

log = structlog.get_logger(__name__)
T = TypeVar("T")


@dataclass(slots=True)
class Observations:
    """Counted by (operation, outcome); seconds spent by operation. One process's view, since it started."""

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)

    def note(self, operation: str, outcome: str, seconds: float) -> None:
        self.calls[operation, outcome] += 1
        self.seconds[operation] += seconds  # type: ignore[assignment]  # seconds are fractions


class ObserveLayer(Layer):
    """Counts and times each call to the store, and logs those that fail."""

    def __init__(self, inner: StorageProvider, observations: Observations) -> None:
        super().__init__(inner)
        self.observations = observations

    async def _timed(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        began = time.perf_counter()
        outcome = "ok"
        try:
            return await call()
        except ProviderError as error:
            outcome = error.kind
            log.debug("store.call_failed", operation=operation, kind=self.kind, error=error.kind)
            raise
        finally:
            self.observations.note(operation, outcome, time.perf_counter() - began)

    async def put(
        self, key: str, body: Body, *, expected: Expected = NOTHING_EXPECTED, content_type: str | None = None
    ) -> PutResult:
        return await self._timed("put", lambda: self.inner.put(key, body, expected=expected, content_type=content_type))

    @asynccontextmanager
    async def _opened(self, opened: AbstractAsyncContextManager[ObjectReader]) -> AsyncIterator[ObjectReader]:
        began = time.perf_counter()
        outcome = "ok"
        try:
            async with opened as reader:
                yield reader
        except ProviderError as error:
            outcome = error.kind
            log.debug("store.call_failed", operation="open", kind=self.kind, error=error.kind)
            raise
        finally:
            self.observations.note("open", outcome, time.perf_counter() - began)

    def open(
        self,
        key: str,
        *,
        version_id: str | None = None,
        start: int = 0,
        length: int | None = None,
        expected: Expected = NOTHING_EXPECTED,
    ) -> AbstractAsyncContextManager[ObjectReader]:
        return self._opened(self.inner.open(key, version_id=version_id, start=start, length=length, expected=expected))

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        return await self._timed("head", lambda: self.inner.head(key, version_id=version_id))

    async def delete(self, refs: Sequence[ObjectRef]) -> list[DeleteOutcome]:
        return await self._timed("delete", lambda: self.inner.delete(refs))

    async def discard(self, key: str) -> None:
        await self._timed("discard", lambda: self.inner.discard(key))

    async def check(self) -> None:
        await self._timed("check", self.inner.check)
