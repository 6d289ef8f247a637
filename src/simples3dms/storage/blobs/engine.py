"""Reading a blob: over its replicas, best first, verified against the record."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from uuid import UUID

from simples3dms.errors import Failure, StorageFailed
from simples3dms.providers.base import Expected, StorageProvider
from simples3dms.providers.errors import STORE_FAULTS, IntegrityError, ObjectNotFound, ProviderError
from simples3dms.storage.blobs.hedging import Attempt, Hedges
from simples3dms.storage.blobs.latencies import Latencies, Timing
from simples3dms.storage.blobs.values import CACHED, SMALL_BYTES, Blob, Replica
from simples3dms.storage.caches.filling import Filling
from simples3dms.storage.caches.service import Caches
from simples3dms.storage.caches.values import CachePlace
from simples3dms.storage.stores.errors import explain

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """A blob and the replicas to try for it, best first."""

    tenant_id: UUID
    blob: Blob
    replicas: list[Replica]
    """An entry of a cache stands among them, as one whose state is `cached`."""
    fill: CachePlace | None = None
    """The cache that the blob is to be in once it was read and verified."""
    hedge: bool = False
    """Whether a second store may be asked when the first one is late."""
    is_use_old: bool = False
    """Whether the use of the cache's entry is to be noted."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a reading needs of the outside: the provider of a store, and whom to tell of a bad replica."""

    provider: Callable[[UUID], Awaitable[StorageProvider]]
    report_bad: Callable[[UUID, Replica, ProviderError], Awaitable[None]]
    plan_again: Callable[[ReadPlan], Awaitable[list[Replica]]]
    latencies: Latencies
    caches: Caches
    hedges: Hedges


@dataclass(frozen=True, slots=True)
class Opened:
    """A store's answer: its first bytes (None: there are none), and what follows them."""

    first: bytes | None
    rest: AsyncGenerator[bytes, None]


