"""Caches: look a blob up, fill after a verified read, make room by use, and remove what may stay no longer.

A read is never delayed or failed by any of this: what goes wrong is given up, and its row says what to clean.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

import structlog

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.errors import Failure
from simples3dms.identity.service import require_operator
from simples3dms.kit.failpoints import FailPointError, fp
from simples3dms.kit.ids import new_id
from simples3dms.kit.leases import Lease, LeaseLost
from simples3dms.kit.streams import heartbeat
from simples3dms.providers.base import Expected
from simples3dms.providers.errors import ProviderError
from simples3dms.storage.caches import errors, repository
from simples3dms.storage.caches.filling import Abandoned, Filling
from simples3dms.storage.caches.values import CachePlace, Entry
from simples3dms.storage.stores.jurisdictions import is_inside
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.stores.values import Store

log = structlog.get_logger(__name__)

#: An entry's use is noted again after so long: which of two was used later is known no finer than that.
USE_SECONDS: Final = 10.0
_MOST_FILLS: Final = 8
_BATCH: Final = 100
_PARALLEL: Final = 16


class Caches:
    """The caches of all tenants, as this process fills and cleans them."""

    def __init__(self, database: Database, stores: Stores, *, lease_seconds: float, retry_base_seconds: float) -> None:
        self._database = database
        self._stores = stores
        self._lease_seconds = lease_seconds
        self._retry_base_seconds = retry_base_seconds
        self._filled: set[tuple[UUID, UUID]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._trimmed: set[UUID] = set()
        self._looked_upto: tuple[UUID, UUID] | None = None

    async def list_places(self, uow: UnitOfWork, blob_id: UUID) -> list[CachePlace]:
        """The caches that the tenant's documents may lie in, with what they have of the blob."""
        found = await repository.list_places(uow, blob_id, use_seconds=USE_SECONDS)
        return [place for place in found if is_inside(place.jurisdiction, place.allowed)]

    def note_use(self, tenant_id: UUID, entry_id: UUID) -> None:
        """Note in the background that an entry was read."""
        self._begin(self._note_use(tenant_id, entry_id))

    async def _note_use(self, tenant_id: UUID, entry_id: UUID) -> None:
        async with self._database.tenant(tenant_id) as uow:
            await repository.note_use(uow, entry_id)

    def begin_fill(self, tenant_id: UUID, blob_id: UUID, expected: Expected, place: CachePlace) -> Filling | None:
        """Have the blob put into a cache as it is read; None where it is too large, or enough are under way.

        Only one fill of a blob is under way at a time, here and anywhere.
        """
        size = expected.size_bytes
        if size is None or size > place.max_bytes or len(self._filled) >= _MOST_FILLS:
            return None
        if (tenant_id, blob_id) in self._filled:
            return None
        self._filled.add((tenant_id, blob_id))
        filling = Filling()
        self._begin(self._fill(tenant_id, blob_id, expected, place, filling))
        return filling

    async def _fill(
        self, tenant_id: UUID, blob_id: UUID, expected: Expected, place: CachePlace, filling: Filling
    ) -> None:
        try:
            entry = await self._admit(tenant_id, blob_id, expected.size_bytes or 0, place)
            if entry is not None:
                await self._write(entry, blob_id, expected, aiter(filling))
        finally:
            filling.close()
            self._filled.discard((tenant_id, blob_id))

    async def _admit(self, tenant_id: UUID, blob_id: UUID, size_bytes: int, place: CachePlace) -> Entry | None:
        """A row to write under, with room for its bytes; None where the blob is there already, or no room was made."""
        for _ in range(3):
            entry_id = new_id()
            key = f"{place.prefix}{entry_id.hex[-2:]}/{entry_id}"
            entry = Entry(tenant_id, entry_id, place.store_id, key, size_bytes, fence=1)
            async with self._database.platform(acting_for=tenant_id) as uow:
                if not await repository.insert(uow, entry, blob_id, lease_seconds=self._lease_seconds):
                    return None
                lacking = await repository.reserve(uow, place.store_id, size_bytes)
                if not lacking:
                    return entry
                await repository.forget_unreserved(uow, entry)
                await repository.retire_oldest(uow, place.store_id, lacking_bytes=lacking, limit=_BATCH)
            await self._remove_due(store_id=place.store_id)
        return None

    async def _write(self, entry: Entry, blob_id: UUID, expected: Expected, body: AsyncIterator[bytes]) -> None:
        async def beat() -> bool:
            async with self._database.tenant(entry.tenant_id) as uow:
                return await repository.extend(uow, entry, lease_seconds=self._lease_seconds)

        is_kept = False
        try:
            await fp("cache.admitted")
            provider = await self._stores.provider(entry.store_id)
            async with heartbeat(beat, lease_seconds=self._lease_seconds):
                await provider.put(entry.key, body, expected=expected)
                await fp("cache.after_put")
            async with self._database.tenant(entry.tenant_id) as uow:
                is_kept = await repository.confirm(uow, entry, blob_id)
        finally:
            if not is_kept:
                await asyncio.shield(self._give_up(entry))

    async def _give_up(self, entry: Entry) -> None:
        async with self._database.tenant(entry.tenant_id) as uow:
            await repository.give_up(uow, entry, grace_seconds=self._lease_seconds)
        # The row may be gone, when a writer was frozen: then nobody else would look.
        with suppress(ProviderError, Failure):
            await (await self._stores.provider(entry.store_id)).discard(entry.key)

    async def drop(self, uow: UnitOfWork, entry_id: UUID) -> bool:
        """Let an entry that was found wrong or gone serve no more."""
        return await repository.drop(uow, entry_id)

    async def drop_unusable(self, tenant_id: UUID) -> None:
        """Retire what the tenant has in caches that its documents may lie in no more."""
        async with self._database.platform() as uow:
            places = await repository.list_doubtful_places(uow, tenant_id=tenant_id, limit=_BATCH)
        for place in places:
            while place.is_closed or not is_inside(place.jurisdiction, place.allowed):
                async with self._database.tenant(tenant_id) as uow:
                    if await repository.retire_at(uow, place.store_id, limit=_BATCH) < _BATCH:
                        break

    async def resize(self, principal: Principal, name_or_id: str, max_bytes: int) -> Store:
        """Say how much a cache may hold. What is too much then goes in the background, what was not used for longest
        first. Raises NotFound (`store_not_found`), Conflict (`store_no_cache`)."""
        require_operator(principal)
        store = await self._stores.get_store(name_or_id)
        async with self._database.platform() as uow:
            before = await repository.resize(uow, store.id, max_bytes)
            if before is None:
                raise errors.no_cache(store.name)
            if before != max_bytes:
                await record(
                    uow,
                    principal,
                    "store.cache_resized",
                    target_type="store",
                    target_id=str(store.id),
                    details={"name": store.name, "before": before, "max_bytes": max_bytes},
                )
        return await self._stores.get_store(name_or_id)

    async def begin_trims(self) -> None:
        """Have caches that hold more than they may made smaller, in the background."""
        async with self._database.platform() as uow:
            found = await repository.list_overfull(uow)
        for one in found:
            if one.store_id not in self._trimmed:
                self._trimmed.add(one.store_id)
                self._begin(self._trim(one.store_id))

    async def _trim(self, store_id: UUID) -> None:
        try:
            while True:
                async with self._database.platform() as uow:
                    surplus = {one.store_id: one.surplus_bytes for one in await repository.list_overfull(uow)}
                    if not await repository.retire_oldest(
                        uow, store_id, lacking_bytes=surplus.get(store_id, 0), limit=_BATCH
                    ):
                        return
                await self._remove_due(store_id=store_id)
        finally:
            self._trimmed.discard(store_id)

    async def list_to_clean(self, *, limit: int) -> set[UUID]:
        """Tenants of which something in a cache is to be removed now.

        Caches whose content may have to go are looked at in turn, so many at a call: most of them may keep it.
        """
        async with self._database.platform() as uow:
            due = await repository.list_tenants_to_clean(uow, limit=limit)
            places = await repository.list_doubtful_places(uow, tenant_id=None, after=self._looked_upto, limit=limit)
        self._looked_upto = (places[-1].tenant_id, places[-1].store_id) if len(places) == limit else None
        unusable = [one for one in places if one.is_closed or not is_inside(one.jurisdiction, one.allowed)]
        return {*due, *(one.tenant_id for one in unusable)}

    async def sweep(self, tenant_id: UUID) -> None:
        """Remove from caches what of the tenant's is to go."""
        await self.drop_unusable(tenant_id)
        await self._remove_due(tenant_id=tenant_id)

    async def _remove_due(self, *, tenant_id: UUID | None = None, store_id: UUID | None = None) -> None:
        while True:
            lease = Lease(self._lease_seconds)
            async with self._database.platform() as uow:
                entries = await repository.claim_retiring(
                    uow, tenant_id=tenant_id, store_id=store_id, limit=_BATCH, lease_seconds=self._lease_seconds
                )
            if not entries:
                return
            await fp("cache.claimed")
            slots = asyncio.Semaphore(_PARALLEL)
            with lease:
                outcomes = await asyncio.gather(*(self._remove(entry, slots) for entry in entries))
            async with self._database.platform() as uow:
                await repository.remove(uow, [one for one, gone in zip(entries, outcomes, strict=True) if gone])
                kept = [one for one, gone in zip(entries, outcomes, strict=True) if not gone]
                await repository.keep_for_later(uow, kept, base_seconds=self._retry_base_seconds)

    async def _remove(self, entry: Entry, slots: asyncio.Semaphore) -> bool:
        async with slots:
            try:
                await (await self._stores.provider(entry.store_id)).discard(entry.key)
            except (ProviderError, Failure) as error:
                log.info(
                    "cache.not_removed", entry=str(entry.id), store=str(entry.store_id), error=type(error).__name__
                )
                return False
        return True

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        """Wait for what is under way in the background."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Give up what is under way. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await self.settle()


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except (ProviderError, Failure, LeaseLost, Abandoned, FailPointError) as error:
        log.info("cache.given_up", error=type(error).__name__)
    except Exception:
        log.exception("cache.failed")
