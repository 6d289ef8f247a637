"""A provider kind on fsspec: any of its file systems as a store. The example of docs/howto/write-a-provider.md."""

# ruff: noqa: ARG002  (the interface has arguments that a file system has no use for)

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import fsspec

from simples3dms.providers.base import (
    NOTHING_EXPECTED,
    Body,
    Capabilities,
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
from simples3dms.providers.errors import AccessDenied, BucketMissing, ObjectNotFound, ProviderError, StoreUnavailable
from simples3dms.providers.plain import ProviderBase
from simples3dms.providers.registry import BuildOptions, FormModel, NoCredential, NotBlank, Prefix, ProviderKind

T = TypeVar("T")
CHUNK_BYTES = 1024 * 1024
PAGE = 1000


class FsspecSettings(FormModel):
    """`url` as fsspec takes it, such as `file:///srv/documents`."""

    url: NotBlank
    prefix: Prefix = ""


class FsspecProvider(ProviderBase):
    """Objects as files of an fsspec file system; written under a temporary name first, so that none shows half."""

    kind = "fsspec"
    capabilities = Capabilities(part_size_bytes=CHUNK_BYTES, experimental=True)

    def __init__(self, settings: FsspecSettings) -> None:
        self._fs, root = fsspec.core.url_to_fs(settings.url, skip_instance_cache=True)
        self._root = root.rstrip("/")
        self._prefix = settings.prefix
        self.location = Location("fsspec", settings.url, settings.prefix)

    async def put(
        self, key: str, body: Body, *, expected: Expected = NOTHING_EXPECTED, content_type: str | None = None
    ) -> PutResult:
        path = self._path(key)
        temporary = f"{path}.unfinished"
        size = 0
        try:
            file = await self._run(lambda: self._created(temporary))
            try:
                async for chunk in _chunks(body):
                    await self._run(lambda chunk=chunk: file.write(chunk))  # type: ignore[misc]
                    size += len(chunk)
            finally:
                await asyncio.shield(self._run(file.close))
            await self._run(lambda: self._fs.mv(temporary, path))
        except BaseException:
            await asyncio.shield(self._run(lambda: self._removed(temporary)))
            raise
        return PutResult(key, size)

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
        info = await self.head(key)
        file = await self._run(lambda: self._fs.open(self._path(key), "rb"))
        try:
            yield _Reader(self, file, info, start, length)
        finally:
            await self._run(file.close)

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        found = await self._run(lambda: self._fs.info(self._path(key)))
        if found["type"] != "file":
            raise ObjectNotFound("no such object", key=key)
        return self._info(found)

    async def delete(self, refs: Sequence[ObjectRef]) -> list[DeleteOutcome]:
        outcomes = []
        for ref in refs:
            try:
                await self._run(lambda ref=ref: self._removed(self._path(ref.key)))  # type: ignore[misc]
                outcomes.append(DeleteOutcome(ref))
            except ProviderError as error:
                outcomes.append(DeleteOutcome(ref, error))
        return outcomes

    async def discard(self, key: str) -> None:
        path = self._path(key)
        await self._run(lambda: (self._removed(f"{path}.unfinished"), self._removed(path)))

    async def list_page(
        self,
        prefix: str = "",
        *,
        start_after: str | None = None,
        cursor: str | None = None,
        unfinished: bool = False,
    ) -> ListPage:
        after = cursor or start_after or ""
        found = await self._run(lambda: self._fs.find(f"{self._root}/{self._prefix}", detail=True))
        items = [self._info(one) for one in found.values() if one["name"].endswith(".unfinished") == unfinished]
        kept = sorted((i for i in items if i.key.startswith(prefix) and i.key > after), key=lambda item: item.key)
        return ListPage(kept[:PAGE], kept[PAGE - 1].key if len(kept) > PAGE else None)

    async def check(self) -> None:
        if not await self._run(lambda: self._fs.isdir(self._root)):
            raise BucketMissing("the folder is not there")

    # --- everything below runs in a thread: fsspec blocks ---

    def _created(self, path: str) -> Any:
        self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        return self._fs.open(path, "wb")

    def _removed(self, path: str) -> None:
        if self._fs.isfile(path):
            self._fs.rm_file(path)

    def _info(self, found: dict[str, Any]) -> ObjectInfo:
        key = found["name"].removeprefix(f"{self._root}/{self._prefix}").removesuffix(".unfinished")
        changed = found.get("mtime")
        modified_at = None if changed is None else datetime.fromtimestamp(changed, UTC)
        return ObjectInfo(key, found["size"], modified_at=modified_at)

    def _path(self, key: str) -> str:
        return f"{self._root}/{self._prefix}{check_key(key)}"

    async def _run(self, call: Callable[[], T]) -> T:
        """Run in a thread, and translate what it raises: this is the one table of vendor errors."""
        try:
            return await asyncio.to_thread(call)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise ObjectNotFound("no such object") from None
        except PermissionError:
            raise AccessDenied("the process may not do this there") from None
        except OSError as error:
            raise StoreUnavailable("the file system failed", vendor_code=type(error).__name__) from None


class _Reader:
    def __init__(self, provider: FsspecProvider, file: Any, info: ObjectInfo, start: int, length: int | None) -> None:
        self.info = info
        self._provider, self._file, self._start = provider, file, start
        end = info.size_bytes if length is None else min(start + length, info.size_bytes)
        self._left = max(0, end - start)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await self._provider._run(lambda: self._file.seek(self._start))
        while self._left > 0:
            chunk = await self._provider._run(lambda: self._file.read(min(CHUNK_BYTES, self._left)))
            if not chunk:
                return  # too short: the integrity layer makes an error of it
            self._left -= len(chunk)
            yield chunk


async def _chunks(body: Body) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        yield body
    else:
        async for chunk in body:
            yield chunk


def _build(settings: FsspecSettings, _credential: NoCredential, _options: BuildOptions) -> FsspecProvider:
    return FsspecProvider(settings)


KIND = ProviderKind(
    name="fsspec",
    title="A file system of fsspec's",
    settings_model=FsspecSettings,
    credential_model=NoCredential,
    build=_build,
)
