"""Bring the locks at stores to what the records want, apart from everything that anybody waits for.

A change of a hold, a retention, or a new replica marks rows in its own unit of work; a job then asks each store what is
there, changes what differs, and records what the store answers when asked again. One at a time: what is marked while
somebody is at it is left to him. Crash windows: a marked row whose job is lost is due, and found by the watchdog; a
store that was asked and not recorded has its row due when the lease has run out, with what it was asked (`asked_*`),
and is looked at once more a while later, since a call may outlive whoever made it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final
from uuid import UUID

import structlog

from simples3dms.db.session import Database, UnitOfWork
from simples3dms.errors import Failure, Unavailable
from simples3dms.jobqueue.app import JobQueue
from simples3dms.kit.failpoints import fp
from simples3dms.kit.streams import LeaseLost, heartbeat
from simples3dms.providers.base import ObjectLock, ObjectRef, StorageProvider
from simples3dms.providers.errors import ProviderError
from simples3dms.providers.layers.ratelimit import share_as
from simples3dms.storage.locks import repository
from simples3dms.storage.locks.values import DueLock, is_enough, is_too_much, kept_before, plan_change
from simples3dms.storage.stores.service import Stores

log = structlog.get_logger(__name__)

_BATCH: Final = 50
#: Documents that one step of a survey looks at.
_PAGE: Final = 500
_PARALLEL: Final = 8
#: Why a lock is not as wanted though the store took every request: somebody else's is in the way, or it is too hard.
_DIFFERS: Final = "lock_differs"


class Locks:
    """The locks of all tenants' replicas."""

    def __init__(
        self, database: Database, queue: JobQueue, stores: Stores, *, lease_seconds: float, retry_base_seconds: float
    ) -> None:
        self._database = database
        self._queue = queue
        self._stores = stores
        self._lease_seconds = lease_seconds
        self._retry_base_seconds = retry_base_seconds

    async def want_for_document(self, uow: UnitOfWork, document_id: UUID) -> None:
        """Something that keeps the document changed, or it has a new version: in the unit of work that changes it."""
        if await repository.mark_documents(uow, [document_id]):
            await self._defer(uow)

    async def want_for_replicas(self, uow: UnitOfWork, replica_ids: Sequence[UUID]) -> None:
        """These replicas are new; their documents were shared before (`share_documents`)."""
        if replica_ids and await repository.mark_replicas(uow, replica_ids):
            await self._defer(uow)

    async def share_documents(self, uow: UnitOfWork, replica_ids: Sequence[UUID]) -> None:
        """To be called before replicas are made live, and before anything else is locked."""
        if replica_ids:
            await repository.share_documents(uow, replica_ids)

    async def want_later(self, uow: UnitOfWork, replica_ids: Sequence[UUID]) -> None:
        """These replicas count again. The watchdog finds them when they are due."""
        if replica_ids:
            await repository.mark_later(uow, replica_ids)

    async def want_for_blobs(self, uow: UnitOfWork, blob_ids: Sequence[UUID]) -> None:
        """Nobody refers to these blobs any more: what we locked of them is let go."""
        if blob_ids and await repository.mark_blobs(uow, blob_ids):
            await self._defer(uow)

    async def _defer(self, uow: UnitOfWork) -> None:
        assert uow.tenant_id is not None
        await self._queue.defer(uow, "lock.apply", once=f"locks:{uow.tenant_id}", tenant_id=uow.tenant_id)

    async def defer_due(self, *, limit: int) -> None:
        """Queue the work wherever some is due."""
        async with self._database.platform() as uow:
            tenants = await repository.list_due_tenants(uow, limit=limit)
            for tenant_id in await repository.list_due_surveys(uow, limit=limit):
                await self._queue.defer(uow, "lock.survey", once=f"survey:{tenant_id}", tenant_id=tenant_id)
        for tenant_id in tenants:
            async with self._database.tenant(tenant_id) as uow:
                await self._defer(uow)

    async def survey(self, tenant_id: UUID) -> None:
        """Look at every document of a tenant, page by page: a store of it locks now what it did not before."""
        async with self._database.tenant(tenant_id) as uow:
            survey = await repository.claim_survey(uow, lease_seconds=self._lease_seconds)
        while survey is not None:
            async with self._database.tenant(tenant_id) as uow:
                survey = await repository.advance_survey(uow, survey, limit=_PAGE, lease_seconds=self._lease_seconds)
                await self._defer(uow)

    async def apply_due(self, tenant_id: UUID) -> None:
        """Bring the tenant's due locks to what is wanted. One that fails is tried later, and holds up no other."""
        share_as(str(tenant_id))
        while True:
            async with self._database.tenant(tenant_id) as uow:
                claimed = await repository.claim(uow, lease_seconds=self._lease_seconds, limit=_BATCH)
            if not claimed:
                return
            await fp("lock.claimed")
            with suppress(LeaseLost):
                async with heartbeat(partial(self._beat, tenant_id, claimed), lease_seconds=self._lease_seconds):
                    await self._all(tenant_id, claimed)

    async def _beat(self, tenant_id: UUID, claimed: Sequence[DueLock]) -> bool:
        async with self._database.tenant(tenant_id) as uow:
            # Those that were settled are not ours any more; as long as the batch runs, some are.
            return await repository.extend(uow, claimed, lease_seconds=self._lease_seconds) > 0

    async def _all(self, tenant_id: UUID, claimed: Sequence[DueLock]) -> None:
        slots = asyncio.Semaphore(_PARALLEL)
        async with asyncio.TaskGroup() as group:
            for due in claimed:
                group.create_task(self._one(tenant_id, due, slots))

    async def _one(self, tenant_id: UUID, due: DueLock, slots: asyncio.Semaphore) -> None:
        found: ObjectLock | None = None
        error: str | None = None
        if not due.is_idle:
            async with slots:
                try:
                    provider = await self._stores.provider(due.store_id)
                    found = await self._bring(tenant_id, provider, due)
                    if not is_enough(due, found) or is_too_much(due, found):
                        error = _DIFFERS
                except ProviderError as failed:
                    error = failed.kind
                except Failure as failed:
                    error = failed.problem_code
        try:
            await self._record(tenant_id, due, found, error)
        except Unavailable as failed:
            # It is looked at again when the lease has run out; the others of the batch go on.
            log.warning("lock.not_recorded", replica=str(due.replica_id), code=failed.problem_code)

    async def _record(self, tenant_id: UUID, due: DueLock, found: ObjectLock | None, error: str | None) -> None:
        async with self._database.tenant(tenant_id) as uow:
            await repository.hold_replica(uow, due)
            if error is not None:
                stands = await repository.postpone(uow, due, found, error=error, base_seconds=self._retry_base_seconds)
                log.info("lock.not_set", replica=str(due.replica_id), store=str(due.store_id), error=error)
            elif found is None:
                stands = await repository.rest(uow, due)
            else:
                stands = await repository.settle(uow, due, found)
                if stands and await repository.free_retiring(uow, [due.replica_id]):
                    await self._queue.defer(uow, "replica.sweep", once=f"sweep:{tenant_id}", tenant_id=tenant_id)
            if not stands:
                await repository.let_go(uow, due)
            await fp("lock.in_confirm_txn")

    async def _bring(self, tenant_id: UUID, provider: StorageProvider, due: DueLock) -> ObjectLock:
        """Ask what there is, change what differs, and ask again: what a store took is not yet what it keeps."""
        ref = ObjectRef(due.key, due.version_id)
        found = await provider.get_lock(ref)
        change = plan_change(due, found)
        if change.is_none:
            return found
        async with self._database.tenant(tenant_id) as uow:
            # Only what we ask for is ours to take back: a hold that was there already is somebody else's.
            asked = await repository.note_asking(
                uow,
                due,
                hold=change.hold is True,
                until=change.until if due.until is not None else None,
                kept_until=kept_before(due, found) if due.until is not None else due.kept_until,
            )
        if not asked:
            return found
        if change.hold is True:
            await provider.set_hold(ref, on=True)
        if change.mode is not None and change.until is not None:
            await provider.set_retention(ref, mode=change.mode, until=change.until, bypass=change.bypass)
        if change.hold is False:
            await provider.set_hold(ref, on=False)
        await fp("lock.after_set")
        return await provider.get_lock(ref)
