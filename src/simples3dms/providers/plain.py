"""What every kind begins with: listings made of pages, and Unsupported for what a kind does not offer."""

# ruff: noqa: ARG002  (a method that only refuses uses none of its arguments)

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Final, Protocol

from simples3dms.kit.streams import gather_small
from simples3dms.providers.base import (
    NOTHING_EXPECTED,
    Capabilities,
    CopySource,
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
)
from simples3dms.providers.errors import IntegrityError, ProviderError, Unsupported

#: Pages without any entry that a listing may give in a row before the store is called unwell.
_MOST_EMPTY_PAGES: Final = 100


class ProviderBase:
    """What a kind inherits: listings made of its pages, and Unsupported for what it does not offer."""

    kind: str = "?"
    capabilities: Capabilities = Capabilities()
    location: Location = Location("", "", "")

    async def list_page(
        self,
        prefix: str = "",
        *,
        start_after: str | None = None,
        cursor: str | None = None,
        unfinished: bool = False,
    ) -> ListPage:
        raise Unsupported(f"the kind {self.kind} does not list")

    def list(self, prefix: str = "", *, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        return iter_pages(self, prefix, start_after=start_after)

    def list_unfinished(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        return iter_pages(self, prefix, unfinished=True)

    def open(
        self,
        key: str,
        *,
        version_id: str | None = None,
        start: int = 0,
        length: int | None = None,
        expected: Expected = NOTHING_EXPECTED,
    ) -> AbstractAsyncContextManager[ObjectReader]:
        raise Unsupported(f"the kind {self.kind} does not read", key=key)

    async def get(self, key: str, *, version_id: str | None = None, expected: Expected) -> bytes:
        assert expected.size_bytes is not None, "what is read whole is known to be small"
        async with self.open(key, version_id=version_id, expected=expected) as reader:
            try:
                return await gather_small(reader, expected.size_bytes)
            except ValueError:
                raise IntegrityError("the object is longer than expected", key=key) from None

    async def get_lock(self, ref: ObjectRef) -> ObjectLock:
        raise _no_locks(self.kind, ref)

    async def set_hold(self, ref: ObjectRef, *, on: bool) -> None:
        raise _no_locks(self.kind, ref)

    async def set_retention(self, ref: ObjectRef, *, mode: LockMode, until: datetime, bypass: bool = False) -> None:
        raise _no_locks(self.kind, ref)

    async def copy(self, source: CopySource, key: str, *, content_type: str | None = None) -> PutResult:
        raise Unsupported(f"the kind {self.kind} does not copy by itself", key=key)

    async def begin_parts(
        self,
        key: str,
        *,
        size_bytes: int | None = None,
        content_type: str | None = None,
        sha1: bytes | None = None,
    ) -> PartsUpload:
        raise _no_parts(self.kind, key)

    async def put_part(self, upload: PartsUpload, number: int, body: bytes) -> Part:
        raise _no_parts(self.kind, upload.key)

    async def list_parts(self, upload: PartsUpload) -> Sequence[Part]:
        raise _no_parts(self.kind, upload.key)

    async def finish_parts(self, upload: PartsUpload, parts: Sequence[Part]) -> PutResult:
        raise _no_parts(self.kind, upload.key)

    async def abort_parts(self, upload: PartsUpload) -> None:
        raise _no_parts(self.kind, upload.key)

    async def sign_download(
        self,
        ref: ObjectRef,
        *,
        expires_seconds: int,
        filename: str,
        content_type: str,
    ) -> SignedRequest:
        raise Unsupported(f"the kind {self.kind} signs no downloads", key=ref.key)

    async def sign_upload(
        self,
        key: str,
        *,
        size_bytes: int,
        content_type: str,
        expires_seconds: int,
    ) -> SignedRequest:
        raise Unsupported(f"the kind {self.kind} signs no uploads", key=key)

    async def sign_part(
        self,
        upload: PartsUpload,
        number: int,
        *,
        size_bytes: int,
        expires_seconds: int,
    ) -> SignedRequest:
        raise Unsupported(f"the kind {self.kind} signs no uploads", key=upload.key)

    async def inspect(self, scratch: str) -> Sequence[Finding]:
        return ()

    async def close(self) -> None:
        return None


class _Pages(Protocol):
    async def list_page(
        self, prefix: str = "", *, start_after: str | None = None, cursor: str | None = None, unfinished: bool = False
    ) -> ListPage: ...


async def iter_pages(
    provider: _Pages, prefix: str, *, start_after: str | None = None, unfinished: bool = False
) -> AsyncIterator[ObjectInfo]:
    """Every entry of every page. A store that lists for ever without getting anywhere is an error, not a loop."""
    cursor: str | None = None
    before: tuple[object, ...] | None = None
    empty = 0
    while True:
        page = await provider.list_page(prefix, start_after=start_after, cursor=cursor, unfinished=unfinished)
        ends = (page.items[0], page.items[-1]) if page.items else None
        empty = 0 if ends else empty + 1
        stuck = (ends is not None and ends == before) or page.cursor == cursor or empty > _MOST_EMPTY_PAGES
        if page.cursor is not None and stuck:
            raise ProviderError("the store lists the same page again and again")
        for item in page.items:
            yield item
        if page.cursor is None:
            return
        cursor, before = page.cursor, ends


def _no_parts(kind: str, key: str) -> Unsupported:
    return Unsupported(f"the kind {kind} takes no uploads in parts", key=key)


def _no_locks(kind: str, ref: ObjectRef) -> Unsupported:
    return Unsupported(f"this store of the kind {kind} locks no objects", key=ref.key)
