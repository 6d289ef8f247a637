"""The migration engine: what workers do for a migration, one fenced step at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

import structlog

from simples3dms.audit.service import record
from simples3dms.context import WORKER
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.errors import Failure
from simples3dms.jobqueue.app import JobQueue
from simples3dms.kit.failpoints import fp
from simples3dms.kit.ids import new_id
from simples3dms.kit.streams import heartbeat
from simples3dms.storage.blobs import repository as blobs_repository
from simples3dms.storage.blobs.service import Blobs
from simples3dms.storage.migrations import repository
from simples3dms.storage.migrations.chunks import repository as chunks
from simples3dms.storage.migrations.leaving import repository as leaving
from simples3dms.storage.migrations.values import Chunk, MigrationRow, Phase, State
from simples3dms.storage.migrations.windows import rests
from simples3dms.storage.placement import repository as placement_repository
from simples3dms.storage.placement.selections import Selection
from simples3dms.storage.placement.turns import waits_for_age
from simples3dms.storage.placement.values import Grant
from simples3dms.storage.transfers import repository as transfers_repository
from simples3dms.storage.transfers.engine import PARKING_KINDS, CopyEngine
from simples3dms.storage.transfers.service import Transfers
from simples3dms.storage.transfers.values import Outcome, Result

log = structlog.get_logger(__name__)

_PROOF_PAGE = 5000
_CHUNKS_AHEAD = 64
#: Stretches of the catalogue that one unit of work looks through at most.
_STRETCHES = 100
#: A small migration is cut into about so many chunks, none of which is smaller than that: for every worker some.
_CHUNKS_WISHED = 32
_LEAST_CHUNK_BLOBS = 50
_BATCH_BLOBS = 250
#: Large blobs go several to a batch, or a batch would copy them one after the other.
_BATCH_BYTES = 1024 * 1024 * 1024
#: Small enough that several workers find something to do, and that a lost claim is soon made up for.
_CHUNK_BYTES = 512 * 1024 * 1024
#: Attempts at a chunk, in a row, that a store's fault may spoil before the migration waits for a person.
_CHUNK_ATTEMPTS = 8
#: Unproven blobs that one pass of the proof collects before it has their chunks run again.
_UNPROVEN_LIMIT = 1000


class MigrationEngine:
    """Plans chunks, runs them, proves the result, and ends the migration when the records say so."""

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        blobs: Blobs,
        transfers: Transfers,
        copies: CopyEngine,
        *,
        chunk_blobs: int,
    ) -> None:
        self._database = database
        self._queue = queue
        self._blobs = blobs
        self._transfers = transfers
        self._copies = copies
        self._chunk_blobs = chunk_blobs
        self._lease_seconds = blobs.lease_seconds

    async def defer_advance(self, uow: UnitOfWork, migration_id: UUID, *, delay_seconds: int = 0) -> None:
        assert uow.tenant_id is not None
        await self._queue.defer(
            uow,
            "migration.advance",
            once=f"advance:{migration_id}",
            tenant_id=uow.tenant_id,
            migration_id=migration_id,
            delay_seconds=delay_seconds,
        )

    async def advance(self, tenant_id: UUID, migration_id: UUID) -> State | None:
        """Take the migration as far as it can go now; the state it reached, or None if it is not ours to move."""
        async with self._database.tenant(tenant_id) as uow:
            row = await repository.claim(uow, migration_id, lease_seconds=self._lease_seconds)
        if row is None:
            return None

        async def beat() -> bool:
            async with self._database.tenant(tenant_id) as uow:
                await repository.extend(uow, row, lease_seconds=self._lease_seconds)
            return True

        try:
            async with heartbeat(beat, lease_seconds=self._lease_seconds):
                if rests(row):
                    return State(row.state)
                if row.state == State.COPYING:
                    return await self._advance_copying(row)
                return await self._advance_evacuating(row)
        finally:
            async with self._database.tenant(tenant_id) as uow:
                await repository.release(uow, row)

    async def _advance_copying(self, row: MigrationRow) -> State:
        """Ready means: everything from before the start is proven, and what came later is owed, not failed."""
        if await self._plan(row, "copy", upto_seq=row.barrier_seq):
            return State.COPYING
        unproven = await self.prove(row, upto_seq=row.barrier_seq)
        async with self._database.tenant(row.tenant_id) as uow:
            if unproven:
                # What is on the list of transfers calls again when it ends; the rest has its chunk run again.
                owed = await repository.owed_among(uow, unproven, target_store_id=row.target_store_id)
                await self._reopen(uow, row, "copy", [seq for seq in unproven if seq not in owed])
                return State.COPYING
            backlog = await transfers_repository.count_backlog(uow, target_store_id=row.target_store_id)
            current = await repository.lock(uow, row.id)
            if backlog.failed or current is None or current.fence != row.fence or current.state != State.COPYING:
                return State.COPYING
            await repository.set_state(uow, current, State.READY)
            await record(
                uow,
                WORKER,
                "migration.ready",
                target_type="migration",
                target_id=str(row.id),
                tenant_id=row.tenant_id,
            )
        return State.READY

    async def _advance_evacuating(self, row: MigrationRow) -> State:
        state = State(row.state)
        if await self._plan(row, "evacuate", upto_seq=row.barrier_seq):
            return state
        remnants = await self._remnants(row)
        async with self._database.tenant(row.tenant_id) as uow:
            # One that could not be copied is on the list of transfers, whose attempts are bounded: it calls again.
            owed = await repository.owed_among(uow, remnants, target_store_id=row.staying_store_id)
            await self._reopen(uow, row, "evacuate", [seq for seq in remnants if seq not in owed])
        if remnants:
            # Uploads that began before the turn have ended since, past the last chunk: one more for them.
            await self._plan(row, "evacuate", upto_seq=max(remnants))
            return state
        async with self._database.tenant(row.tenant_id) as uow:
            if await _has_more(uow, row):
                await self._blobs.defer_sweep(uow)
                await self.defer_advance(uow, row.id, delay_seconds=1)
                return state
            current = await repository.lock(uow, row.id)
            if current is None or current.fence != row.fence or current.state != row.state:
                return state
            ended = State.DONE if row.state == State.FINALIZING else State.ROLLED_BACK
            await repository.set_state(uow, current, ended)
            placement = await placement_repository.find(uow)
            if placement is not None and waits_for_age(placement.policy):
                # What came of age meanwhile, or comes to be, follows the rule: surveys rest while something migrates.
                await placement_repository.want_survey(uow)
            locked = await leaving.count_locked(uow, row)
            await record(
                uow,
                WORKER,
                f"migration.{ended}",
                target_type="migration",
                target_id=str(row.id),
                tenant_id=row.tenant_id,
                details={"left_locked": locked} if locked else {},
            )
            await fp("evacuate.in_end_txn")
        await fp("evacuate.ended")
        return ended

    async def _remnants(self, row: MigrationRow) -> list[int]:
        """What is still to leave. Of a part page by page, and only once nothing is being written or removed any more:
        what stays in the store is looked at as well."""
        async with self._database.tenant(row.tenant_id) as uow:
            if row.leaving.is_all:
                return await leaving.find_remnants(uow, row, limit=_UNPROVEN_LIMIT)
            if await leaving.is_busy(uow, row):
                return []
        found: list[int] = []
        after: int | None = 0
        while after is not None and len(found) < _UNPROVEN_LIMIT:
            async with self._database.tenant(row.tenant_id) as uow:
                page = await leaving.remnant_page(uow, row, after_seq=after, limit=_PROOF_PAGE)
            found.extend(page.seqs)
            after = page.last_seq
        return found

    async def park(self, tenant_id: UUID, migration_id: UUID, failure: Failure) -> None:
        """Leave a migration that is ready to a person, who resumes it: asking again would change nothing."""
        async with self._database.tenant(tenant_id) as uow:
            row = await repository.lock(uow, migration_id)
            if row is not None and row.state == State.READY:
                await self.fail(uow, row, code=failure.problem_code, message=failure.message)

    async def barrier(self, tenant_id: UUID) -> int:
        """A sequence below which nothing is still to be committed: uploads that share the placement are waited out."""
        async with self._database.tenant(tenant_id) as uow:
            await placement_repository.lock(uow)
            return await repository.last_seq(uow)

    async def _plan(self, row: MigrationRow, phase: Phase, *, upto_seq: int) -> bool:
        """Cut the catalogue into chunks, some ahead, and queue those that are free; False if all are done."""
        async with self._database.tenant(row.tenant_id) as uow:
            limit = min(self._chunk_blobs, max(_LEAST_CHUNK_BLOBS, row.total_count // _CHUNKS_WISHED))
            pending = await chunks.count_pending(uow, row.id, phase, limit=_CHUNKS_AHEAD)
            after, selection = row.planned_seq, _selection(row, phase)
            for _ in range(_STRETCHES):
                if pending >= _CHUNKS_AHEAD:
                    break
                stretch = await chunks.next_range(
                    uow, selection, after_seq=after, upto_seq=upto_seq, limit=limit, limit_bytes=_CHUNK_BYTES
                )
                if stretch.high_seq is None or not await chunks.insert(
                    uow, row, phase, after_seq=after, stretch=stretch
                ):
                    break
                after = stretch.high_seq
                pending += stretch.blob_count > 0
            else:
                # Little of the part lies here: on from there, in a unit of work of its own.
                await self.defer_advance(uow, row.id, delay_seconds=1)
                pending = max(pending, 1)
            for chunk in await chunks.list_free(uow, row.id, phase, limit=_CHUNKS_AHEAD):
                await self._defer_chunk(uow, row.id, phase, chunk.low_seq)
        return pending > 0

    async def _defer_chunk(
        self, uow: UnitOfWork, migration_id: UUID, phase: Phase, low_seq: int, *, delay_seconds: float = 0
    ) -> None:
        assert uow.tenant_id is not None
        await self._queue.defer(
            uow,
            "chunk.run",
            once=f"chunk:{migration_id}:{phase}:{low_seq}",
            tenant_id=uow.tenant_id,
            migration_id=migration_id,
            phase=phase,
            low_seq=low_seq,
            delay_seconds=int(delay_seconds + 0.999),
        )

    async def prove(self, row: MigrationRow, *, upto_seq: int) -> list[int]:
        """Prove from the records that every living blob that is to be moved has a replica at the target, read back.

        `upto_seq` is a barrier: nothing below it is still to be committed. Goes page by page, outside any lock. What
        an earlier proof covered holds as long as no replica at the target has been lost since. Returns the blobs
        (by sequence, up to a limit) that are not proven; with none, the proof is recorded.
        """
        async with self._database.tenant(row.tenant_id) as uow:
            losses = await placement_repository.get_loss_count(uow, row.target_store_id)
        holds = row.proven_seq is not None and row.proof_loss_count == losses
        after: int | None = row.proven_seq if holds else 0
        unproven: list[int] = []
        while after is not None and len(unproven) < _UNPROVEN_LIMIT:
            async with self._database.tenant(row.tenant_id) as uow:
                page = await repository.prove_page(uow, row, after_seq=after, upto_seq=upto_seq, limit=_PROOF_PAGE)
            unproven.extend(page.unproven)
            after = page.last_seq
        if unproven:
            return unproven
        async with self._database.tenant(row.tenant_id) as uow:
            proven_seq = max(upto_seq, row.proven_seq or 0) if holds else upto_seq
            if await repository.record_proof(uow, row, proven_seq=proven_seq, loss_count=losses):
                return []
            changed = await repository.find(uow, row.id)
        # A waiver that this proof may have counted was taken back meanwhile: once more, without it.
        return await self.prove(changed, upto_seq=upto_seq) if changed is not None else []

    async def _reopen(self, uow: UnitOfWork, row: MigrationRow, phase: Phase, seqs: Sequence[int]) -> None:
        if seqs and await chunks.reopen(uow, row.id, phase, seqs):
            await self.defer_advance(uow, row.id, delay_seconds=1)

    async def run_chunk(self, tenant_id: UUID, migration_id: UUID, phase: Phase, low_seq: int) -> None:
        """Do one chunk's work. Nothing happens if another worker holds it, or the migration is paused or past it."""
        async with self._database.tenant(tenant_id) as uow:
            row = await repository.find(uow, migration_id)
            if row is None or rests(row):
                return
            chunk = await chunks.claim(uow, migration_id, phase, low_seq, lease_seconds=self._lease_seconds)
            if chunk is None:
                return
            grants = {grant.store_id: grant for grant in await placement_repository.list_grants(uow)}
            blobs = await chunks.list_blob_sizes(uow, chunk, _selection(row, phase))

        async def beat() -> bool:
            async with self._database.tenant(tenant_id) as uow:
                await chunks.extend(uow, migration_id, chunk, lease_seconds=self._lease_seconds)
            return True

        try:
            async with heartbeat(beat, lease_seconds=self._lease_seconds):
                for batch in _batches(blobs):
                    if not await self._run_batch(row, chunk, grants, batch):
                        return
        except BaseException as error:
            # Told to stop, it lets go of the chunk at once, so that another need not wait for the lease.
            is_stopping = isinstance(error, asyncio.CancelledError)
            delay = 0 if is_stopping else self._transfers.delay(chunk.attempt)
            await asyncio.shield(self._put_back(row, chunk, delay_seconds=delay))
            raise
        async with self._database.tenant(tenant_id) as uow:
            if await chunks.close(uow, migration_id, chunk):
                await self.defer_advance(uow, migration_id)

    async def _put_back(self, row: MigrationRow, chunk: Chunk, *, delay_seconds: float) -> None:
        async with self._database.tenant(row.tenant_id) as uow:
            if await chunks.postpone(uow, row.id, chunk, delay_seconds=delay_seconds):
                await self._defer_chunk(uow, row.id, chunk.phase, chunk.low_seq, delay_seconds=delay_seconds)

    async def _run_batch(
        self, row: MigrationRow, chunk: Chunk, grants: dict[UUID, Grant], blob_ids: list[UUID]
    ) -> bool:
        """Bring one batch where it belongs; False if the chunk must stop here."""
        async with self._database.tenant(row.tenant_id) as uow:
            current = await repository.find(uow, row.id)
            mine = await chunks.extend(uow, row.id, chunk, lease_seconds=self._lease_seconds)
            if not mine or current is None or current.state != row.state or rests(current):
                if mine:
                    await chunks.rest(uow, row.id, chunk)
                return False
            owed = blob_ids
            if chunk.phase == "evacuate":
                here = await leaving.list_to_evacuate(
                    uow,
                    blob_ids,
                    leaving_store_id=row.leaving_store_id,
                    staying_store_id=row.staying_store_id,
                    proof=row.grade,
                )
                owed = [blob_id for blob_id, alone in here if alone]
        grant = grants.get(row.target_store_id if chunk.phase == "copy" else row.staying_store_id)
        if owed and grant is not None:
            results = await self._copies.copy(row.tenant_id, owed, grant, row.grade)
            if not await self._record(row, chunk, grant, results):
                return False
        if chunk.phase == "evacuate":
            await fp("evacuate.copied")
            async with self._database.tenant(row.tenant_id) as uow:
                await blobs_repository.retire_at(uow, blob_ids, store_id=row.leaving_store_id, proof=row.grade)
                await leaving.note_origins(
                    uow, blob_ids, leaving_store_id=row.leaving_store_id, staying_store_id=row.staying_store_id
                )
                await self._blobs.defer_sweep(uow)
                await fp("evacuate.in_retire_txn")
            await fp("evacuate.retired")
        return True

    async def _record(self, row: MigrationRow, chunk: Chunk, grant: Grant, results: list[Result]) -> bool:
        """Count what was copied, list what failed; False if the store itself is at fault and the chunk must wait."""
        good = [result for result in results if result.outcome in (Outcome.COPIED, Outcome.PROVEN)]
        fault = next((result for result in results if result.store_fault), None)
        failed = [r for r in results if r.outcome is Outcome.FAILED and not r.store_fault]
        async with self._database.tenant(row.tenant_id) as uow:
            if good:
                ids = [result.blob_id for result in good]
                await transfers_repository.settle_blobs(uow, ids, target_store_id=grant.store_id)
                if chunk.phase == "copy":
                    size = sum(result.size_bytes for result in good)
                    await repository.add_progress(uow, row.id, copied_count=len(good), copied_bytes=size)
                    await chunks.note_copied(uow, row.id, chunk, count=len(good), size_bytes=size)
            if failed:
                await self._list_failed(uow, row, grant, failed)
            if fault is not None:
                await self._wait_for_store(uow, row, chunk, fault)
        return fault is None

    async def _list_failed(self, uow: UnitOfWork, row: MigrationRow, grant: Grant, failed: list[Result]) -> None:
        items = [(new_id(), r.blob_id, r.error_kind or "error", r.error_message or "", not r.retryable) for r in failed]
        delay = self._transfers.delay(1)
        await transfers_repository.record_failures(
            uow, items, target_store_id=grant.store_id, migration_id=row.id, delay_seconds=delay
        )
        for transfer_id, _, _, _, final in items:
            if not final:
                await self._transfers.defer_run(uow, transfer_id, delay_seconds=delay)

    async def _wait_for_store(self, uow: UnitOfWork, row: MigrationRow, chunk: Chunk, fault: Result) -> None:
        """Try the chunk again later; where time alone won't help, stop the migration and say why."""
        delay = self._transfers.delay(chunk.attempt)
        if not await chunks.postpone(uow, row.id, chunk, delay_seconds=delay):
            return
        if fault.error_kind not in PARKING_KINDS and chunk.attempt < _CHUNK_ATTEMPTS:
            await self._defer_chunk(uow, row.id, chunk.phase, chunk.low_seq, delay_seconds=delay)
            return
        current = await repository.lock(uow, row.id)
        if current is None or current.state != row.state:
            return
        code, message = fault.error_kind or "store_unavailable", fault.error_message or "the store does not work"
        await self.fail(uow, current, code=code, message=message)

    async def fail(self, uow: UnitOfWork, row: MigrationRow, *, code: str, message: str) -> None:
        """Stop it until a person resumes it. The caller holds the row's lock."""
        await repository.fail(uow, row, code=code, message=message)
        await record(
            uow,
            WORKER,
            "migration.failed",
            target_type="migration",
            target_id=str(row.id),
            tenant_id=row.tenant_id,
            outcome="failed",
            details={"code": code},
        )
        log.warning("migration.failed", migration=str(row.id), code=code)


def _selection(row: MigrationRow, phase: Phase) -> Selection:
    return row.copying if phase == "copy" else row.leaving


async def _has_more(uow: UnitOfWork, row: MigrationRow) -> bool:
    """Whether the store that is left is not rid yet of what has left it in the records."""
    if row.leaving.is_all:
        return await leaving.has_replicas(uow, row)
    return await leaving.is_busy(uow, row)


def _batches(blobs: Sequence[tuple[UUID, int]]) -> list[list[UUID]]:
    """Batches bounded by count and by size, so that neither a claim nor a crash covers much."""
    batches: list[list[UUID]] = []
    size = 0
    for blob_id, size_bytes in blobs:
        if not batches or len(batches[-1]) >= _BATCH_BLOBS or size + size_bytes > _BATCH_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(blob_id)
        size += size_bytes
    return batches
