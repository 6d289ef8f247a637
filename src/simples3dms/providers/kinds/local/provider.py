"""The provider over a directory: every call to the file system runs in a small pool of threads."""

# ruff: noqa: ARG002  (the interface has arguments that a directory has no use for)

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Annotated, Any, Final, ParamSpec, TypeVar

from pydantic import AfterValidator, Field

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
)
from simples3dms.providers.errors import AccessDenied, IntegrityError, ProviderError, StoreUnavailable, Unsupported
from simples3dms.providers.kinds.local.errors import from_os_error
from simples3dms.providers.kinds.local.listing import Wanted, iter_tree
from simples3dms.providers.kinds.local.tree import FileOps, Tree, ensure_mark
from simples3dms.providers.kinds.local.writer import PendingFile
from simples3dms.providers.plain import ProviderBase
from simples3dms.providers.registry import BuildOptions, FormModel, NoCredential, Prefix, ProviderKind

_CHUNK_BYTES: Final = 1 << 20
_THREADS: Final = 8
#: The walk begins anew at each page, so pages are large.
_LIST_PAGE: Final = 5000
_DELETE_BATCH: Final = 50

P = ParamSpec("P")
T = TypeVar("T")


def _absolute(value: str) -> str:
    if not value.startswith("/") or "\0" in value or ".." in value.split("/"):
        raise ValueError("must be an absolute path without '..'")
    return value


class LocalSettings(FormModel):
    """`path`: a directory that exists; it is never created, so that a missing mount is noticed."""

    path: Annotated[str, AfterValidator(_absolute)]
    prefix: Prefix = ""
    mark: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = Field(
        default=None,
        description="What the file `.~store` in the directory says: made when the store is added. A directory without "
        "it is a disk that is not mounted, and never an empty store.",
    )


