"""Reading a blob: over its replicas, best first, verified against the record."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from simples3dms.errors import Failure, StorageFailed
from simples3dms.kit.streams import gather_small
from simples3dms.providers.base import Expected, StorageProvider
from simples3dms.providers.errors import IntegrityError, ObjectNotFound, ProviderError
from simples3dms.storage.blobs.values import SMALL_BYTES, Blob, Replica
from simples3dms.storage.stores.errors import explain


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """A blob and the replicas to try for it, best first."""

    tenant_id: UUID
    blob: Blob
    replicas: list[Replica]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a reading needs of the outside: the provider of a store, and whom to tell of a bad replica."""

    provider: Callable[[UUID], Awaitable[StorageProvider]]
    report_bad: Callable[[UUID, Replica, ProviderError], Awaitable[None]]


class Reading:
    """One read of a blob over its replicas. Iterate it once."""

    def __init__(self, around: Surroundings, plan: ReadPlan, start: int, length: int) -> None:
        self._around = around
        self._plan = plan
        self._start = start
        self._length = length
        self._left = list(plan.replicas)
        self._whole = start == 0 and length == plan.blob.size_bytes
        self._stream: AsyncIterator[bytes] | None = None
        self._first: bytes | None = None
        self._last_error: ProviderError | None = None

    async def begin(self) -> None:
        if self._plan.blob.size_bytes <= SMALL_BYTES:
            body = await self._read_small()
            self._first = body[self._start : self._start + self._length]
            return
        self._stream = self._run()
        self._first = await anext(self._stream, b"")

    async def close(self) -> None:
        closer = getattr(self._stream, "aclose", None)
        if closer is not None:
            await closer()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._first:
            yield self._first
        if self._stream is not None:
            async for chunk in self._stream:
                yield chunk

    async def _read_small(self) -> bytes:
        """The whole blob, verified, from the first replica that has it right."""
        blob = self._plan.blob
        expected = Expected(blob.size_bytes, blob.digest)
        while self._left:
            replica = self._left.pop(0)
            try:
                provider = await self._around.provider(replica.store_id)
                async with provider.open(replica.key, version_id=replica.version_id, expected=expected) as reader:
                    return await gather_small(reader, blob.size_bytes)
            except ValueError:
                await self._note(replica, IntegrityError("the object is longer than recorded", key=replica.key))
            except ProviderError as error:
                await self._note(replica, error)
        raise self._unreadable()

    async def _run(self) -> AsyncIterator[bytes]:
        """Chunks of the range, from replica after replica, each going on where the last one failed."""
        done = 0
        digest = hashlib.sha256() if self._whole else None
        used: list[Replica] = []
        while done < self._length:
            if not self._left:
                raise self._unreadable()
            replica = self._left.pop(0)
            used.append(replica)
            try:
                provider = await self._around.provider(replica.store_id)
                async with provider.open(
                    replica.key,
                    version_id=replica.version_id,
                    start=self._start + done,
                    length=self._length - done,
                ) as reader:
                    async for chunk in reader:
                        done += len(chunk)
                        if digest is not None:
                            digest.update(chunk)
                        if done > self._length or (digest and done == self._length and not self._matches(digest)):
                            raise IntegrityError("the bytes differ from the record", key=replica.key)
                        yield chunk
                if done < self._length:
                    raise IntegrityError("the object is shorter than recorded", key=replica.key)
            except ProviderError as error:
                await self._note(replica, error)
                if isinstance(error, IntegrityError) and done >= self._length:
                    # The bytes are out already; the reader must see a failure, never a clean end.
                    raise self._unreadable() from error

    def _matches(self, digest: hashlib._Hash) -> bool:
        return digest.digest() == self._plan.blob.digest

    async def _note(self, replica: Replica, error: ProviderError) -> None:
        self._last_error = error
        if isinstance(error, IntegrityError | ObjectNotFound):
            await self._around.report_bad(self._plan.tenant_id, replica, error)

    def _unreadable(self) -> Failure:
        error = self._last_error
        if error is None:
            return StorageFailed("No store holds a readable copy of this document now.", code="no_readable_replica")
        if isinstance(error, IntegrityError | ObjectNotFound):
            return StorageFailed(
                "No store holds a good copy of this document now; its operator has been told.",
                code="no_readable_replica",
            )
        return explain(error)
