"""What Google's and Microsoft's storage have in common through obstore."""

# ruff: noqa: ARG002  (the interface has arguments that these kinds have no use for)

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import obstore

from simples3dms.providers.base import (
    NOTHING_EXPECTED,
    Body,
    Capabilities,
    CopySource,
    DeleteOutcome,
    Expected,
    ListPage,
    Location,
    ObjectInfo,
    ObjectReader,
    ObjectRef,
    PutResult,
    check_key,
)
from simples3dms.providers.errors import NOT_THIS_KIND, BucketMissing, ObjectNotFound, ProviderError, Unsupported
from simples3dms.providers.kinds.cloud.errors import VENDOR_ERRORS, from_vendor, leaves_open
from simples3dms.providers.parts import part_size
from simples3dms.providers.plain import ProviderBase
from simples3dms.providers.registry import BuildOptions

_CHUNK_BYTES: Final = 1 << 20
_PART_BYTES: Final = 8 << 20
_PAGE: Final = 1000


def client_options(options: BuildOptions, *, allow_http: bool) -> dict[str, Any]:
    """obstore's own time for a whole request is off: a body takes as long as it flows."""
    chosen: dict[str, Any] = {
        "allow_http": allow_http,
        "connect_timeout": timedelta(seconds=options.connect_seconds),
        "read_timeout": timedelta(seconds=options.read_seconds),
        "timeout": timedelta(days=7),
    }
    return chosen if options.proxy_url is None else {**chosen, "proxy_url": options.proxy_url}


NO_REPEATS: Final[Any] = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}


class CloudProvider(ProviderBase):
    """One bucket (or container) and prefix through an obstore client."""

    def __init__(self, kind: str, client: Any, location: Location) -> None:
        self.kind = kind
        self._store = client
        self._prefix = location.prefix
        self.location = location
        self.capabilities = Capabilities(
            server_side_copy=True,
            part_size_bytes=_PART_BYTES,
            experimental=True,
            notes=("experimental: run the conformance suite against your store before you rely on it",),
        )

    async def put(
        self, key: str, body: Body, *, expected: Expected = NOTHING_EXPECTED, content_type: str | None = None
    ) -> PutResult:
        attributes: Any = {"Content-Type": content_type} if content_type else None
        path = self._path(key)
        if isinstance(body, bytes):
            done = await self._call(
                key, obstore.put_async(self._store, path, body, attributes=attributes, use_multipart=False)
            )
            return PutResult(key, len(body), None, done.get("e_tag"))
        source = _Source(body)
        size = part_size(self.capabilities, expected.size_bytes, key)
        try:
            done = await self._call(
                key,
                obstore.put_async(
                    self._store, path, source, attributes=attributes, use_multipart=True, chunk_size=size
                ),
            )
        except BaseException as error:
            await asyncio.shield(self._discard_quietly(key))
            if source.error is not None and not isinstance(error, asyncio.CancelledError):
                raise source.error from None
            raise
        if source.error is not None:
            # obstore takes a source that fails for one that ends.
            await self.discard(key)
            raise source.error
        return PutResult(key, source.size_bytes, None, done.get("e_tag"))

    @asynccontextmanager
    async def open(
        self,
        key: str,
        *,
        version_id: str | None = None,
        start: int = 0,
        length: int | None = None,
        expected: Expected = NOTHING_EXPECTED,
    ) -> AsyncIterator[ObjectReader]:
        options: Any = {}
        if start or length is not None:
            info = await self.head(key)
            end = info.size_bytes if length is None else min(start + length, info.size_bytes)
            if start >= end:
                yield _Reader(info, None)
                return
            options["range"] = (start, end)
        result = await self._call(key, obstore.get_async(self._store, self._path(key), options=options))
        yield _Reader(self._info(result.meta), result)

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        return self._info(await self._call(key, obstore.head_async(self._store, self._path(key))))

    async def delete(self, refs: Sequence[ObjectRef]) -> list[DeleteOutcome]:
        async def one(ref: ObjectRef) -> DeleteOutcome:
            try:
                await self.discard(ref.key)
            except ProviderError as error:
                return DeleteOutcome(ref, error)
            return DeleteOutcome(ref)

        return list(await asyncio.gather(*(one(ref) for ref in refs)))

    async def discard(self, key: str) -> None:
        try:
            await self._call(key, obstore.delete_async(self._store, self._path(key)))
        except ObjectNotFound:
            return

    async def _discard_quietly(self, key: str) -> None:
        try:
            await self.discard(key)
        except ProviderError:
            return  # the caller's record of the key has it cleaned later

    async def list_page(
        self,
        prefix: str = "",
        *,
        start_after: str | None = None,
        cursor: str | None = None,
        unfinished: bool = False,
    ) -> ListPage:
        if unfinished:
            return ListPage([])  # neither service lists what was begun and not finished through obstore
        after = cursor or start_after
        offset = None if after is None else self._prefix + after
        # obstore's prefix is one of folders; what begins in the middle of a name is filtered here.
        folder = (self._prefix + prefix).rpartition("/")[0]
        listing = obstore.list(self._store, folder or None, offset=offset, chunk_size=_PAGE)
        kept: list[ObjectInfo] = []
        try:
            # Some servers take no heed of the offset.
            async for found in listing:
                new = [info for info in map(self._info, found) if after is None or info.key > after]
                kept += [info for info in new if info.key.startswith(prefix)]
                if len(kept) >= _PAGE:
                    return ListPage(kept, kept[-1].key)
        except VENDOR_ERRORS as error:
            raise _not_of_an_object(from_vendor(error)) from None
        return ListPage(kept)

    async def copy(self, source: CopySource, key: str, *, content_type: str | None = None) -> PutResult:
        if source.location.account != self.location.account or source.location.bucket != self.location.bucket:
            raise Unsupported("this store can't copy from there by itself", key=key)
        await self._call(key, obstore.copy_async(self._store, source.location.prefix + source.key, self._path(key)))
        return PutResult(key, source.size_bytes)

    async def check(self) -> None:
        await self.list_page()

    async def _call(self, key: str | None, call: Any) -> Any:
        try:
            return await call
        except VENDOR_ERRORS as error:
            mapped = from_vendor(error, key)
        if leaves_open(mapped):
            # It may be of the container, of the credential, or of a gateway without the service: ask.
            await self.check()
        raise mapped

    def _path(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _info(self, meta: Any) -> ObjectInfo:
        key = str(meta["path"]).removeprefix(self._prefix)
        return ObjectInfo(key, meta["size"], None, meta.get("e_tag"), meta.get("last_modified"))


class _Source:
    """A body on its way into obstore: counted, and remembered if it failed."""

    def __init__(self, body: AsyncIterable[bytes]) -> None:
        self._body = body
        self.size_bytes = 0
        self.error: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._body:
                self.size_bytes += len(chunk)
                yield chunk
        except Exception as error:
            self.error = error
            raise


class _Reader:
    def __init__(self, info: ObjectInfo, result: Any) -> None:
        self.info = info
        self._result = result

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._result is None:
            return
        try:
            async for chunk in self._result.stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(chunk)
        except VENDOR_ERRORS as error:
            raise from_vendor(error, self.info.key) from None


def _not_of_an_object(error: ProviderError) -> ProviderError:
    """A listing asks for no object: whoever says that it is missing is not the service."""
    if not isinstance(error, ObjectNotFound):
        return error
    return BucketMissing("the endpoint does not answer as the service does", vendor_code=NOT_THIS_KIND)