class Reading:
    """One read of a blob over its replicas. Iterate it once."""

    def __init__(self, around: Surroundings, plan: ReadPlan, start: int, length: int) -> None:
        self._around = around
        self._plan = plan
        self._start = start
        self._length = length
        self._whole = start == 0 and length == plan.blob.size_bytes
        self._is_small = plan.blob.size_bytes <= SMALL_BYTES
        self._left = self._usable(plan.replicas)
        self._tried: set[UUID] = set()
        self._planned_again = False
        self._stream: AsyncIterator[bytes] | None = None
        self._first: bytes | None = None
        self._filling: Filling | None = None
        self._last_error: ProviderError | None = None

    async def begin(self) -> None:
        if self._is_small:
            body = await self._read_small()
            self._first = body[self._start : self._start + self._length]
            return
        self._stream = self._run()
        self._first = await anext(self._stream, b"")

    async def close(self) -> None:
        if self._filling is not None:
            self._filling.abandon()
        closer = getattr(self._stream, "aclose", None)
        if closer is not None:
            await closer()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._first:
            yield self._first
        if self._stream is not None:
            async for chunk in self._stream:
                yield chunk

    def _usable(self, replicas: list[Replica]) -> list[Replica]:
        """A suspect replica serves only where all its bytes are compared: never for a range of a large blob."""
        compares = self._whole or self._is_small
        return [replica for replica in replicas if compares or replica.state != "suspect"]

    async def _next(self) -> Replica | None:
        """The next replica to try. When all have failed, the records are asked once more: some may be new."""
        if not self._left and not self._planned_again:
            self._planned_again = True
            again = await self._around.plan_again(self._plan)
            self._left = [replica for replica in self._usable(again) if replica.id not in self._tried]
        if not self._left:
            return None
        replica = self._left.pop(0)
        self._tried.add(replica.id)
        return replica

    async def _read_small(self) -> bytes:
        """The whole blob, verified, from the first replica that has it right."""
        blob = self._plan.blob
        expected = Expected(blob.size_bytes, blob.digest)

        async def get(replica: Replica) -> bytes:
            provider = await self._around.provider(replica.store_id)
            with self._timed(replica) as timing:
                body = await provider.get(replica.key, version_id=replica.version_id, expected=expected)
                timing.answered()
            return body

        answer = await self._answer(Attempt(get, _let_go))
        if answer is None:
            raise self._unreadable()
        replica, body = answer
        self._note_use(replica)
        if (filling := self._begin_fill(replica)) is not None:
            filling.offer(body)
            filling.finish()
        return body

    async def _answer(self, attempt: Attempt[T]) -> tuple[Replica, T] | None:
        """The next replica that answers, with its answer; None if none is left."""
        while (replica := await self._next()) is not None:
            if self._plan.hedge:
                answer = await self._around.hedges.race(replica, self._second, attempt, self._note)
                if answer is not None:
                    return answer
                continue
            try:
                return replica, await attempt.begin(replica)
            except ProviderError as error:
                await self._note(replica, error)
        return None

    def _second(self) -> Replica | None:
        """The next replica, if it is one to be asked while another one still may answer."""
        if not self._left or self._left[0].state != "live":
            return None
        replica = self._left.pop(0)
        self._tried.add(replica.id)
        return replica

    async def _run(self) -> AsyncIterator[bytes]:
        """Chunks of the range, from replica after replica, each going on where the last one failed."""
        done = 0
        digest = hashlib.sha256() if self._whole else None
        used: list[Replica] = []
        while done < self._length:
            answer = await self._answer(Attempt(partial(self._open, done=done), _close))
            if answer is None:
                raise self._unreadable()
            replica, opened = answer
            try:
                async with aclosing(opened.rest):
                    chunk = opened.first
                    while chunk is not None:
                        if replica not in used:
                            used.append(replica)
                        done += len(chunk)
                        if digest is not None:
                            digest.update(chunk)
                        self._check(done, digest, replica)
                        self._pass_on(replica, chunk, done)
                        yield chunk
                        chunk = await anext(opened.rest, None)
                if done < self._length:
                    raise IntegrityError("the object is shorter than recorded", key=replica.key)
            except ProviderError as error:
                await self._fail(error, used if done >= self._length else [replica], is_out=done >= self._length)

    async def _open(self, replica: Replica, *, done: int) -> Opened:
        chunks = self._from(replica, done)
        try:
            return Opened(await anext(chunks, None), chunks)
        except BaseException:
            await chunks.aclose()
            raise

    def _pass_on(self, replica: Replica, chunk: bytes, done: int) -> None:
        """Have a whole read fill a cache as well, from its first chunk (`done` with it) to the verified last."""
        if chunk and done == len(chunk):
            self._note_use(replica)
            self._filling = self._begin_fill(replica) if self._whole else None
        if self._filling is not None:
            self._filling.offer(chunk)
            if done == self._length:
                self._filling.finish()

    def _note_use(self, replica: Replica) -> None:
        if replica.state == CACHED and self._plan.is_use_old:
            self._around.caches.note_use(self._plan.tenant_id, replica.id)

    def _begin_fill(self, replica: Replica) -> Filling | None:
        """What to pass the blob's bytes on to, where a cache is to have them and did not give them."""
        blob, place = self._plan.blob, self._plan.fill
        if place is None or replica.state == CACHED:
            return None
        expected = Expected(blob.size_bytes, blob.digest)
        return self._around.caches.begin_fill(self._plan.tenant_id, blob.id, expected, place)

    def _check(self, done: int, digest: hashlib._Hash | None, replica: Replica) -> None:
        if done > self._length or (digest is not None and done == self._length and not self._matches(digest)):
            raise IntegrityError("the bytes differ from the record", key=replica.key)

    async def _fail(self, error: ProviderError, blamed: list[Replica], *, is_out: bool) -> None:
        """Note what failed. Where several gave a part, any may be the one that is wrong: all are to be copied anew.

        `is_out`: the bytes have been handed out already; then the reader must see a failure, never a clean end.
        """
        for replica in blamed:
            await self._note(replica, error)
        if is_out and isinstance(error, IntegrityError):
            raise self._unreadable() from error

    async def _from(self, replica: Replica, done: int) -> AsyncGenerator[bytes, None]:
        provider = await self._around.provider(replica.store_id)
        with self._timed(replica) as timing:
            async with provider.open(
                replica.key, version_id=replica.version_id, start=self._start + done, length=self._length - done
            ) as reader:
                async for chunk in reader:
                    timing.answered()
                    yield chunk

    @contextmanager
    def _timed(self, replica: Replica) -> Iterator[Timing]:
        timing = Timing(self._around.latencies, replica.store_id)
        try:
            yield timing
        except ProviderError as error:
            if isinstance(error, STORE_FAULTS):
                timing.failed()
            raise

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


async def _close(opened: Opened) -> None:
    await opened.rest.aclose()


async def _let_go(_body: bytes) -> None:
    """A whole body keeps nothing open."""
