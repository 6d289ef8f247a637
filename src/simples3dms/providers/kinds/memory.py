"""A store in this process's memory, for tests: same promises, nothing survives."""

# ruff: noqa: ARG002  (the interface has arguments that memory has no use for)

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

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
    check_key,
)
from simples3dms.providers.errors import ObjectNotFound
from simples3dms.providers.registry import BuildOptions, FormModel, NoCredential, NotBlank, Prefix, ProviderKind

_CHUNK_BYTES = 1 << 20


class MemorySettings(FormModel):
    """`name`: providers of one name in one process share their bytes."""

    name: NotBlank
    prefix: Prefix = ""
    versions: bool = False


@dataclass(frozen=True, slots=True)
class _Stored:
    data: bytes
    info: ObjectInfo


@dataclass(slots=True)
class _Shelf:
    """The bytes of one name: every key with its versions, the newest last."""

    objects: dict[str, list[_Stored]] = field(default_factory=dict)
    ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))


_shelves: dict[str, _Shelf] = {}


def forget(name: str) -> None:
    """Drop all bytes kept under this name."""
    _shelves.pop(name, None)


class MemoryProvider:
    """Keeps objects in a dictionary. With `versions`, every write makes a version with an id."""

    kind = "memory"

    def __init__(self, settings: MemorySettings) -> None:
        self._prefix = settings.prefix
        self._shelf = _shelves.setdefault(settings.name, _Shelf())
        self.capabilities = Capabilities(versions=settings.versions, durable=False)

    async def put(
        self, key: str, body: Body, *, expected: Expected = NOTHING_EXPECTED, content_type: str | None = None
    ) -> PutResult:
        path = self._path(key)
        data = body if isinstance(body, bytes) else b"".join([chunk async for chunk in body])
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
        for ref in refs:
            path = self._path(ref.key)
            kept = [
                stored
                for stored in self._shelf.objects.get(path, [])
                if ref.version_id is not None and stored.info.version_id != ref.version_id
            ]
            if kept:
                self._shelf.objects[path] = kept
            else:
                self._shelf.objects.pop(path, None)
        return [DeleteOutcome(ref) for ref in refs]

    async def discard(self, key: str) -> None:
        self._shelf.objects.pop(self._path(key), None)

    async def list(self, prefix: str = "", *, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        wanted = self._prefix + prefix
        after = None if start_after is None else self._prefix + start_after
        for path in sorted(self._shelf.objects):
            if path.startswith(wanted) and (after is None or path > after):
                for stored in list(self._shelf.objects.get(path, [])):
                    yield stored.info
                await asyncio.sleep(0)

    async def list_unfinished(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        nothing: tuple[ObjectInfo, ...] = ()
        for info in nothing:
            yield info

    async def check(self) -> None:
        return None

    async def close(self) -> None:
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
)
