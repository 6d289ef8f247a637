"""Start, watch, pause and resume scrubs, by hand and by themselves; show what was found; trust a store again."""

from __future__ import annotations

import secrets
from typing import Final
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import WORKER, Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.identity.service import require_operator
from simples3dms.kit.ids import new_id
from simples3dms.kit.texts import is_line
from simples3dms.storage.scrubs import errors, repository
from simples3dms.storage.scrubs.engine import ScrubEngine
from simples3dms.storage.scrubs.values import DoubtfulCopy, DuePlace, Level, Scrub
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.stores.values import Store

_LEVELS: Final[tuple[Level, ...]] = ("deep", "light")


class Scrubs:
    """The scrubs of all tenants. `light_days`, `deep_days`: after how long the next one begins by itself; 0: never."""

    def __init__(
        self,
        database: Database,
        stores: Stores,
        engine: ScrubEngine,
        *,
        light_days: float,
        deep_days: float,
    ) -> None:
        self._database = database
        self._stores = stores
        self.engine = engine
        self._days = {"light": light_days, "deep": deep_days}

    async def start(self, principal: Principal, tenant_id: UUID, *, store: str, level: Level) -> Scrub:
        """Begin one. Raises NotFound (`store_not_granted`), Conflict (`scrub_active`)."""
        async with self._database.platform(acting_for=tenant_id) as uow:
            store_id = await repository.find_store(uow, store)
            if store_id is None:
                raise errors.not_granted(store)
            scrub_id = await self._insert(uow, store_id, level, is_scheduled=False)
            if scrub_id is None:
                raise errors.active(store)
            await repository.note_begun(uow, store_id, level)
            await _record(uow, principal, "scrub.started", scrub_id, store=store, level=level)
            return await _load(uow, scrub_id)

    async def _insert(self, uow: UnitOfWork, store_id: UUID, level: Level, *, is_scheduled: bool) -> UUID | None:
        scrub_id = new_id()
        seed = secrets.randbits(63)
        if not await repository.insert(uow, scrub_id, store_id, level, seed=seed, is_scheduled=is_scheduled):
            return None
        await self.engine.defer(uow, scrub_id)
        return scrub_id

    async def start_due(self, *, limit: int) -> None:
        """Begin those that are due by themselves, and queue again those whose job was lost or whose worker is gone."""
        for level in _LEVELS:
            days = self._days[level]
            if not days:
                continue
            async with self._database.platform() as uow:
                places = await repository.list_due_places(uow, level, days=days, limit=limit)
            for place in places:
                await self._start_by_itself(place, level, days)
        async with self._database.platform() as uow:
            due = await repository.list_due(uow, limit=limit)
        for one in due:
            async with self._database.tenant(one.tenant_id) as uow:
                await self.engine.defer(uow, one.id)

    async def _start_by_itself(self, place: DuePlace, level: Level, days: float) -> None:
        async with self._database.platform(acting_for=place.tenant_id) as uow:
            if not await repository.claim_place(uow, place.store_id, level, days=days):
                return
            scrub_id = await self._insert(uow, place.store_id, level, is_scheduled=True)
            if scrub_id is not None:
                await repository.note_begun(uow, place.store_id, level)
                await _record(uow, WORKER, "scrub.started", scrub_id, store_id=str(place.store_id), level=level)

    async def get(self, tenant_id: UUID, scrub_id: UUID) -> Scrub:
        """Raises NotFound (`scrub_not_found`)."""
        async with self._database.tenant(tenant_id) as uow:
            return await _load(uow, scrub_id)

    async def list_page(self, tenant_id: UUID, *, after: UUID | None = None, limit: int = 50) -> list[Scrub]:
        """Newest first."""
        async with self._database.tenant(tenant_id) as uow:
            return await repository.list_page(uow, after=after, limit=limit)

    async def pause(self, principal: Principal, tenant_id: UUID, scrub_id: UUID) -> Scrub:
        """Stop for a while; the page that is being looked at does not count. Raises Conflict (`scrub_state_wrong`)."""
        async with self._database.tenant(tenant_id) as uow:
            await _lock_in(uow, scrub_id, "running", "paused")
            await repository.pause(uow, scrub_id)
            await _record(uow, principal, "scrub.paused", scrub_id)
            return await _load(uow, scrub_id)

    async def resume(self, principal: Principal, tenant_id: UUID, scrub_id: UUID) -> Scrub:
        """Go on where it was. Raises Conflict (`scrub_state_wrong`)."""
        async with self._database.tenant(tenant_id) as uow:
            await _lock_in(uow, scrub_id, "paused", "resumed")
            await repository.resume(uow, scrub_id)
            await self.engine.defer(uow, scrub_id)
            await _record(uow, principal, "scrub.resumed", scrub_id)
            return await _load(uow, scrub_id)

    async def list_doubtful(self, tenant_id: UUID, *, after: UUID | None = None, limit: int = 50) -> list[DoubtfulCopy]:
        """Replicas that were found wrong or gone, and of which of them no good one is left."""
        async with self._database.tenant(tenant_id) as uow:
            return await repository.list_doubtful(uow, after=after, limit=limit)

    async def trust_store(self, principal: Principal, name_or_id: str, *, reason: str) -> Store:
        """Let repairs at a store go on. For operators, of any store (a tenant's by id).

        Raises NotFound (`store_not_found`), Conflict (`store_trusted`), Invalid (`reason_invalid`).
        """
        require_operator(principal)
        if not is_line(reason):
            raise errors.reason_invalid()
        store = await self._stores.find_anyones(name_or_id)
        async with self._database.platform() as uow:
            if not await repository.trust(uow, store.id):
                raise errors.trusted_already(store.name)
            details = {"name": store.name, "reason": reason, "untrusted_reason": store.untrusted_reason}
            await record(
                uow,
                principal,
                "store.trusted",
                target_type="store",
                target_id=str(store.id),
                tenant_id=store.owner_tenant_id,
                details=details,
            )
        return await self._stores.find_anyones(str(store.id))


async def _load(uow: UnitOfWork, scrub_id: UUID) -> Scrub:
    scrub = await repository.find(uow, scrub_id)
    if scrub is None:
        raise errors.not_found()
    return scrub


async def _lock_in(uow: UnitOfWork, scrub_id: UUID, state: str, action: str) -> None:
    scrub = await repository.lock(uow, scrub_id)
    if scrub is None:
        raise errors.not_found()
    if scrub.state != state:
        raise errors.wrong_state(action, scrub.state)


async def _record(uow: UnitOfWork, principal: Principal, action: str, scrub_id: UUID, **details: object) -> None:
    await record(
        uow,
        principal,
        action,
        target_type="scrub",
        target_id=str(scrub_id),
        tenant_id=uow.tenant_id,
        details=details,
    )
