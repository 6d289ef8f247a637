"""The waist: `StorageProvider`, the value types that cross it, and the promises that each method makes.

A provider talks to one store: a bucket (or directory) and a prefix inside it. Keys given to a provider are
relative to that prefix, are made by us (never from a user's text), and are written once: no key is ever reused.
Providers hold no state that a crash could lose. All methods are safe to call from many tasks of one event loop.

A kind of storage derives from `plain.ProviderBase`, which answers what it leaves out with `Unsupported`; what it can do
stands in its `capabilities`, so that nobody has to try.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Protocol, runtime_checkable

from simples3dms.kit.secret import Secret
from simples3dms.providers.errors import ProviderError, Unsupported

#: The longest key that every service takes, prefix included (S3 and B2: 1,024 bytes of UTF-8).
LONGEST_KEY_BYTES: Final = 1024

#: What `put` takes: the whole body, or a stream of chunks of any size. A stream can be read once.
Body = bytes | AsyncIterable[bytes]


@dataclass(frozen=True, slots=True)
class Expected:
    """What we know of the bytes beforehand; None where we don't. The integrity layer compares, nobody else."""

    size_bytes: int | None = None
    sha256: bytes | None = None
    sha1: bytes | None = None
    """Of a body that is written, for stores that keep it (B2, as `large_file_sha1`). Not compared when reading."""


NOTHING_EXPECTED = Expected()


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """One object at a store; `version_id` where the store keeps versions and we know which is ours."""

    key: str
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says of an object: a claim, not proof. `etag` is an opaque token.

    `sha1` is hexadecimal, and only there when the store vouches for it (B2: not `none`, not `unverified:`). So is
    `sha256`, and only there when the store says that it is that of the whole object. Whether a store computes what it
    reports, the probe tells (`vouching`).
    """

    key: str
    size_bytes: int
    version_id: str | None = None
    etag: str | None = None
    modified_at: datetime | None = None
    sha1: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class PutResult:
    """What was written. `sha256` is our own digest of the bytes sent (filled by the integrity layer)."""

    key: str
    size_bytes: int
    version_id: str | None = None
    etag: str | None = None
    sha256: bytes | None = None
    repeated: bool = False
    """The request was sent more than once inside the kind: an earlier one may have made a version as well."""


@dataclass(frozen=True, slots=True)
class DeleteOutcome:
    """The result for one object of `delete`: gone (also if it was never there), or the error that kept it."""

    ref: ObjectRef
    error: ProviderError | None = None


LockMode = Literal["governance", "compliance"]


@dataclass(frozen=True, slots=True)
class ObjectLock:
    """What a store itself keeps one version by: a legal hold, a retention, both or neither."""

    held: bool = False
    mode: LockMode | None = None
    """`governance`: whoever has the right to may shorten it; `compliance`: nobody."""
    until: datetime | None = None
    """When the retention ends, by the store's clock; it may be over."""


@dataclass(frozen=True, slots=True)
class ListPage:
    """Some objects in the store's order, and where to go on (None: that was the end)."""

    items: Sequence[ObjectInfo]
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class PartsUpload:
    """An upload in parts that is under way: small enough to be kept in a record and taken up again after a crash."""

    key: str
    upload_id: str
    part_size_bytes: int
    """Every part has this size but the last, which may be shorter (some services demand it: R2)."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part that the store has. Numbers begin at 1. `etag` is what `finish_parts` needs (B2: the SHA-1)."""

    number: int
    size_bytes: int
    etag: str


@dataclass(frozen=True, slots=True)
class Location:
    """Where a store is, as far as copying inside the service goes: nothing of it is secret."""

    account: str
    """Two stores whose accounts are equal can copy from one another inside the service."""
    bucket: str
    prefix: str


