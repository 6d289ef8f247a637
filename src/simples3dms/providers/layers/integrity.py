"""Integrity: every byte is hashed on its way in and out, and held against what is expected."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final

from simples3dms.providers.base import NOTHING_EXPECTED, Body, Expected, ObjectInfo, ObjectReader, PutResult
from simples3dms.providers.errors import IntegrityError, ProviderError
from simples3dms.providers.layers.forwarding import Layer

#: What hashlib digests without letting go of the interpreter's lock.
_HELD_BYTES: Final = 2047
_SMALL_BYTES: Final = 32 * 1024


class IntegrityLayer(Layer):
    """Compares length and SHA-256 with what is expected; fills `PutResult.sha256`."""

    async def put(
        self, key: str, body: Body, *, expected: Expected = NOTHING_EXPECTED, content_type: str | None = None
    ) -> PutResult:
        if isinstance(body, bytes):
            digest = _sha256_of(body)
            _compare(key, expected, len(body), digest, _sha1_of(body) if expected.sha1 is not None else None)
            # From here on the length is known for certain, whoever announced it.
            known = Expected(len(body), digest, expected.sha1)
            result = await self.inner.put(key, body, expected=known, content_type=content_type)
            return await self._confirmed(key, result, len(body), digest)
        checked = _CheckedStream(key, body, expected)
        try:
            result = await self.inner.put(key, checked, expected=expected, content_type=content_type)
        except NotTheStore as carried:
            failure = carried.original
        else:
            return await self._confirmed(key, result, checked.size_bytes, checked.digest())
        raise failure

    async def _confirmed(self, key: str, result: PutResult, size_bytes: int, digest: bytes) -> PutResult:
        if result.size_bytes != size_bytes:
            await self._discard_quietly(key)
            raise IntegrityError("the store took another number of bytes than were sent", key=key)
        return PutResult(result.key, size_bytes, result.version_id, result.etag, digest, result.repeated)

    async def _discard_quietly(self, key: str) -> None:
        try:
            await self.inner.discard(key)
        except ProviderError:
            return  # the caller learns of the mismatch, and its record of the key has it cleaned later

    def open(
        self,
        key: str,
        *,
        version_id: str | None = None,
        start: int = 0,
        length: int | None = None,
        expected: Expected = NOTHING_EXPECTED,
    ) -> AbstractAsyncContextManager[ObjectReader]:
        opened = self.inner.open(key, version_id=version_id, start=start, length=length, expected=expected)
        whole = start == 0 and length is None
        return _CheckedOpen(opened, key, expected if whole else NOTHING_EXPECTED, start, length)

    async def get(self, key: str, *, version_id: str | None = None, expected: Expected) -> bytes:
        body = await self.inner.get(key, version_id=version_id, expected=expected)
        digest = b"" if expected.sha256 is None else _sha256_of(body)
        _compare(key, expected, len(body), digest, None if expected.sha1 is None else _sha1_of(body))
        return body


def _sha256_of(body: bytes) -> bytes:
    """The digest of a whole body. The lock is kept for a small one: hashing it takes ten microseconds, and getting the
    lock back beside the threads that move bytes takes longer."""
    if len(body) > _SMALL_BYTES:
        return hashlib.sha256(body).digest()
    view, digest = memoryview(body), hashlib.sha256()
    for offset in range(0, len(body), _HELD_BYTES):
        digest.update(view[offset : offset + _HELD_BYTES])
    return digest.digest()


def _sha1_of(body: bytes) -> bytes:
    return hashlib.sha1(body, usedforsecurity=False).digest()


def _compare(key: str, expected: Expected, size_bytes: int, digest: bytes, sha1: bytes | None = None) -> None:
    if expected.size_bytes is not None and expected.size_bytes != size_bytes:
        raise IntegrityError(f"{size_bytes} bytes where {expected.size_bytes} were expected", key=key)
    if expected.sha256 is not None and expected.sha256 != digest:
        raise IntegrityError("the SHA-256 is not the expected one", key=key)
    if expected.sha1 is not None and expected.sha1 != sha1:
        raise IntegrityError("the SHA-1 is not the expected one", key=key)


class NotTheStore(Exception):
    """Carries what went wrong at the caller's end through the layers: it says nothing of this store.

    The source of a body may be another store, and a reader's user may write to one: their faults must open neither
    this store's breaker nor be repeated against it.
    """

    def __init__(self, original: Exception) -> None:
        super().__init__("at the caller's end")
        self.original = original


class _CheckedStream:
    """A body that is hashed as it passes. Its last chunk is held back until all of it has been compared.

    So a body that turns out wrong never reaches the store's "complete": the stream raises instead of ending.
    """

    def __init__(self, key: str, body: AsyncIterable[bytes], expected: Expected) -> None:
        self._key = key
        self._body = body
        self._expected = expected
        self._hash = hashlib.sha256()
        self._sha1 = None if expected.sha1 is None else hashlib.sha1(usedforsecurity=False)
        self.size_bytes = 0

    def digest(self) -> bytes:
        return self._hash.digest()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        held: bytes | None = None
        try:
            async for chunk in self._body:
                if not chunk:
                    continue
                if held is not None:
                    yield held
                held = chunk
                self._hash.update(chunk)
                if self._sha1 is not None:
                    self._sha1.update(chunk)
                self.size_bytes += len(chunk)
                if self._expected.size_bytes is not None and self.size_bytes > self._expected.size_bytes:
                    raise IntegrityError("more bytes than expected", key=self._key)
            sha1 = None if self._sha1 is None else self._sha1.digest()
            _compare(self._key, self._expected, self.size_bytes, self._hash.digest(), sha1)
        except Exception as error:
            raise NotTheStore(error) from error
        if held is not None:
            yield held


class _CheckedOpen:
    """An open object whose bytes are counted and, where all of it is read, hashed."""

    def __init__(
        self,
        opened: AbstractAsyncContextManager[ObjectReader],
        key: str,
        expected: Expected,
        start: int,
        length: int | None,
    ) -> None:
        self._opened = opened
        self._key = key
        self._expected = expected
        self._start = start
        self._length = length
        self._reader: _CheckedReader | None = None

    async def __aenter__(self) -> ObjectReader:
        reader = await self._opened.__aenter__()
        size = reader.info.size_bytes
        if self._expected.size_bytes is not None and size != self._expected.size_bytes:
            wrong = IntegrityError(f"the store says {size} bytes, expected {self._expected.size_bytes}", key=self._key)
            await self._opened.__aexit__(type(wrong), wrong, None)
            raise wrong
        due = max(0, size - self._start)
        if self._length is not None:
            due = min(due, self._length)
        self._reader = _CheckedReader(reader, self._key, due, self._expected.sha256)
        return self._reader

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if isinstance(error, Exception) and (self._reader is None or error is not self._reader.raised):
            carried = NotTheStore(error)
            await self._opened.__aexit__(NotTheStore, carried, trace)
            return None
        return await self._opened.__aexit__(kind, error, trace)


class _CheckedReader:
    """Raises instead of ending when bytes are missing, too many, or other than expected."""

    def __init__(self, reader: ObjectReader, key: str, due: int, sha256: bytes | None) -> None:
        self._reader = reader
        self._key = key
        self._due = due
        self._sha256 = sha256
        self.raised: Exception | None = None
        """What reading ended with, to tell it from what the reader's user did."""

    @property
    def info(self) -> ObjectInfo:
        return self._reader.info

    async def __aiter__(self) -> AsyncIterator[bytes]:
        got = 0
        digest = hashlib.sha256() if self._sha256 is not None else None
        try:
            async for chunk in self._reader:
                got += len(chunk)
                if got > self._due:
                    raise IntegrityError("the object is longer than the store said", key=self._key)
                if digest is not None:
                    digest.update(chunk)
                    if got == self._due and digest.digest() != self._sha256:
                        raise IntegrityError("the SHA-256 is not the expected one", key=self._key)
                yield chunk
            if got < self._due:
                raise IntegrityError(f"the body ended after {got} of {self._due} bytes", key=self._key)
            if digest is not None and digest.digest() != self._sha256:
                raise IntegrityError("the SHA-256 is not the expected one", key=self._key)
        except Exception as error:
            self.raised = error
            raise
