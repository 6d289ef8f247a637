"""A store in this process's memory, for tests: same promises, nothing survives."""

# ruff: noqa: ARG002  (the interface has arguments that memory has no use for)

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from simples3dms.providers.base import (
    NOTHING_EXPECTED,
    Body,
    Capabilities,
    CopySource,
    DeleteOutcome,
    Expected,
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
    check_key,
)
from simples3dms.providers.errors import AccessDenied, IntegrityError, ObjectNotFound, Unsupported
from simples3dms.providers.parts import part_size, put_in_parts
from simples3dms.providers.plain import ProviderBase
from simples3dms.providers.registry import (
    BuildOptions,
    FormModel,
    NoCredential,
    NotBlank,
    ObjectLockUse,
    Prefix,
    ProviderKind,
)

_CHUNK_BYTES = 1 << 20
_PART_BYTES = 5 << 20
_PAGE = 100


class MemorySettings(FormModel):
    """`name`: providers of one name in one process share their bytes. What locks keeps versions, too. Those of one
    `account` can copy from one another."""

    name: NotBlank
    account: str = ""
    prefix: Prefix = ""
    versions: bool = False
    parts: bool = True
    object_lock: ObjectLockUse = None


@dataclass(frozen=True, slots=True)
class _Stored:
    data: bytes
    info: ObjectInfo


@dataclass(slots=True)
class _Upload:
    path: str
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class _Shelf:
    """The bytes of one name: every key with its versions, the newest last."""

    objects: dict[str, list[_Stored]] = field(default_factory=dict)
    uploads: dict[str, _Upload] = field(default_factory=dict)
    locks: dict[str, ObjectLock] = field(default_factory=dict)
    """By version id."""
    ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))


_shelves: dict[str, _Shelf] = {}


def forget(name: str) -> None:
    """Drop all bytes kept under this name."""
    _shelves.pop(name, None)


