"""The copy engine: a batch of blobs to one store, between two short units of work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from uuid import UUID

import structlog

from simples3dms.db.session import Database, UnitOfWork
from simples3dms.errors import Failure
from simples3dms.kit.failpoints import fp
from simples3dms.kit.leases import LeaseLost
from simples3dms.providers.base import Expected, PutResult, StorageProvider
from simples3dms.providers.errors import (
    AccessDenied,
    BadCredential,
    BucketMissing,
    CapExceeded,
    IntegrityError,
    ObjectNotFound,
    ProviderError,
    StoreBroken,
    StoreFull,
    StoreResting,
    StoreTimedOut,
    StoreUnavailable,
    Throttled,
)
from simples3dms.providers.layers.ratelimit import share_as
from simples3dms.storage.blobs import repository as blobs_repository
from simples3dms.storage.blobs.proofs import READ_BACK, READ_BACK_EVIDENCE, Proof
from simples3dms.storage.blobs.service import Blobs, new_ticket
from simples3dms.storage.blobs.values import Blob, Replica, WriteTicket, Written
from simples3dms.storage.placement import repository as placement_repository
from simples3dms.storage.placement.values import Grant
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.throttle.service import Throttle
from simples3dms.storage.transfers import repository
from simples3dms.storage.transfers.inside import InsideCopies
from simples3dms.storage.transfers.parts import repository as parts
from simples3dms.storage.transfers.proving import WHOLE_BYTES, Copy, Demand, prove, read_back, sha1_of
from simples3dms.storage.transfers.resuming import ClaimLost, SourceFailed, copy_in_parts, goes_in_parts
from simples3dms.storage.transfers.values import Deficit, Outcome, Result, TransferRow

log = structlog.get_logger(__name__)

#: Up to this size as many as there may be are in memory at a time; of those above, a quarter as many.
_LITTLE_BYTES = 256 * 1024
#: Copies of bodies above `WHOLE_BYTES` that run at a time in one process: each holds a few parts in memory.
_LARGE_PARALLEL = 4
#: Errors that say something about the store and nothing about this object.
STORE_FAULTS = (
    AccessDenied,
    BadCredential,
    BucketMissing,
    CapExceeded,
    StoreBroken,
    StoreFull,
    StoreTimedOut,
    StoreUnavailable,
    Throttled,
)
#: Of them, those after which nothing was sent.
UNSENT_FAULTS = (StoreResting,)
STORE_FAULT_KINDS = frozenset(error.kind for error in (*STORE_FAULTS, StoreResting))
#: Those of them that time alone does not mend: a person has to act.
PARKING_KINDS = frozenset(
    error.kind for error in (AccessDenied, BadCredential, BucketMissing, CapExceeded, StoreBroken, StoreFull)
)


@dataclass(frozen=True, slots=True)
class _Task:
    """One blob of the batch with the claim to write it; no ticket where only the proof is missing."""

    deficit: Deficit
    ticket: WriteTicket | None


@dataclass(frozen=True, slots=True)
class _Way:
    """From where, to where, and the claim to write there."""

    provider: StorageProvider
    source: Replica
    target: StorageProvider
    ticket: WriteTicket

    @property
    def all(self) -> tuple[StorageProvider, Replica, StorageProvider, WriteTicket]:
        return self.provider, self.source, self.target, self.ticket


@dataclass(frozen=True, slots=True)
class _Batch:
    """What a batch is for, and what it has come to so far."""

    tenant_id: UUID
    grant: Grant
    demand: Demand
    done: list[Written] = field(default_factory=list)
    read_back: list[Replica] = field(default_factory=list)
    """Replicas that were there already, and have now been read in full and compared."""
    vouched: list[Replica] = field(default_factory=list)
    """Those of which the provider has reported the right checksum."""
    sent: set[UUID] = field(default_factory=set)
    """Claims under which the target got bytes, or may have: without, there is nothing to clean there."""

    @contextmanager
    def sending(self, ticket: WriteTicket) -> Iterator[None]:
        """Around one request that gives the target a whole object."""
        was_sent = ticket.replica_id in self.sent
        self.sent.add(ticket.replica_id)
        try:
            yield
        except UNSENT_FAULTS:
            if not was_sent:
                self.sent.discard(ticket.replica_id)
            raise


class CopyEngine:
    """Copies batches. Any number of engines in any number of processes may work on the same tenant."""

    def __init__(
        self, database: Database, blobs: Blobs, throttle: Throttle, *, stores: Stores, concurrency: int
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._stores = stores
        self._throttle = throttle
        self._inside = InsideCopies()
        self._little_slots = asyncio.Semaphore(concurrency)
        self._whole_slots = asyncio.Semaphore(max(1, concurrency // 4))
        self._large_slots = asyncio.Semaphore(min(concurrency, _LARGE_PARALLEL))

    def rest_seconds(self, store_id: UUID) -> float | None:
        """For how long the store is left alone by this process; 0: it is asked once. None: nothing is wrong with it."""
        return self._blobs.rest_seconds(store_id)

    async def copy(
        self,
        tenant_id: UUID,
        blob_ids: Sequence[UUID],
        grant: Grant,
        proof: Proof = READ_BACK,
        *,
        debts: Sequence[TransferRow] = (),
    ) -> list[Result]:
        """Bring these blobs to the granted store, each proven as `proof` asks. One result for each that needs work.

        Of `debts` only what is still owed: a turn of the placement strikes what it wants no more.
        Safe to repeat and to run twice at once: one `writing` row a blob and store, a key written once, and a
        confirmation that counts only while the claim stands.
        """
        share_as(str(tenant_id))
        tasks, results = await self._claim(tenant_id, blob_ids, grant, proof, debts)
        if not tasks:
            return results
        await fp("copy.claimed")
        demand = Demand(proof, frozenset() if proof == READ_BACK else await self._stores.list_vouched(grant.store_id))
        tickets = [task.ticket for task in tasks if task.ticket]
        batch = _Batch(tenant_id, grant, demand)
        try:
            async with self._blobs.keep_alive(tenant_id, tickets) if tickets else nullcontext():
                outcomes = await self._all(batch, tasks)
        except BaseException:
            await asyncio.shield(self._settle(batch, tasks))
            raise
        live = await self._settle(batch, tasks)
        await fp("copy.committed")
        results.extend(_final(task, outcome, live) for task, outcome in zip(tasks, outcomes, strict=True))
        return results

    async def _claim(
        self, tenant_id: UUID, blob_ids: Sequence[UUID], grant: Grant, proof: Proof, debts: Sequence[TransferRow]
    ) -> tuple[list[_Task], list[Result]]:
        async with self._database.tenant(tenant_id) as uow:
            # Shared, so that no copy is begun towards a store after the placement has turned away from it.
            placement = await placement_repository.share(uow)
            if placement is None or grant.store_id not in placement.policy.wanted_store_ids:
                return [], []
            blob_ids = await repository.list_owed(uow, debts) if debts else blob_ids
            deficits = await repository.list_deficits(uow, blob_ids, target_store_id=grant.store_id, proof=proof)
            tickets, mine = await self._take_tickets(uow, [d.blob.id for d in deficits if d.at_target is None], grant)
        tasks: list[_Task] = []
        results: list[Result] = []
        for deficit in deficits:
            ticket = tickets.get(deficit.blob.id)
            if ticket is not None and ticket.replica_id not in mine:
                results.append(Result(deficit.blob.id, deficit.blob.size_bytes, Outcome.BUSY))
            else:
                tasks.append(_Task(deficit, ticket))
        return tasks, results

    async def _take_tickets(
        self, uow: UnitOfWork, blob_ids: list[UUID], grant: Grant
    ) -> tuple[dict[UUID, WriteTicket], set[UUID]]:
        """A ticket for each blob, and the replica ids of those that nobody else holds."""
        if not blob_ids:
            return {}, set()
        lease_seconds = self._blobs.lease_seconds
        tickets = await repository.take_over(uow, blob_ids, store_id=grant.store_id, lease_seconds=lease_seconds)
        mine = {ticket.replica_id for ticket in tickets.values()}
        fresh = {blob_id: new_ticket(grant) for blob_id in blob_ids if blob_id not in tickets}
        if fresh:
            mine |= await blobs_repository.insert_writing(
                uow, [(ticket, blob_id) for blob_id, ticket in fresh.items()], lease_seconds=lease_seconds
            )
        return {**fresh, **tickets}, mine

    async def _all(self, batch: _Batch, tasks: list[_Task]) -> list[Result]:
        """Run the batch at once, bounded by the engine's slots; an unforeseen error cancels and awaits the rest."""
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(self._one(batch, task)) for task in tasks]
        return [task.result() for task in running]

    async def _one(self, batch: _Batch, task: _Task) -> Result:
        blob = task.deficit.blob
        async with self._slots(blob.size_bytes):
            try:
                if task.ticket is None:
                    assert task.deficit.at_target is not None
                    async with self._throttle.turn():
                        await self._prove_existing(batch, blob, task.deficit.at_target)
                    return Result(blob.id, blob.size_bytes, Outcome.PROVEN)
                target = await self._blobs.provider(batch.grant.store_id)
                written, source = await self._from_any(batch, task.deficit, target, task.ticket)
                batch.done.append(written)
                if source is not None:
                    batch.read_back.append(source)
                return Result(blob.id, blob.size_bytes, Outcome.COPIED)
            except SourceFailed as failed:
                return replace(_failure(blob, failed.error), at_source=True)
            except ProviderError as error:
                return _failure(blob, error)
            except (ClaimLost, LeaseLost):
                return Result(blob.id, blob.size_bytes, Outcome.BUSY)
            except Failure as error:
                return Result(
                    blob.id, blob.size_bytes, Outcome.FAILED, error.problem_code, error.message, error.retryable
                )

    def _slots(self, size_bytes: int) -> asyncio.Semaphore:
        if size_bytes <= _LITTLE_BYTES:
            return self._little_slots
        return self._whole_slots if size_bytes <= WHOLE_BYTES else self._large_slots

    async def _from_any(
        self, batch: _Batch, deficit: Deficit, target: StorageProvider, ticket: WriteTicket
    ) -> tuple[Written, Replica | None]:
        """Copy from the first source that can be read and is right; each other one is reported.

        Raises SourceFailed where there is none.
        """
        last: ProviderError = ObjectNotFound("no store holds a replica of it that could be read")
        in_parts = deficit.blob.size_bytes > WHOLE_BYTES and goes_in_parts(target, deficit.blob)
        for source in deficit.sources:
            way = _Way(await self._blobs.provider(source.store_id), source, target, ticket)
            for is_last_try in (False, True):
                try:
                    written, was_read = await self._put_and_prove(batch, deficit.blob, way)
                    return written, source if was_read and source.state == "live" else None
                except SourceFailed as failed:
                    last = failed.error
                    if in_parts:
                        # Whoever took the copy over may be at this key: it is left to the sweep. Wrong bytes were
                        # read twice.
                        break
                    if ticket.replica_id in batch.sent:
                        await target.discard(ticket.key)
                    # Bytes that came out wrong once may have been hurt on the way: only a second time counts.
                    if is_last_try or not isinstance(last, IntegrityError):
                        break
            if isinstance(last, IntegrityError | ObjectNotFound) and source.state == "live":
                await self._blobs.report_bad(batch.tenant_id, source, last)
            if in_parts and isinstance(last, IntegrityError):
                break
        raise SourceFailed(last)

    async def _put_and_prove(self, batch: _Batch, blob: Blob, way: _Way) -> tuple[Written, bool]:
        """What was written, and whether all of the source was read and compared on the way."""
        expected = Expected(blob.size_bytes, blob.digest)
        in_parts = blob.size_bytes > WHOLE_BYTES and goes_in_parts(way.target, blob)
        turn = self._throttle.turn
        copy: Copy | None = None
        try:
            # Each part takes a turn of its own.
            async with nullcontext() if in_parts else turn():
                copy = await self._have_copied(batch, blob, way, in_parts=in_parts)
                if copy is None:
                    copy = await self._send(batch, blob, way, in_parts=in_parts)
                await fp("copy.after_put")
                async with turn() if in_parts else nullcontext():
                    evidence = await prove(way.target, copy, blob, batch.demand)
        except (IntegrityError, SourceFailed) as error:
            if isinstance(error, IntegrityError) and copy is not None and copy.inside:
                # The next attempt, at another key, is streamed: then it shows whether the source was wrong.
                self._inside.doubt(way.source, way.ticket, error)
            elif in_parts:
                await self._spoil(batch.tenant_id, way.ticket, error)
                if isinstance(error, IntegrityError):
                    # Only the parts were hashed on their way: was it the source that had other bytes?
                    await _require_good(way, expected)
            raise
        await fp("copy.proven")
        return Written(way.ticket, copy.version_id, blob.digest, blob.size_bytes, evidence), not copy.inside

    async def _have_copied(self, batch: _Batch, blob: Blob, way: _Way, *, in_parts: bool) -> Copy | None:
        """By the service itself, if it can and will."""
        if not self._inside.suits(*way.all) or not self._stores.share_owner(way.source.store_id, way.ticket.store_id):
            return None
        async with self._throttle.turn() if in_parts else nullcontext():
            with batch.sending(way.ticket):
                return await self._inside.copy(blob, *way.all)

    async def _send(self, batch: _Batch, blob: Blob, way: _Way, *, in_parts: bool) -> Copy:
        """Write the object, from what is read at the source."""
        expected, sha1 = Expected(blob.size_bytes, blob.digest), None
        if in_parts:
            batch.sent.add(way.ticket.replica_id)
            put = await copy_in_parts(self._database, self._throttle.turn, batch.tenant_id, blob, *way.all)
        elif blob.size_bytes <= WHOLE_BYTES:
            body = await _read_whole(way, expected)
            await fp("copy.source_open")
            await fp("copy.mid_stream")
            if batch.demand.takes_word(blob):
                sha1 = sha1_of(body)
            with batch.sending(way.ticket):
                put = await way.target.put(way.ticket.key, body, expected=expected)
        else:
            batch.sent.add(way.ticket.replica_id)
            put = await _stream(way, expected)
        return Copy(way.ticket.key, put.version_id, sha1)

    async def _spoil(self, tenant_id: UUID, ticket: WriteTicket, error: IntegrityError | SourceFailed) -> None:
        """Where bytes were wrong, nobody goes on with what was sent: the next attempt begins anew, at another key."""
        if isinstance(error, IntegrityError) or isinstance(error.error, IntegrityError):
            async with self._database.tenant(tenant_id) as uow:
                await parts.forget_part_uploads(uow, [ticket.replica_id])

    async def _prove_existing(self, batch: _Batch, blob: Blob, replica: Replica) -> None:
        provider = await self._blobs.provider(replica.store_id)
        try:
            evidence = await prove(provider, Copy(replica.key, replica.version_id), blob, batch.demand)
        except (IntegrityError, ObjectNotFound) as error:
            await self._blobs.report_bad(batch.tenant_id, replica, error)
            raise
        (batch.read_back if evidence == READ_BACK_EVIDENCE else batch.vouched).append(replica)

    async def _settle(self, batch: _Batch, tasks: list[_Task]) -> set[UUID]:
        """Confirm what was proven and give the rest up, in one unit of work; the replica ids that are live."""
        done = batch.done
        finished = {written.ticket.replica_id for written in done}
        lost = [task.ticket for task in tasks if task.ticket and task.ticket.replica_id not in finished]
        async with self._database.tenant(batch.tenant_id) as uow:
            await self._blobs.locks.share_documents(uow, [written.ticket.replica_id for written in done])
            live = await blobs_repository.confirm_copies(uow, done) if done else set()
            await self._blobs.locks.want_for_replicas(uow, list(live))
            if batch.read_back:
                await blobs_repository.record_read_back(uow, [replica.id for replica in batch.read_back])
            if batch.vouched:
                await blobs_repository.record_vouched(uow, [replica.id for replica in batch.vouched])
            await parts.forget_part_uploads(uow, list(live))
            left = await repository.release_writes(uow, lost) if lost else set()
            lost = [ticket for ticket in lost if ticket.replica_id not in left]
            # Of one that was taken over, whoever had it before may have sent something.
            unsent = [one for one in lost if one.replica_id not in batch.sent and one.fence == 1]
            if unsent:
                await blobs_repository.forget_unsent(uow, unsent)
                lost = [ticket for ticket in lost if ticket not in unsent]
            if lost:
                await blobs_repository.abandon(uow, lost, grace_seconds=self._blobs.lease_seconds)
            if lost or len(live) < len(done):
                await self._blobs.defer_sweep(uow)
            unconfirmed = [written.ticket for written in done if written.ticket.replica_id not in live]
            others = await repository.list_in_use(uow, unconfirmed) if unconfirmed else set()
            await fp("copy.in_confirm_txn")
        # What was written under a claim that no longer stood may have no row any more: nobody else would look for it.
        for ticket in unconfirmed:
            if ticket.replica_id not in others:
                await self._blobs.discard_quietly(ticket)
        return live


