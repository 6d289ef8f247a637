"""The plain layer: forwards every method in writing; real layers override what they change."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager

from simples3dms.providers.base import (
    NOTHING_EXPECTED,
    Body,
    Capabilities,
    DeleteOutcome,
    Expected,
    ObjectInfo,
    ObjectReader,
    ObjectRef,
    PutResult,
    StorageProvider,
)


class Layer:
    """A provider around a provider."""

    def __init__(self, inner: StorageProvider) -> None:
        self.inner = inner

    @property
    def kind(self) -> str:
        return self.inner.kind

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    async def put(
        self, key: str, body: Body, *, expected: Expected = NOTHING_EXPECTED, content_type: str | None = None
    ) -> PutResult:
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
        return self.inner.open(key, version_id=version_id, start=start, length=length, expected=expected)

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        return await self.inner.head(key, version_id=version_id)

    async def delete(self, refs: Sequence[ObjectRef]) -> list[DeleteOutcome]:
        return await self.inner.delete(refs)

    async def discard(self, key: str) -> None:
        await self.inner.discard(key)

    def list(self, prefix: str = "", *, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        return self.inner.list(prefix, start_after=start_after)

    def list_unfinished(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        return self.inner.list_unfinished(prefix)

    async def check(self) -> None:
        await self.inner.check()

    async def close(self) -> None:
        await self.inner.close()
