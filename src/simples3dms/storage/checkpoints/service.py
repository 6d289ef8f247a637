"""Copy signed checkpoints into the tenant's stores, apart from everything that anybody waits for.

A copy's bytes never change and its key is the checkpoint's own, so that a repeat writes the same again: the one place
where a key may be written twice. Nothing here is ever deleted; and another checkpoint of the same number tells that the
database was restored, so that it is not written over before somebody has confirmed that.
"""

from __future__ import annotations

import hashlib
from uuid import UUID

import structlog

from simples3dms.audit import chain
from simples3dms.audit.service import Audit
from simples3dms.db.session import Database
from simples3dms.errors import Failure
from simples3dms.jobqueue.app import JobQueue
from simples3dms.providers.base import Expected
from simples3dms.providers.errors import ProviderError
from simples3dms.storage.checkpoints import repository
from simples3dms.storage.checkpoints.values import Copy
from simples3dms.storage.placement import repository as placement_repository
from simples3dms.storage.restores.errors import unconfirmed
from simples3dms.storage.restores.service import RestoreGuard, key_of
from simples3dms.storage.stores.service import Stores

log = structlog.get_logger(__name__)

#: Two are enough that no single store's owner can change both; two more in case some are down.
_MOST_STORES = 4
_BATCH = 20


class Checkpoints:
    """The copies of all tenants' checkpoints."""

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        stores: Stores,
        audit: Audit,
        restores: RestoreGuard,
        *,
        lease_seconds: float,
        retry_base_seconds: float,
    ) -> None:
        self._database = database
        self._queue = queue
        self._stores = stores
        self._audit = audit
        self._restores = restores
        self._lease_seconds = lease_seconds
        self._retry_base_seconds = retry_base_seconds

    async def plan(self, tenant_id: UUID, seq: int) -> None:
        """Record that the checkpoint is to be copied into the tenant's stores (up to four). May be repeated."""
        async with self._database.tenant(tenant_id) as uow:
            grants = (await placement_repository.list_grants(uow))[:_MOST_STORES]
            await repository.insert(uow, seq, [(grant.store_id, key_of(grant.prefix, seq)) for grant in grants])

    async def defer_due(self, *, limit: int) -> None:
        """Queue the copying wherever some is due."""
        async with self._database.platform() as uow:
            for tenant_id in await repository.list_due_tenants(uow, limit=limit):
                await self._queue.defer(uow, "checkpoint.copy", once=f"checkpoint:{tenant_id}", tenant_id=tenant_id)

    async def copy_due(self, tenant_id: UUID) -> None:
        """Make the tenant's copies that are due. One that fails is tried again later, and holds up no other."""
        async with self._database.tenant(tenant_id) as uow:
            copies = await repository.claim(uow, lease_seconds=self._lease_seconds, limit=_BATCH)
        for copy in copies:
            try:
                await self._write(tenant_id, copy)
            except (Failure, ProviderError) as error:
                code = error.kind if isinstance(error, ProviderError) else error.problem_code
                log.info("checkpoint.not_copied", tenant=str(tenant_id), store=str(copy.store_id), error=code)
                async with self._database.tenant(tenant_id) as uow:
                    await repository.postpone(uow, copy, error=code, base_seconds=self._retry_base_seconds)
            else:
                async with self._database.tenant(tenant_id) as uow:
                    await repository.settle(uow, copy)

    async def _write(self, tenant_id: UUID, copy: Copy) -> None:
        checkpoint = await self._audit.get_checkpoint(tenant_id, copy.seq)
        body = chain.canonical(chain.checkpoint_document(checkpoint)).encode("ascii") + b"\n"
        provider = await self._stores.provider(copy.store_id)
        if await self._restores.is_contradicted(provider, copy.key, checkpoint):
            raise unconfirmed()
        expected = Expected(len(body), hashlib.sha256(body).digest())
        await provider.put(copy.key, body, expected=expected, content_type="application/json")