async def _stream(way: _Way, expected: Expected) -> PutResult:
    failed: list[ProviderError] = []

    async def chunks() -> AsyncIterator[bytes]:
        # A failure in here is the source's, whatever the target makes of it on its way up.
        try:
            async with way.provider.open(way.source.key, version_id=way.source.version_id, expected=expected) as reader:
                await fp("copy.source_open")
                hit = False
                async for chunk in reader:
                    yield chunk
                    if not hit:
                        hit = True
                        await fp("copy.mid_stream")
        except ProviderError as error:
            failed.append(error)
            raise

    try:
        return await way.target.put(way.ticket.key, chunks(), expected=expected)
    except ProviderError:
        if failed:
            raise SourceFailed(failed[0]) from failed[0]
        raise


async def _read_whole(way: _Way, expected: Expected) -> bytes:
    try:
        return await way.provider.get(way.source.key, version_id=way.source.version_id, expected=expected)
    except ProviderError as error:
        raise SourceFailed(error) from error


async def _require_good(way: _Way, expected: Expected) -> None:
    try:
        await read_back(way.provider, way.source.key, way.source.version_id, expected)
    except ProviderError as error:
        raise SourceFailed(error) from error


def _failure(blob: Blob, error: ProviderError) -> Result:
    return Result(
        blob.id,
        blob.size_bytes,
        Outcome.FAILED,
        error.kind,
        error.message,
        # A write that came out wrong is worth another attempt under another key; a source that is gone is not.
        retryable=error.retryable or isinstance(error, IntegrityError),
        store_fault=isinstance(error, STORE_FAULTS),
    )


def _final(task: _Task, result: Result, live: set[UUID]) -> Result:
    """A copy counts only if its row was still ours when it was confirmed; else it is looked at once more, later."""
    if result.outcome is Outcome.COPIED and task.ticket and task.ticket.replica_id not in live:
        return Result(result.blob_id, result.size_bytes, Outcome.BUSY)
    return result
