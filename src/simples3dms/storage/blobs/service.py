"""Blobs: write one, read one from whichever replica is good, remove what the records say should go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import structlog

from simples3dms.db.session import Database, UnitOfWork
from simples3dms.errors import Unavailable
from simples3dms.jobqueue.app import JobQueue
from simples3dms.kit.failpoints import fp
from simples3dms.kit.ids import new_id
from simples3dms.kit.streams import heartbeat
from simples3dms.providers.base import Body, Expected, ObjectRef, StorageProvider
from simples3dms.providers.errors import IntegrityError, ObjectNotFound, ProviderError
from simples3dms.storage.blobs import repository
from simples3dms.storage.blobs.engine import Reading, ReadPlan, Surroundings
from simples3dms.storage.blobs.values import Blob, Doomed, Replica, WriteTicket, Written
from simples3dms.storage.placement import repository as placement_repository
from simples3dms.storage.placement.router import order_for_reading
from simples3dms.storage.placement.values import Grant
from simples3dms.storage.stores.errors import explain
from simples3dms.storage.stores.service import Stores

log = structlog.get_logger(__name__)

_SWEEP_BATCH = 200
_SWEEP_PARALLEL = 16


def new_ticket(grant: Grant) -> WriteTicket:
    """A key that was never used and never will be again: the replica's own id under the tenant's prefix."""
    replica_id = new_id()
    # Two random characters fan the objects out over directories (the front of a UUIDv7 is time).
    return WriteTicket(replica_id, grant.store_id, f"{grant.prefix}{replica_id.hex[-2:]}/{replica_id}", fence=1)


class Blobs:
    """Bytes of all tenants, wherever they are."""

    def __init__(
        self, database: Database, stores: Stores, queue: JobQueue, *, lease_seconds: float, retry_base_seconds: float
    ) -> None:
        self._database = database
        self._stores = stores
        self._queue = queue
        self.lease_seconds = lease_seconds
        self._retry_base_seconds = retry_base_seconds

    async def begin_write(self, uow: UnitOfWork, grant: Grant) -> WriteTicket:
        """Record the intent to write a new blob's first replica, before any byte of it."""
        ticket = new_ticket(grant)
        await repository.insert_writing(uow, [(ticket, None)], lease_seconds=self.lease_seconds)
        return ticket

    async def write(
        self,
        tenant_id: UUID,
        ticket: WriteTicket,
        body: Body,
        *,
        size_bytes: int | None,
        sha256: bytes | None,
        content_type: str,
    ) -> Written:
        """Stream the body to the ticket's key, hashing, while its lease is kept alive.

        `size_bytes` and `sha256` are held against what arrives where they are known. Raises Failure, as the store's
        owner would want it explained; whatever the body itself raises comes out as it was.
        """
        try:
            provider = await self._stores.provider(ticket.store_id)
            async with self.keep_alive(tenant_id, [ticket.replica_id]):
                result = await provider.put(
                    ticket.key, body, expected=Expected(size_bytes, sha256), content_type=content_type
                )
            if result.sha256 is None:
                raise IntegrityError("the store's layers did not digest the body", key=ticket.key)
        except ProviderError as error:
            raise explain(error) from error
        return Written(ticket, result.version_id, result.sha256, result.size_bytes)

    @asynccontextmanager
    async def keep_alive(self, tenant_id: UUID, replica_ids: Sequence[UUID]) -> AsyncIterator[None]:
        """Extend the writes' leases while the block runs; a block whose leases are all lost is cancelled."""

        async def beat() -> None:
            async with self._database.tenant(tenant_id) as uow:
                kept = await repository.extend_leases(uow, replica_ids, lease_seconds=self.lease_seconds)
            if not kept:
                raise Unavailable("The write was taken for dead and given up; send it again.", code="lease_lost")

        async with heartbeat(beat, every_seconds=self.lease_seconds / 3):
            yield

    async def record_blob(self, uow: UnitOfWork, written: Written) -> UUID:
        """Make the written bytes a blob with one live replica. The caller shares the placement row."""
        blob_id = new_id()
        await repository.insert_blob(uow, blob_id, digest=written.digest, size_bytes=written.size_bytes)
        if not await repository.make_live(uow, written, blob_id):
            raise Unavailable("The upload took too long and was given up; send it again.", code="lease_lost")
        return blob_id

    async def give_up(self, tenant_id: UUID, ticket: WriteTicket) -> None:
        """Give a write up, and have what it may have left at the store removed."""
        async with self._database.tenant(tenant_id) as uow:
            await repository.abandon(uow, [ticket.replica_id])
            await self.defer_sweep(uow)

    async def defer_sweep(self, uow: UnitOfWork) -> None:
        """Have the tenant's retiring replicas removed soon after this unit of work commits."""
        assert uow.tenant_id is not None
        await self._queue.defer(uow, "replica.sweep", once=f"sweep:{uow.tenant_id}", tenant_id=uow.tenant_id)

    async def plan_read(self, uow: UnitOfWork, blob: Blob) -> ReadPlan:
        """The live replicas of a blob in the order that the tenant's placement asks for."""
        assert uow.tenant_id is not None
        placement = await placement_repository.find(uow)
        live = [r for r in await repository.list_replicas(uow, [blob.id]) if r.state == "live"]
        return ReadPlan(uow.tenant_id, blob, order_for_reading(placement.policy if placement else None, live))

    @asynccontextmanager
    async def open(self, plan: ReadPlan, *, start: int = 0, length: int | None = None) -> AsyncIterator[Reading]:
        """Read a blob or a range of it. The first bytes are there on entering, so that a failure can still be told.

        Goes on to the next replica when one fails, also in the middle. A whole read is compared with the digest:
        small blobs before their first byte is handed out, others at the end, where a mismatch raises.
        """
        reading = Reading(
            Surroundings(self.provider, self.report_bad),
            plan,
            start,
            plan.blob.size_bytes - start if length is None else length,
        )
        try:
            await reading.begin()
            yield reading
        finally:
            await reading.close()

    async def provider(self, store_id: UUID) -> StorageProvider:
        return await self._stores.provider(store_id)

    async def report_bad(self, tenant_id: UUID, replica: Replica, error: ProviderError) -> None:
        """Take a replica's word back after a read that showed it wrong or gone, and have it copied anew."""
        state = "missing" if isinstance(error, ObjectNotFound) else "suspect"
        async with self._database.tenant(tenant_id) as uow:
            if not await repository.mark_lost(uow, replica.id, state=state, error=error.kind):
                return
            await self._queue.defer(
                uow, "blob.repair", tenant_id=tenant_id, blob_id=replica.blob_id, store_id=replica.store_id
            )
        log.warning("replica.lost", replica=str(replica.id), store=str(replica.store_id), state=state)

    async def sweep(self, tenant_id: UUID) -> int:
        """Remove what is retiring from the tenant's stores, and forget it. Returns how many replicas went."""
        removed = 0
        while True:
            async with self._database.tenant(tenant_id) as uow:
                await repository.expire_writes(uow, limit=_SWEEP_BATCH)
                doomed = await repository.claim_retiring(uow, limit=_SWEEP_BATCH, lease_seconds=self.lease_seconds)
                await repository.reprieve(uow, [item for item in doomed if not item.allowed])
            if not doomed:
                return removed
            await fp("purge.claimed")
            removed += await self._remove(tenant_id, [item for item in doomed if item.allowed])

    async def _remove(self, tenant_id: UUID, doomed: list[Doomed]) -> int:
        slots = asyncio.Semaphore(_SWEEP_PARALLEL)
        by_store: dict[UUID, list[Doomed]] = {}
        for item in doomed:
            by_store.setdefault(item.store_id, []).append(item)
        gone: list[Doomed] = []
        failed: list[tuple[Doomed, str]] = []
        for store_id, items in by_store.items():
            await self._remove_at(store_id, items, slots, gone, failed)
        await fp("purge.after_delete")
        async with self._database.tenant(tenant_id) as uow:
            count = await repository.remove(uow, gone)
            if failed:
                await repository.keep_for_later(uow, failed, base_seconds=self._retry_base_seconds)
            await fp("purge.in_confirm_txn")
        await fp("purge.committed")
        return count

    async def _remove_at(
        self,
        store_id: UUID,
        items: list[Doomed],
        slots: asyncio.Semaphore,
        gone: list[Doomed],
        failed: list[tuple[Doomed, str]],
    ) -> None:
        """Delete known objects in one call; look for whatever a doubtful write may have left, key by key."""
        known = [item for item in items if item.evidence is not None]
        doubtful = [item for item in items if item.evidence is None]

        async def discard(item: Doomed) -> None:
            async with slots:
                try:
                    provider = await self._stores.provider(store_id)
                    await provider.discard(item.key)
                    gone.append(item)
                except ProviderError as error:
                    failed.append((item, error.kind))

        try:
            if known:
                provider = await self._stores.provider(store_id)
                outcomes = await provider.delete([ObjectRef(item.key, item.version_id) for item in known])
                for item, outcome in zip(known, outcomes, strict=True):
                    if outcome.error is None:
                        gone.append(item)
                    else:
                        failed.append((item, getattr(outcome.error, "kind", "provider_error")))
        except ProviderError as error:
            failed.extend((item, error.kind) for item in known)
        await asyncio.gather(*(discard(item) for item in doubtful))
