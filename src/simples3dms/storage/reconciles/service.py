"""Start reconciles, by hand and by schedule; show what they found, and have it removed once somebody has typed back how
much that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import WORKER, Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.identity.service import require_operator
from simples3dms.kit.ids import new_id
from simples3dms.storage.prices.values import OwnPrices
from simples3dms.storage.reconciles import errors, repository
from simples3dms.storage.reconciles.engine import ReconcileEngine
from simples3dms.storage.reconciles.values import DuePlace, Finding, Places, Reconcile, Result, Schedule
from simples3dms.storage.scrubs import repository as scrubs_repository
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.stores.values import Store

#: Of what began by itself at a place, so many are kept.
_KEPT: Final = 20
_MOST_RESULTS: Final = 100


@dataclass(frozen=True, slots=True)
class StoreSchedule:
    """A store's schedule (None: none), its places, and the newest result of up to 100 of them, what was found first."""

    store: str
    schedule: Schedule | None
    places: Places
    results: list[Result]


class Reconciles:
    """The reconciles of all tenants."""

    def __init__(self, database: Database, stores: Stores, engine: ReconcileEngine) -> None:
        self._database = database
        self._stores = stores
        self.engine = engine

    async def start(self, principal: Principal, tenant_id: UUID, *, store: str, older_than_days: float) -> Reconcile:
        """Begin one. Raises NotFound (`store_not_granted`), Conflict (`reconcile_active`)."""
        reconcile_id = new_id()
        async with self._database.platform(acting_for=tenant_id) as uow:
            store_id = await scrubs_repository.find_store(uow, store)
            if store_id is None:
                raise errors.not_granted(store)
            if not await repository.insert(
                uow, reconcile_id, store_id, older_than_days=older_than_days, is_scheduled=False
            ):
                raise errors.active(store)
            await self.engine.defer(uow, reconcile_id)
            await _record(uow, principal, "reconcile.started", reconcile_id, store=store, days=older_than_days)
            return await _load(uow, reconcile_id)

    async def get(self, tenant_id: UUID, reconcile_id: UUID) -> Reconcile:
        """Raises NotFound (`reconcile_not_found`)."""
        async with self._database.tenant(tenant_id) as uow:
            return await _load(uow, reconcile_id)

    async def list_page(self, tenant_id: UUID, *, after: UUID | None = None, limit: int = 50) -> list[Reconcile]:
        """Newest first."""
        async with self._database.tenant(tenant_id) as uow:
            return await repository.list_page(uow, after=after, limit=limit)

    async def list_findings(
        self, tenant_id: UUID, reconcile_id: UUID, *, after: tuple[str, str] = ("", ""), limit: int = 100
    ) -> list[Finding]:
        """What was found that no record explains, by key and version; up to 10,000 are kept. Raises NotFound."""
        async with self._database.tenant(tenant_id) as uow:
            await _load(uow, reconcile_id)
            return await repository.list_findings(uow, reconcile_id, after=after, limit=limit)

    async def remove(self, principal: Principal, tenant_id: UUID, reconcile_id: UUID, *, count: int) -> Reconcile:
        """Have what was found removed from the store. `count`: how many things that are, typed back.

        Raises NotFound, Conflict (`reconcile_state_wrong`, `reconcile_active`), Invalid (`reconcile_count_wrong`), and
        Unavailable (`restore_unconfirmed`) while a restore waits to be confirmed.
        """
        await self.engine.refuse_held()
        async with self._database.tenant(tenant_id) as uow:
            row = await repository.lock(uow, reconcile_id)
            if row is None:
                raise errors.not_found()
            if row.state != "done":
                raise errors.wrong_state(row.state)
            if count != row.removable_count or count < 1:
                raise errors.count_wrong(count)
            if await repository.has_active(uow, row.store_id):
                raise errors.active(row.store)
            await repository.begin_removal(uow, reconcile_id)
            await self.engine.defer(uow, reconcile_id)
            await _record(uow, principal, "reconcile.removal_started", reconcile_id, store=row.store, count=count)
            return await _load(uow, reconcile_id)

    async def start_due(self, *, limit: int) -> None:
        """Begin those that are due by themselves, and queue again those whose job was lost or whose worker is gone."""
        async with self._database.platform() as uow:
            places = await repository.list_due_places(uow, limit=limit)
        for place in places:
            await self._start_by_itself(place)
        async with self._database.platform() as uow:
            due = await repository.list_due(uow, limit=limit)
        for one in due:
            async with self._database.tenant(one.tenant_id) as uow:
                await self.engine.defer(uow, one.id)

    async def _start_by_itself(self, place: DuePlace) -> None:
        reconcile_id = new_id()
        async with self._database.platform(acting_for=place.tenant_id) as uow:
            schedule = await repository.claim_schedule(uow, place.store_id)
            if schedule is None:
                return
            await repository.forget_old(uow, place.store_id, keep=_KEPT)
            days = schedule.older_than_days
            if await repository.insert(uow, reconcile_id, place.store_id, older_than_days=days, is_scheduled=True):
                await self.engine.defer(uow, reconcile_id)
                row = await _load(uow, reconcile_id)
                await _record(uow, WORKER, "reconcile.started", reconcile_id, store=row.store, days=days)

    async def get_schedule(self, name_or_id: str) -> StoreSchedule:
        """Whether a store is reconciled by itself, and what was found there. Raises NotFound (`store_not_found`)."""
        store = await self._stores.find_anyones(name_or_id)
        async with self._database.platform() as uow:
            schedule = await repository.find_schedule(uow, store.id)
            places = await repository.count_places(uow, store.id)
            results = await repository.list_results(uow, store.id, limit=_MOST_RESULTS)
        return StoreSchedule(store.name, schedule, places, results)

    async def set_schedule(
        self, principal: Principal, name_or_id: str, *, every_days: float | None, older_than_days: float
    ) -> StoreSchedule:
        """Have a store reconciled by itself, tenant by tenant; None: only by hand. For operators."""
        require_operator(principal)
        store = await self._stores.find_anyones(name_or_id)
        async with self._database.platform() as uow:
            if every_days is None:
                await repository.drop_schedule(uow, store.id)
            else:
                await repository.save_schedule(uow, store.id, every_days=every_days, older_than_days=older_than_days)
            await record(
                uow,
                principal,
                "store.reconcile_scheduled",
                target_type="store",
                target_id=str(store.id),
                tenant_id=store.owner_tenant_id,
                details={"name": store.name, "every_days": every_days, "older_than_days": older_than_days},
            )
        return await self.get_schedule(str(store.id))

    async def set_price(self, principal: Principal, name_or_id: str, own: OwnPrices) -> Store:
        """Say what a store costs, all of it anew, in the currency of the installation. For operators."""
        require_operator(principal)
        store = await self._stores.find_anyones(name_or_id)
        price = own.storage_per_gib_month
        async with self._database.platform() as uow:
            await repository.set_price(uow, store.id, own)
            await record(
                uow,
                principal,
                "store.priced",
                target_type="store",
                target_id=str(store.id),
                tenant_id=store.owner_tenant_id,
                details={
                    "name": store.name,
                    "price_per_gib_month": None if price is None else str(price),
                    **own.document(),
                },
            )
        return await self._stores.find_anyones(str(store.id))


async def _load(uow: UnitOfWork, reconcile_id: UUID) -> Reconcile:
    row = await repository.find(uow, reconcile_id)
    if row is None:
        raise errors.not_found()
    return row


async def _record(uow: UnitOfWork, principal: Principal, action: str, reconcile_id: UUID, **details: object) -> None:
    await record(
        uow,
        principal,
        action,
        target_type="reconcile",
        target_id=str(reconcile_id),
        tenant_id=uow.tenant_id,
        details=details,
    )