class LocalProvider(ProviderBase):
    """Objects as files below a directory. Cancelling a write stops it from becoming visible."""

    kind = "local"
    capabilities = Capabilities(
        part_size_bytes=_CHUNK_BYTES,
        server_side_copy=True,
        notes=("one file per object; fsync of file and folders before a write is acknowledged",),
    )

    def __init__(self, settings: LocalSettings, *, ops: FileOps | None = None) -> None:
        self._tree = Tree(Path(settings.path), settings.prefix, ops or FileOps(), settings.mark)
        self.location = Location("local", settings.path, settings.prefix)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="local-store")

    async def put(
        self, key: str, body: Body, *, expected: Expected = NOTHING_EXPECTED, content_type: str | None = None
    ) -> PutResult:
        pending = PendingFile(self._tree, key)
        if isinstance(body, bytes):
            return await self._make(key, pending, self._run(key, pending.finish, [body]))
        return await self._make(key, pending, self._put_stream(key, pending, body))

    async def copy(self, source: CopySource, key: str, *, content_type: str | None = None) -> PutResult:
        """The kernel moves the bytes from file to file: never a link, and nothing that the two files share."""
        if source.location.account != self.location.account:
            raise Unsupported("this store can't copy from there by itself", key=key)
        pending = PendingFile(self._tree, key)
        there = Tree(Path(source.location.bucket), source.location.prefix, self._tree.ops)

        def work() -> os.stat_result:
            fd, found = there.open_file(source.key)
            try:
                return pending.finish_copy(fd, found.st_size)
            finally:
                os.close(fd)

        return await self._make(key, pending, self._run(key, work))

    async def _make(self, key: str, pending: PendingFile, work: Coroutine[Any, Any, os.stat_result]) -> PutResult:
        """What the work has written, or nothing of it."""
        try:
            found = await work
        except asyncio.CancelledError:
            pending.give_up()
            self._later(pending.abort)
            raise
        except BaseException:
            try:
                await self._run(key, pending.abort)
            except asyncio.CancelledError:
                self._later(pending.abort)  # it may not have had its turn, and may be made twice
                raise
            raise
        return PutResult(key, pending.size_bytes, etag=self._tree.info(key, found).etag)

    async def _put_stream(self, key: str, pending: PendingFile, body: Body) -> os.stat_result:
        assert not isinstance(body, bytes)
        waiting: list[bytes] = []
        waiting_bytes = 0
        async for chunk in body:
            waiting.append(chunk)
            waiting_bytes += len(chunk)
            if waiting_bytes >= _CHUNK_BYTES:
                await self._run(key, pending.write, waiting)
                waiting, waiting_bytes = [], 0
        return await self._run(key, pending.finish, waiting)

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
        file = _OpenFile(self._tree, key)
        try:
            first = await self._run(key, file.open, start, length)
            yield _Reader(self, file, key, first)
        finally:
            self._later(file.close)

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        return await self._run(key, self._tree.head, key)

    async def delete(self, refs: Sequence[ObjectRef]) -> list[DeleteOutcome]:
        outcomes: list[DeleteOutcome] = []
        for first in range(0, len(refs), _DELETE_BATCH):
            outcomes += await self._run(None, self._delete_now, refs[first : first + _DELETE_BATCH])
        return outcomes

    def _delete_now(self, refs: Sequence[ObjectRef]) -> list[DeleteOutcome]:
        return [DeleteOutcome(ref, self._delete_one(ref)) for ref in refs]

    def _delete_one(self, ref: ObjectRef) -> ProviderError | None:
        try:
            self._tree.remove(ref.key, leftovers=False)
        except OSError as error:
            return from_os_error(error, ref.key)
        except ProviderError as error:
            return error
        return None

    async def discard(self, key: str) -> None:
        def remove() -> None:
            self._tree.remove(key, leftovers=True)

        await self._run(key, remove)

    async def list_page(
        self,
        prefix: str = "",
        *,
        start_after: str | None = None,
        cursor: str | None = None,
        unfinished: bool = False,
    ) -> ListPage:
        after = cursor if cursor is not None else start_after
        wanted = Wanted(
            self._tree.prefix + prefix, None if after is None else self._tree.prefix + after, unfinished=unfinished
        )
        page = await self._run(None, self._page_now, wanted)
        if len(page) < _LIST_PAGE:
            return ListPage(page)
        folder, slash, name = page[-1].key.rpartition("/")
        return ListPage(page, f"{folder}{slash}{page[-1].version_id or name}")

    def _page_now(self, wanted: Wanted) -> list[ObjectInfo]:
        with closing(iter_tree(self._tree, wanted)) as walk:
            return list(itertools.islice(walk, _LIST_PAGE))

    async def check(self) -> None:
        await self._run(None, self._check_now)

    def _check_now(self) -> None:
        with self._tree.folder([]) as fds:
            if not os.access(".", os.R_OK | os.W_OK | os.X_OK, dir_fd=fds[0]):
                raise AccessDenied("the process may not write in the store's directory")

    async def close(self) -> None:
        await asyncio.to_thread(self._pool.shutdown)

    def _later(self, function: Callable[[], None]) -> None:
        """Clean up in a thread, without waiting; at once if the provider has been closed already."""
        try:
            self._pool.submit(function)
        except RuntimeError:
            function()

    async def _run(self, key: str | None, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            running = asyncio.get_running_loop().run_in_executor(self._pool, function, *args)
        except RuntimeError:
            raise StoreUnavailable("the store was closed", vendor_code="closed", key=key) from None
        try:
            return await running
        except OSError as error:
            raise from_os_error(error, key) from None


class _OpenFile:
    """A file being read: closing waits for a read that is under way, so that a descriptor is never reused under it."""

    def __init__(self, tree: Tree, key: str) -> None:
        self._tree = tree
        self._key = key
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._closed = False
        self.info = ObjectInfo(key, 0)
        self.position = 0
        self.end = 0

    def open(self, start: int, length: int | None) -> bytes:
        """Open, and read the first chunk in the same go: a small object takes one hop to a thread."""
        with self._lock:
            if self._closed:
                return b""
            self._fd, found = self._tree.open_file(self._key)
            self.info = self._tree.info(self._key, found)
            self.position = start
            self.end = found.st_size if length is None else min(start + length, found.st_size)
            return self._read()

    def read(self) -> bytes:
        with self._lock:
            return self._read()

    def _read(self) -> bytes:
        if self._fd is None or self.position >= self.end:
            return b""
        chunk = os.pread(self._fd, min(_CHUNK_BYTES, self.end - self.position), self.position)
        if not chunk:
            raise IntegrityError("the file is shorter than it was when opened", key=self._key)
        self.position += len(chunk)
        return chunk

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None


class _Reader:
    def __init__(self, provider: LocalProvider, file: _OpenFile, key: str, first: bytes) -> None:
        self.info = file.info
        self._provider = provider
        self._file = file
        self._key = key
        self._chunk = first

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._chunk:
            yield self._chunk
            if self._file.position >= self._file.end:
                return
            self._chunk = await self._provider._run(self._key, self._file.read)


def _build(settings: LocalSettings, _credential: NoCredential, _options: BuildOptions) -> LocalProvider:
    return LocalProvider(settings)


def _settle(settings: LocalSettings) -> dict[str, object]:
    tree = Tree(Path(settings.path), settings.prefix, FileOps(), settings.mark)
    try:
        return {"mark": ensure_mark(tree)}
    except OSError as error:
        raise from_os_error(error) from None


KIND = ProviderKind(
    name="local",
    title="A directory of this machine",
    settings_model=LocalSettings,
    credential_model=NoCredential,
    build=_build,
    destinations=lambda _: (),
    settle=_settle,
    settled=frozenset({"mark"}),
)
