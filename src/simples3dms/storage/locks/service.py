"""Bring the locks at stores to what the records want, apart from everything that anybody waits for.

A change of a hold, a retention, or a new replica marks rows in its own unit of work; a job then asks each store what is
there, changes what differs, and records what the store answers when asked again. Twice does no harm. Crash windows: a
marked row whose job is lost is due, and found by the watchdog; a store that was asked and not recorded has its row due
when the lease has run out, with what it was asked (`asked_*`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import structlog

from simples3dms.db.session import Database, UnitOfWork
from simples3dms.errors import Failure
from simples3dms.jobqueue.app import JobQueue
from simples3dms.kit.failpoints import fp
from simples3dms.providers.base import ObjectLock, ObjectRef, StorageProvider
from simples3dms.providers.errors import ProviderError
from simples3dms.providers.layers.ratelimit import share_as
from simples3dms.storage.locks import repository
from simples3dms.storage.locks.values import DueLock, is_enough, is_too_much, plan_change
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
            slots = asyncio.Semaphore(_PARALLEL)
            async with asyncio.TaskGroup() as group:
                for due in claimed:
                    group.create_task(self._one(tenant_id, due, slots))

    async def _one(self, tenant_id: UUID, due: DueLock, slots: asyncio.Semaphore) -> None:
        found: ObjectLock | None = None
        if due.is_idle:
            async with self._database.tenant(tenant_id) as uow:
                await repository.rest(uow, due)
            return
        async with slots:
            try:
                provider = await self._stores.provider(due.store_id)
                found = await _bring(provider, due)
                differs = not is_enough(due, found) or is_too_much(due, found)
                error = _DIFFERS if differs else None
            except ProviderError as failed:
                error = failed.kind
            except Failure as failed:
                error = failed.problem_code
        async with self._database.tenant(tenant_id) as uow:
            if error is not None or found is None:
                await repository.postpone(
                    uow, due, found, error=error or _DIFFERS, base_seconds=self._retry_base_seconds
                )
                log.info("lock.not_set", replica=str(due.replica_id), store=str(due.store_id), error=error)
            elif await repository.settle(uow, due, found) and await repository.free_retiring(uow, [due.replica_id]):
                await self._queue.defer(uow, "replica.sweep", once=f"sweep:{tenant_id}", tenant_id=tenant_id)
            await fp("lock.in_confirm_txn")


async def _bring(provider: StorageProvider, due: DueLock) -> ObjectLock:
    """Ask what there is, change what differs, and ask again: what a store took is not yet what it keeps."""
    ref = ObjectRef(due.key, due.version_id)
    found = await provider.get_lock(ref)
    change = plan_change(due, found)
    if change.hold is None and change.mode is None:
        return found
    if change.hold is True:
        await provider.set_hold(ref, on=True)
    if change.mode is not None and change.until is not None:
        await provider.set_retention(ref, mode=change.mode, until=change.until, bypass=change.bypass)
    if change.hold is False:
        await provider.set_hold(ref, on=False)
    await fp("lock.after_set")
    return await provider.get_lock(ref)