class MemoryProvider(ProviderBase):
    """Keeps objects in a dictionary. With `versions`, every write makes a version with an id."""

    kind = "memory"

    def __init__(self, settings: MemorySettings) -> None:
        self._prefix = settings.prefix
        self._shelf = _shelves.setdefault(settings.name, _Shelf())
        self.capabilities = Capabilities(
            versions=settings.versions or settings.object_lock is not None,
            object_lock=settings.object_lock is not None,
            durable=False,
            multipart=settings.parts,
            server_side_copy=True,
            part_size_bytes=_PART_BYTES,
        )
        self.location = Location(f"memory:{settings.account or settings.name}", settings.name, settings.prefix)

    async def put(
        self, key: str, body: Body, *, expected: Expected = NOTHING_EXPECTED, content_type: str | None = None
    ) -> PutResult:
        if not isinstance(body, bytes) and self.capabilities.multipart:
            return await put_in_parts(self, key, body, expected, content_type)
        data = body if isinstance(body, bytes) else b"".join([chunk async for chunk in body])
        return self._store(key, data)

    def _store(self, key: str, data: bytes) -> PutResult:
        path = self._path(key)
        version = f"v{next(self._shelf.ids):08d}" if self.capabilities.versions else None
        etag = hashlib.sha256(data).hexdigest()[:32]
        stored = _Stored(data, ObjectInfo(key, len(data), version, etag, datetime.now(UTC)))
        versions = self._shelf.objects.setdefault(path, [])
        if version is None:
            versions.clear()
        versions.append(stored)
        return PutResult(key, len(data), version, etag)

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
        stored = self._find(key, version_id)
        end = len(stored.data) if length is None else min(start + length, len(stored.data))
        yield _Reader(stored, start, end)

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        return self._find(key, version_id).info

    async def delete(self, refs: Sequence[ObjectRef]) -> list[DeleteOutcome]:
        return [DeleteOutcome(ref, self._remove(ref)) for ref in refs]

    def _remove(self, ref: ObjectRef) -> AccessDenied | None:
        """Remove what the reference means, but for what is locked: then the error is returned."""
        path = self._path(ref.key)
        found = self._shelf.objects.pop(path, [])
        meant = [one for one in found if ref.version_id in (None, one.info.version_id)]
        locked = [one for one in meant if self._is_locked(one.info.version_id)]
        if kept := [one for one in found if one not in meant or one in locked]:
            self._shelf.objects[path] = kept
        for gone in [one for one in meant if one not in locked]:
            self._shelf.locks.pop(gone.info.version_id or "", None)
        return AccessDenied("the store's lock keeps it", vendor_code="locked", key=ref.key) if locked else None

    def _is_locked(self, version_id: str | None) -> bool:
        lock = self._shelf.locks.get(version_id or "", ObjectLock())
        return lock.held or (lock.until is not None and lock.until > datetime.now(UTC))

    async def get_lock(self, ref: ObjectRef) -> ObjectLock:
        return self._shelf.locks.get(self._lockable(ref), ObjectLock())

    async def set_hold(self, ref: ObjectRef, *, on: bool) -> None:
        version_id = self._lockable(ref)
        self._shelf.locks[version_id] = replace(self._shelf.locks.get(version_id, ObjectLock()), held=on)

    async def set_retention(self, ref: ObjectRef, *, mode: LockMode, until: datetime, bypass: bool = False) -> None:
        version_id = self._lockable(ref)
        before = self._shelf.locks.get(version_id, ObjectLock())
        if before.until is not None and before.until > datetime.now(UTC):
            weaker = until < before.until or mode != before.mode
            if weaker and not (bypass and before.mode == "governance"):
                raise AccessDenied("the retention in force is longer or harder", vendor_code="locked", key=ref.key)
        self._shelf.locks[version_id] = replace(before, mode=mode, until=until)

    def _lockable(self, ref: ObjectRef) -> str:
        if not self.capabilities.object_lock:
            raise Unsupported("this store locks no objects", key=ref.key)
        return str(self._find(ref.key, ref.version_id).info.version_id)

    async def discard(self, key: str) -> None:
        path = self._path(key)
        if (error := self._remove(ObjectRef(key))) is not None:
            raise error
        for upload_id in [name for name, upload in self._shelf.uploads.items() if upload.path == path]:
            del self._shelf.uploads[upload_id]

    async def list_page(
        self,
        prefix: str = "",
        *,
        start_after: str | None = None,
        cursor: str | None = None,
        unfinished: bool = False,
    ) -> ListPage:
        await asyncio.sleep(0)
        wanted, own = self._prefix + prefix, len(self._prefix)
        if unfinished:
            found = [(name, upload) for name, upload in self._shelf.uploads.items() if upload.path.startswith(wanted)]
            return ListPage([ObjectInfo(upload.path[own:], 0, name) for name, upload in found])
        after = cursor if cursor is not None else None if start_after is None else self._prefix + start_after
        paths = sorted(path for path in self._shelf.objects if path.startswith(wanted) and path > (after or ""))
        page = paths[:_PAGE]
        items = [replace(stored.info, key=path[own:]) for path in page for stored in self._shelf.objects[path]]
        return ListPage(items, page[-1] if len(paths) > _PAGE else None)

    async def copy(self, source: CopySource, key: str, *, content_type: str | None = None) -> PutResult:
        if source.location.account != self.location.account:
            raise Unsupported("this store can't copy from there by itself", key=key)
        shelf = _shelves.get(source.location.bucket, _Shelf())
        versions = shelf.objects.get(source.location.prefix + source.key, [])
        for stored in reversed(versions):
            if source.version_id in (None, stored.info.version_id):
                return self._store(key, stored.data)
        raise ObjectNotFound("no such object", key=source.key)

    async def begin_parts(
        self,
        key: str,
        *,
        size_bytes: int | None = None,
        content_type: str | None = None,
        sha1: bytes | None = None,
    ) -> PartsUpload:
        if not self.capabilities.multipart:
            raise Unsupported("this store takes no parts", key=key)
        upload_id = f"u{next(self._shelf.ids):08d}"
        self._shelf.uploads[upload_id] = _Upload(self._path(key))
        return PartsUpload(key, upload_id, part_size(self.capabilities, size_bytes, key))

    async def put_part(self, upload: PartsUpload, number: int, body: bytes) -> Part:
        self._upload(upload).parts[number] = body
        return Part(number, len(body), hashlib.sha256(body).hexdigest())

    async def list_parts(self, upload: PartsUpload) -> list[Part]:
        parts = self._upload(upload).parts
        return [Part(number, len(parts[number]), hashlib.sha256(parts[number]).hexdigest()) for number in sorted(parts)]

    async def finish_parts(self, upload: PartsUpload, parts: Sequence[Part]) -> PutResult:
        if upload.upload_id not in self._shelf.uploads:
            info = self._find(upload.key, None).info
            return PutResult(upload.key, info.size_bytes, info.version_id, info.etag)
        sent = self._upload(upload).parts
        for part in parts:
            if hashlib.sha256(sent.get(part.number, b"")).hexdigest() != part.etag:
                raise IntegrityError("a part is not the one that was sent", key=upload.key)
        data = b"".join(sent[part.number] for part in parts)
        del self._shelf.uploads[upload.upload_id]
        return self._store(upload.key, data)

    async def abort_parts(self, upload: PartsUpload) -> None:
        self._shelf.uploads.pop(upload.upload_id, None)

    def _upload(self, upload: PartsUpload) -> _Upload:
        found = self._shelf.uploads.get(upload.upload_id)
        if found is None:
            raise ObjectNotFound("no such upload", key=upload.key)
        return found

    async def check(self) -> None:
        return None

    def _path(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _find(self, key: str, version_id: str | None) -> _Stored:
        versions = self._shelf.objects.get(self._path(key), [])
        for stored in reversed(versions):
            if version_id is None or stored.info.version_id == version_id:
                return stored
        raise ObjectNotFound("no such object", key=key)


class _Reader:
    def __init__(self, stored: _Stored, start: int, end: int) -> None:
        self.info = stored.info
        self._data = stored.data
        self._start = start
        self._end = end

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for offset in range(self._start, self._end, _CHUNK_BYTES):
            yield self._data[offset : min(offset + _CHUNK_BYTES, self._end)]


def _build(settings: MemorySettings, _credential: NoCredential, _options: BuildOptions) -> MemoryProvider:
    return MemoryProvider(settings)


KIND = ProviderKind(
    name="memory",
    title="Memory (tests only)",
    settings_model=MemorySettings,
    credential_model=NoCredential,
    build=_build,
    destinations=lambda _: (),
)