@dataclass(frozen=True, slots=True)
class CopySource:
    """An object of a store that the copying one may read inside the service."""

    location: Location
    key: str
    size_bytes: int
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request that whoever holds it may make until it expires: treat the URL as a credential."""

    method: str
    url: Secret
    headers: dict[str, str]
    """To be sent exactly as given: they are signed."""
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of a probe. Green: as it should be; amber: it works, and this is what it costs; red: do not use it."""

    name: str
    verdict: Literal["green", "amber", "red"]
    meaning: str
    """What was looked at, for a person."""
    detail: str = ""
    """What was found, where that is more than "it works", and what to do about it."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store can do, as data. Code asks, the UI shows, tests select by it."""

    versions: bool = False
    """Each write makes a version with an id, and deleting needs that id (B2; S3 buckets with versioning)."""
    server_side_copy: bool = False
    sign_download: bool = False
    sign_upload: bool = False
    multipart: bool = False
    """`begin_parts` and its kin work; streams longer than one part are then sent in parts."""
    replaces_parts: bool = True
    """A part that is sent again takes the place of the one before, as long as the upload is not finished."""
    part_size_bytes: int = 8 * 2**20
    """The least part that we use: constant within an object, larger only for objects that need it."""
    largest_part_bytes: int = 5 * 10**9
    most_parts: int = 10_000
    largest_object_bytes: int = 5 * 2**40
    longest_signed_seconds: int = 0
    object_lock: bool = False
    """Versions can be held and retained by the store itself, and its settings say that we do so."""
    durable: bool = True
    """False for stores whose bytes do not survive the process (memory)."""
    experimental: bool = False
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

    @property
    def location(self) -> Location:
        """Where this store is. No I/O."""
        ...

    async def put(
        self, key: str, body: Body, *, expected: Expected = NOTHING_EXPECTED, content_type: str | None = None
    ) -> PutResult:
        """Write one object. Streaming: memory is bounded whatever the size; `expected.size_bytes` is used when known.

        All or nothing: until it returns no complete object is visible at the key, and after an error there is none
        or an unfinished one that `discard` removes. Not idempotent on stores that keep versions (a repeat makes a
        second version). May be retried from outside only with a bytes body; parts of a stream are retried inside.
        Raises IntegrityError if the bytes sent do not match `expected`; nothing is left then. Raises ObjectTooLarge.
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
        ending; by then its chunks have been handed out, so callers must not commit before the end. A range that
        lies past the end reads as nothing. The retry layer goes on where a body was cut.
        """
        ...

    async def get(self, key: str, *, version_id: str | None = None, expected: Expected) -> bytes:
        """All of a small object, in one call. Not streaming; may be retried as a whole.

        `expected.size_bytes` is how much may be held in memory, and must be there. Raises ObjectNotFound;
        IntegrityError where size or digest differ from what is expected.
        """
        ...

    async def head(self, key: str, *, version_id: str | None = None) -> ObjectInfo:
        """What the store says of the object. Raises ObjectNotFound. Idempotent. Proves nothing about the bytes."""
        ...

    async def delete(self, refs: Sequence[ObjectRef]) -> list[DeleteOutcome]:
        """Delete these objects, by version id where it is given; an outcome each, in order. Idempotent.

        Deleting what is not there succeeds. Where the store keeps versions and no id is given, every version of the
        key goes, so that nothing hidden stays behind and is billed. What a lock of the store keeps is AccessDenied.
        """
        ...

    async def discard(self, key: str) -> None:
        """Remove whatever a failed or doubtful write may have left at the key. Idempotent.

        That is: all versions of it, hidden ones and delete markers too, and unfinished uploads in parts. Nothing
        there is success.
        """
        ...

    async def get_lock(self, ref: ObjectRef) -> ObjectLock:
        """What the store keeps this version by. Idempotent; the store's word. Raises ObjectNotFound, and AccessDenied
        where the credential may not know: never "nothing" then. This and the next two raise Unsupported where
        `capabilities.object_lock` is false.
        """
        ...

    async def set_hold(self, ref: ObjectRef, *, on: bool) -> None:
        """Place or release the legal hold of this version: until released, no delete by its id succeeds. Idempotent.

        Raises ObjectNotFound.
        """
        ...

    async def set_retention(self, ref: ObjectRef, *, mode: LockMode, until: datetime, bypass: bool = False) -> None:
        """Retain this version until then (in the future): no delete by its id succeeds before. Idempotent.

        AccessDenied where that is shorter or weaker than what is in force; with `bypass`, one of the mode governance
        may be shortened or hardened by a credential with that right. A retention is ended by shortening it to a
        moment ahead: not every service has another way. Raises ObjectNotFound.
        """
        ...

    async def list_page(
        self,
        prefix: str = "",
        *,
        start_after: str | None = None,
        cursor: str | None = None,
        unfinished: bool = False,
    ) -> ListPage:
        """One page of the objects whose key starts with `prefix`; every version where versions are kept. Idempotent.

        Keys come relative to the store's prefix. The order is the store's (not always byte order). `start_after`
        leaves out keys up to and including it; `cursor` is the one of the page before and makes `start_after` moot.
        `unfinished` lists uploads in parts instead: `version_id` holds the upload's id, the size is 0. A page may be
        empty and not the last.
        """
        ...

    def list(self, prefix: str = "", *, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        """All pages of objects, streamed. Raises ProviderError if the store gives the same page again and again."""
        ...

    def list_unfinished(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """All pages of unfinished uploads, streamed."""
        ...

    async def copy(self, source: CopySource, key: str, *, content_type: str | None = None) -> PutResult:
        """Copy inside the service: within the store, or from another store of the same account. No bytes pass here.

        All or nothing like `put`; the result proves nothing about the bytes. May be retried (a repeat makes a second
        version where versions are kept). Raises ObjectNotFound for a missing source; Unsupported where
        `capabilities.server_side_copy` is false or the accounts differ.
        """
        ...

    async def begin_parts(
        self,
        key: str,
        *,
        size_bytes: int | None = None,
        content_type: str | None = None,
        sha1: bytes | None = None,
    ) -> PartsUpload:
        """Begin an upload in parts. Nothing is visible at the key before `finish_parts`; `discard` removes it.

        `sha1`: of the whole body, where it is known by now; a store that keeps one is told. Nothing compares it here.
        A repeat begins a second upload, so retry only where `discard` will clean. Raises ObjectTooLarge, Unsupported.
        """
        ...

    async def put_part(self, upload: PartsUpload, number: int, body: bytes) -> Part:
        """Send one part; the same number again replaces it, so this may be retried. Any order, many at a time."""
        ...

    async def list_parts(self, upload: PartsUpload) -> Sequence[Part]:
        """The parts that the store has, by number: what need not be sent again after a crash. Idempotent.

        Raises ObjectNotFound if the upload is not there (finished, aborted, or removed by the service).
        """
        ...

    async def finish_parts(self, upload: PartsUpload, parts: Sequence[Part]) -> PutResult:
        """Make the object of these parts visible. May be retried: finished already counts as success."""
        ...

    async def abort_parts(self, upload: PartsUpload) -> None:
        """Give an upload up and free its parts. Idempotent: not there is success."""
        ...

    async def sign_download(
        self, ref: ObjectRef, *, expires_seconds: int, filename: str, content_type: str
    ) -> SignedRequest:
        """A GET for whoever holds it, answered with this content type and as an attachment of this name. No I/O on S3.

        Raises Unsupported where `capabilities.sign_download` is false.
        """
        ...

    async def sign_upload(self, key: str, *, size_bytes: int, content_type: str, expires_seconds: int) -> SignedRequest:
        """A PUT of exactly this many bytes of this type to this key. What was sent still has to be proven."""
        ...

    async def sign_part(
        self, upload: PartsUpload, number: int, *, size_bytes: int, expires_seconds: int
    ) -> SignedRequest:
        """A PUT of one part of exactly this many bytes."""
        ...

    async def inspect(self, scratch: str) -> Sequence[Finding]:
        """What only this kind can find out about its store, for the probe. Works below the scratch prefix, which the
        probe cleans. Slow, and never part of daily work. Raises only what `check` raises.
        """
        ...

    async def check(self) -> None:
        """The cheapest calls that show that endpoint, credential and bucket work; raises what is wrong. No writes."""
        ...

    async def close(self) -> None:
        """Free connections and threads. Idempotent; the provider is not used afterwards."""
        ...


def check_key(key: str) -> str:
    """The key itself, if every kind of store can hold it; else raises Unsupported."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise Unsupported("a key is text that UTF-8 can hold") from None
    if not 1 <= size <= LONGEST_KEY_BYTES:
        raise Unsupported("a key has 1 to 1024 bytes", key=key[:80])
    if any(ord(character) < 32 or character in "\x7f\\" for character in key):
        raise Unsupported("a key holds no control character and no backslash")
    if any(segment in ("", ".", "..") for segment in key.split("/")):
        raise Unsupported("a key has no empty, '.' or '..' segment", key=key)
    return key
