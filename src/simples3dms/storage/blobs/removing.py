"""Remove from stores what the records say should go: claimed, decided again right before, forgotten once it is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from simples3dms.db.session import Database
from simples3dms.kit.failpoints import fp
from simples3dms.kit.streams import heartbeat
from simples3dms.providers.base import ObjectRef, StorageProvider
from simples3dms.providers.errors import AccessDenied, ProviderError
from simples3dms.providers.layers.ratelimit import share_as
from simples3dms.storage.blobs import repository
from simples3dms.storage.blobs.values import OBJECT_LOCKED, Doomed, Kept
from simples3dms.storage.caches.service import Caches
from simples3dms.storage.locks.service import Locks
from simples3dms.storage.restores.service import RestoreGuard
from simples3dms.storage.stores.service import Stores

#: Small, so that a claim is fresh when the store is asked.
_BATCH: Final = 100
_PARALLEL: Final = 16
#: A retention that ended this lately may not be over by a store's clock.
_CLOCKS_DIFFER: Final = timedelta(minutes=15)


class Removals:
    """Removes what is retiring. Any number of processes may, of the same tenant, at once."""

    def __init__(
        self,
        database: Database,
        stores: Stores,
        locks: Locks,
        restores: RestoreGuard,
        caches: Caches,
        *,
        provider: Callable[[UUID], Awaitable[StorageProvider]],
        lease_seconds: float,
        retry_base_seconds: float,
    ) -> None:
        """`provider`: a store's, or a ProviderError."""
        self._database = database
        self._stores = stores
        self._locks = locks
        self._restores = restores
        self._caches = caches
        self._provider = provider
        self._lease_seconds = lease_seconds
        self._retry_base_seconds = retry_base_seconds

    async def sweep(self, tenant_id: UUID) -> int:
        """Remove what is retiring from the tenant's stores, and forget it. Returns how many replicas went.

        None while a restore waits to be confirmed: what these records call dead may have come to life since.
        """
        share_as(str(tenant_id))
        # Not held back by a restore: what a cache holds may go at any moment.
        await self._caches.sweep(tenant_id)
        removed = 0
        while not await self._restores.is_held():
            async with self._database.tenant(tenant_id) as uow:
                await repository.expire_writes(uow, limit=_BATCH, grace_seconds=self._lease_seconds)
                doomed = await repository.claim_retiring(uow, limit=_BATCH, lease_seconds=self._lease_seconds)
                spared = [item for item in doomed if not item.allowed]
                await repository.reprieve(uow, spared)
                await self._locks.want_later(uow, [item.id for item in spared])
            if not doomed:
                return removed
            await fp("purge.claimed")
            removed += await self.remove(tenant_id, [item for item in doomed if item.allowed])
        return removed

    async def remove(self, tenant_id: UUID, doomed: list[Doomed]) -> int:
        by_store: dict[UUID, list[Doomed]] = {}
        for item in doomed:
            by_store.setdefault(item.store_id, []).append(item)
        return sum([await self._remove_from(tenant_id, store_id, items) for store_id, items in by_store.items()])

    async def _remove_from(self, tenant_id: UUID, store_id: UUID, items: list[Doomed]) -> int:
        gone: list[Doomed] = []
        failed: list[Kept] = []

        async def recheck() -> set[UUID]:
            async with self._database.tenant(tenant_id) as uow:
                return await repository.recheck(uow, items, lease_seconds=self._lease_seconds)

        async def beat() -> bool:
            # What justified one of them may turn out bad while others are removed.
            permitted.intersection_update(await recheck())
            return bool(permitted)

        asked_at = time.monotonic()
        permitted = await recheck()
        if permitted:
            async with heartbeat(beat, lease_seconds=self._lease_seconds, asked_at=asked_at):
                await self._remove_at(tenant_id, store_id, items, permitted, gone, failed)
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
        tenant_id: UUID,
        store_id: UUID,
        doomed: list[Doomed],
        permitted: set[UUID],
        gone: list[Doomed],
        failed: list[Kept],
    ) -> None:
        """Delete what is known to be one plain object in one call; look for whatever else may be there, key by key.

        Else is: what a doubtful write left, and the second version, or the parts, that a repeat after a lost answer
        left beside the one that the records know. `permitted` gets smaller as permissions are withdrawn.
        """
        items = [item for item in doomed if item.id in permitted]
        try:
            provider = await self._provider(store_id)
            is_ours = await self._stores.is_place_ours(store_id)
            is_behind = await self._restores.is_behind(provider, tenant_id, store_id)
        except ProviderError as error:
            failed.extend(Kept(item, error.kind) for item in items)
            return
        if not is_ours or is_behind or await self._restores.is_held():
            failed.extend(Kept(item, "restore_unconfirmed" if is_ours else "place_taken") for item in items)
            return
        part = provider.capabilities.part_size_bytes if provider.capabilities.multipart else None
        plain = [item for item in items if item.id in permitted and _is_plain(item, part)]
        others = [item for item in items if not _is_plain(item, part)]
        slots = asyncio.Semaphore(_PARALLEL)

        async def discard(item: Doomed) -> None:
            async with slots:
                if item.id not in permitted:
                    return
                try:
                    await provider.discard(item.key)
                    gone.append(item)
                except ProviderError as error:
                    failed.append(await _why_kept(provider, item, error))

        try:
            if plain:
                outcomes = await provider.delete([ObjectRef(item.key) for item in plain])
                for item, outcome in zip(plain, outcomes, strict=True):
                    if outcome.error is None:
                        gone.append(item)
                    else:
                        failed.append(await _why_kept(provider, item, outcome.error))
        except ProviderError as error:
            failed.extend(Kept(item, error.kind) for item in plain)
        await asyncio.gather(*(discard(item) for item in others))


async def _why_kept(provider: StorageProvider, item: Doomed, error: ProviderError) -> Kept:
    """Whether it is a lock of the store that a removal was refused for, and until when."""
    if isinstance(error, AccessDenied) and provider.capabilities.object_lock:
        try:
            lock = await provider.get_lock(ObjectRef(item.key, item.version_id))
        except ProviderError:
            return Kept(item, error.kind)
        if lock.held or (lock.until is not None and lock.until > datetime.now(UTC) - _CLOCKS_DIFFER):
            return Kept(item, OBJECT_LOCKED, None if lock.held else lock.until)
    return Kept(item, error.kind)


def _is_plain(item: Doomed, part_bytes: int | None) -> bool:
    """Whether the object was written whole, by a write that ended well, to a store that keeps no versions."""
    if item.evidence is None or item.version_id is not None or item.size_bytes is None:
        return False
    return part_bytes is None or item.size_bytes <= part_bytes
