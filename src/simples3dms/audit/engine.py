"""Sealing: recorded events get their number and hash, moments after they were committed, tenant by tenant.

No lock is held by those who record: nothing waits for the chain. The number says the order of sealing. An event that
was committed before another began has the lower number; of two that overlapped either may come first; and one that is
committed late gets a later number, so that no gap is ever left for it. `docs/decisions/0017` has the figures.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

import structlog

from simples3dms.audit import chain, repository
from simples3dms.audit.values import ChainedEvent, Head
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.kit.failpoints import fp

log = structlog.get_logger(__name__)

_BATCH = 1000
_TENANTS = 200
_AT_ONCE = 4


class Sealer:
    """Seals the events of all tenants. Any number may run, on any number of machines: one at a time gets a chain."""

    def __init__(
        self,
        database: Database,
        *,
        batch: int = _BATCH,
        idle_seconds: float = repository.LONGEST_IDLE_SECONDS,
    ) -> None:
        self._database = database
        self._batch = batch
        self._idle_seconds = idle_seconds

    async def seal_all(self) -> int:
        """Seal what waits, of every tenant; how many events. One tenant's failure is not another's."""
        count, after = 0, None
        slots = asyncio.Semaphore(_AT_ONCE)
        while True:
            async with self._database.platform() as uow:
                page = await repository.list_unsealed_tenants(uow, after=after, limit=_TENANTS)
            count += sum(await asyncio.gather(*(self._seal_one(tenant_id, slots) for tenant_id in page)))
            if len(page) < _TENANTS:
                return count
            after = page[-1]

    async def _seal_one(self, tenant_id: UUID, slots: asyncio.Semaphore) -> int:
        async with slots:
            try:
                return await self.seal(tenant_id)
            except Exception:
                log.exception("audit.not_sealed", tenant=str(tenant_id))
                return 0

    async def seal(self, tenant_id: UUID, *, wait: bool = False) -> int:
        """Seal what the tenant has; how many events. Where somebody else is at it: wait, or leave it to them."""
        count = 0
        while True:
            sealed = await self._seal_batch(tenant_id, wait=wait)
            count += sealed
            if sealed < self._batch:
                return count

    async def _seal_batch(self, tenant_id: UUID, *, wait: bool) -> int:
        async with self._database.sealer(tenant_id) as uow:
            # The transaction is the fence: whoever loses it has sealed nothing, and whoever has it is alone.
            if await repository.find_head(uow) is None:
                # Not at every turn: it would wait for whoever is moving the head just now.
                await repository.ensure_head(uow)
            head = await repository.lock_head(uow, wait=wait, idle_seconds=self._idle_seconds)
            if head is None:
                return 0
            events = await repository.list_unsealed(uow, limit=self._batch)
            if events:
                await _chain(uow, head, events)
            await fp("seal.in_txn")
        await fp("seal.committed")
        return len(events)


async def _chain(uow: UnitOfWork, head: Head, events: list[ChainedEvent]) -> None:
    previous, hashes = head.hash, []
    for number, event in enumerate(events, head.seq + 1):
        previous = chain.link(previous, number, head.tenant_id, chain.canonical(chain.event_document(event)))
        hashes.append(previous)
    last = head.seq + len(events)
    sealed = await repository.seal(uow, [event.id for event in events], range(head.seq + 1, last + 1), hashes)
    if sealed != len(events) or not await repository.advance_head(uow, head, seq=last, hash_=previous):
        raise RuntimeError("the chain moved while its head was held")
