"""The plainest layer: it forwards every method, in writing, so that none is left out unseen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime

from simples3dms.providers.base import (
    NOTHING_EXPECTED,
    Body,
    Capabilities,
    CopySource,
    DeleteOutcome,
    Expected,
    Finding,
    ListPage,
    Location,
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
from simples3dms.providers.plain import iter_pages


class Layer:
    """A provider around a provider: forwards everything. Layers that change something override it."""

    def __init__(self, inner: StorageProvider) -> None:
        self.inner = inner

    @property
    def kind(self) -> str:
        return self.inner.kind

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    @property
    def location(self) -> Location:
        return self.inner.location

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

    async def get(self, key: str, *, version_id: str | None = None, expected: Expected) -> bytes:
        return await self.inner.get(key, version_id=version_id, expected=expected)

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        return await self.inner.head(key, version_id=version_id)

    async def delete(self, refs: Sequence[ObjectRef]) -> list[DeleteOutcome]:
        return await self.inner.delete(refs)

    async def discard(self, key: str) -> None:
        await self.inner.discard(key)

    async def get_lock(self, ref: ObjectRef) -> ObjectLock:
        return await self.inner.get_lock(ref)

    async def set_hold(self, ref: ObjectRef, *, on: bool) -> None:
        await self.inner.set_hold(ref, on=on)

    async def set_retention(self, ref: ObjectRef, *, mode: LockMode, until: datetime, bypass: bool = False) -> None:
        await self.inner.set_retention(ref, mode=mode, until=until, bypass=bypass)

    async def list_page(
        self,
        prefix: str = "",
        *,
        start_after: str | None = None,
        cursor: str | None = None,
        unfinished: bool = False,
    ) -> ListPage:
        return await self.inner.list_page(prefix, start_after=start_after, cursor=cursor, unfinished=unfinished)

    def list(self, prefix: str = "", *, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        # By pages of this layer, not of the inner one: each page is a call that every layer sees.
        return iter_pages(self, prefix, start_after=start_after)

    def list_unfinished(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        return iter_pages(self, prefix, unfinished=True)

    async def copy(self, source: CopySource, key: str, *, content_type: str | None = None) -> PutResult:
        return await self.inner.copy(source, key, content_type=content_type)

    async def begin_parts(
        self,
        key: str,
        *,
        size_bytes: int | None = None,
        content_type: str | None = None,
        sha1: bytes | None = None,
    ) -> PartsUpload:
        return await self.inner.begin_parts(key, size_bytes=size_bytes, content_type=content_type, sha1=sha1)

    async def put_part(self, upload: PartsUpload, number: int, body: bytes) -> Part:
        return await self.inner.put_part(upload, number, body)

    async def list_parts(self, upload: PartsUpload) -> Sequence[Part]:
        return await self.inner.list_parts(upload)

    async def finish_parts(self, upload: PartsUpload, parts: Sequence[Part]) -> PutResult:
        return await self.inner.finish_parts(upload, parts)

    async def abort_parts(self, upload: PartsUpload) -> None:
        await self.inner.abort_parts(upload)

    async def sign_download(
        self, ref: ObjectRef, *, expires_seconds: int, filename: str, content_type: str
    ) -> SignedRequest:
        return await self.inner.sign_download(
            ref, expires_seconds=expires_seconds, filename=filename, content_type=content_type
        )

    async def sign_upload(self, key: str, *, size_bytes: int, content_type: str, expires_seconds: int) -> SignedRequest:
        return await self.inner.sign_upload(
            key, size_bytes=size_bytes, content_type=content_type, expires_seconds=expires_seconds
        )

    async def sign_part(
        self, upload: PartsUpload, number: int, *, size_bytes: int, expires_seconds: int
    ) -> SignedRequest:
        return await self.inner.sign_part(upload, number, size_bytes=size_bytes, expires_seconds=expires_seconds)

    async def inspect(self, scratch: str) -> Sequence[Finding]:
        return await self.inner.inspect(scratch)

    async def check(self) -> None:
        await self.inner.check()

    async def close(self) -> None:
        await self.inner.close()
