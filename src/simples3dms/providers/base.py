"""The waist: `StorageProvider`, the value types that cross it, and the promises that each method makes.

A provider talks to one store: a bucket (or directory) and a prefix inside it. Keys given to a provider are
relative to that prefix, are made by us (never from a user's text), and are written once: no key is ever reused.
Providers hold no state that a crash could lose. All methods are safe to call from many tasks of one event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol, runtime_checkable

from simples3dms.providers.errors import Unsupported

#: The longest key that every service takes, prefix included (S3 and B2: 1,024 bytes of UTF-8).
LONGEST_KEY_BYTES: Final = 1024

#: What `put` takes: the whole body, or a stream of chunks of any size. A stream can be read once.
Body = bytes | AsyncIterable[bytes]


@dataclass(frozen=True, slots=True)
class Expected:
    """What we know of the bytes beforehand; None where we don't. The integrity layer compares, nobody else."""

    size_bytes: int | None = None
    sha256: bytes | None = None


NOTHING_EXPECTED = Expected()


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """One object at a store; `version_id` where the store keeps versions and we know which is ours."""

    key: str
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says of an object: a claim, not proof. `etag` is an opaque token."""

    key: str
    size_bytes: int
    version_id: str | None = None
    etag: str | None = None
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PutResult:
    """What was written. `sha256` is our own digest of the bytes sent (filled by the integrity layer)."""

    key: str
    size_bytes: int
    version_id: str | None = None
    etag: str | None = None
    sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class DeleteOutcome:
    """The result for one object of `delete`: gone (also if it was never there), or the error that kept it."""

    ref: ObjectRef
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store can do, as data. Code asks, the UI shows, tests select by it."""

    versions: bool = False
    """Each write makes a version with an id, and deleting needs that id (B2; S3 buckets with versioning)."""
    conditional_put: bool = False
    server_side_copy: bool = False
    presign: bool = False
    multipart: bool = False
    part_size_bytes: int = 0
    """The part size that we use: constant per object, as some services demand (R2)."""
    largest_object_bytes: int = 5 * 2**40
    durable: bool = True
    """False for stores whose bytes do not survive the process (memory)."""
    notes: tuple[str, ...] = field(default=())


class ObjectReader(Protocol):
    """An open object: `info` as the store claims it, and the bytes in order, each chunk at most a few MiB."""

    @property
    def info(self) -> ObjectInfo: ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...


@runtime_checkable
class StorageProvider(Protocol):
    """One store. Every failure is a `ProviderError`; `asyncio.CancelledError` passes through untouched."""

    @property
    def kind(self) -> str:
        """The provider kind: `s3`, `b2`, `local`, `memory`, or a plug-in's."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do. No I/O."""
        ...

    async def put(
        self, key: str, body: Body, *, expected: Expected = NOTHING_EXPECTED, content_type: str | None = None
    ) -> PutResult:
        """Write one object. Streaming: memory is bounded whatever the size; `expected.size_bytes` is used when known.

        All or nothing: until it returns no complete object is visible at the key, and after an error there is none
        or an unfinished one that `discard` removes. Not idempotent on stores that keep versions (a repeat makes a
        second version). May be retried from outside only with a bytes body; parts of a stream are retried inside.
        Raises IntegrityError if the bytes sent do not match `expected`; nothing is left then.
        """
        ...

    def open(
        self,
        key: str,
        *,
        version_id: str | None = None,
        start: int = 0,
        length: int | None = None,
        expected: Expected = NOTHING_EXPECTED,
    ) -> AbstractAsyncContextManager[ObjectReader]:
        """Read an object, or `length` bytes of it from `start` (None: to the end). Streaming; may be retried.

        Raises ObjectNotFound on entering. A body that ends early raises while iterating: never a clean, short end.
        With `start == 0`, `length is None` and a digest expected, a wrong body raises IntegrityError instead of
        ending; by then its chunks have been handed out, so callers must not commit before the end.
        """
        ...

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        """What the store says of the object. Raises ObjectNotFound. Idempotent. Proves nothing about the bytes."""
        ...

    async def delete(self, refs: Sequence[ObjectRef]) -> list[DeleteOutcome]:
        """Delete these objects, by version id where it is given; an outcome each, in order. Idempotent.

        Deleting what is not there succeeds. Where the store keeps versions and no id is given, every version of the
        key goes, so that nothing hidden stays behind and is billed.
        """
        ...

    async def discard(self, key: str) -> None:
        """Remove whatever a failed or doubtful write may have left at the key. Idempotent.

        That is: all versions of it, hidden ones too, and unfinished multipart uploads. Nothing there is success.
        """
        ...

    def list(self, prefix: str = "", *, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        """All objects whose key starts with `prefix`, streamed page by page; every version where versions are kept.

        Keys come relative to the store's prefix. The order is the store's (not always byte order). `start_after`
        leaves out keys up to and including it. Unfinished uploads are not objects; see `list_unfinished`.
        """
        ...

    def list_unfinished(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """Unfinished multipart uploads under the prefix (`version_id` holds the upload's id, size is 0)."""
        ...

    async def check(self) -> None:
        """The cheapest calls that show that endpoint, credential and bucket work; raises what is wrong. No writes."""
        ...

    async def close(self) -> None:
        """Free connections and threads. Idempotent; the provider is not used afterwards."""
        ...


def check_key(key: str) -> str:
    """The key itself, if every kind of store can hold it; else raises Unsupported."""
    if not key or len(key.encode()) > LONGEST_KEY_BYTES:
        raise Unsupported("a key has 1 to 1024 bytes", key=key[:80])
    if any(ord(character) < 32 or character in "\x7f\\" for character in key):
        raise Unsupported("a key holds no control character and no backslash")
    if any(segment in ("", ".", "..") for segment in key.split("/")):
        raise Unsupported("a key has no empty, '.' or '..' segment", key=key)
    return key
