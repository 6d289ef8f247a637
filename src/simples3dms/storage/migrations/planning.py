"""What a migration would take: what there is to move and what that costs, without a look at the catalogue."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from simples3dms.context import Principal
from simples3dms.db.session import Database
from simples3dms.errors import Failure
from simples3dms.providers.errors import ProviderError
from simples3dms.storage.counters import repository as counters
from simples3dms.storage.migrations.chunks import repository as chunks
from simples3dms.storage.migrations.pace import Stretch, floor_seconds, limits_of, pace_of, stretches
from simples3dms.storage.migrations.values import Schedule
from simples3dms.storage.prices.service import move_cost
from simples3dms.storage.prices.values import Load, Site
from simples3dms.storage.stores import repository as stores_repository
from simples3dms.storage.stores.errors import explain
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.stores.traits import prices_of
from simples3dms.storage.stores.values import PricedStore

_DAY_SECONDS: Final = 86_400


class Planner:
    """Works plans out. It changes nothing."""

    def __init__(self, database: Database, stores: Stores, *, currency: str) -> None:
        """`currency`: of the prices that operators set."""
        self._database = database
        self._stores = stores
        self._currency = currency

    async def blockers(self, store_id: UUID) -> tuple[str, ...]:
        """What is in the way of using the store now."""
        try:
            provider = await self._stores.provider(store_id)
            await provider.check()
        except ProviderError as error:
            return (explain(error).message,)
        except Failure as error:
            return (error.message,)
        return ()

    async def plan(
        self, principal: Principal, tenant_id: UUID, *, source_id: UUID, target_id: UUID, schedule: Schedule
    ) -> dict[str, Any]:
        """The plan of moving the tenant, as `looking.plan_in_words` reads it. Outside any transaction."""
        blockers = await self.blockers(target_id)
        async with self._database.tenant(tenant_id) as uow:
            loads = {one.store_id: Load(one.blob_count, one.size_bytes) for one in await counters.list_totals(uow)}
            stores = {one.id: one for one in await stores_repository.list_priced(uow, [source_id, target_id])}
        nothing = Load(0, 0)
        total, at_target = loads.get(None, nothing), loads.get(target_id, nothing)
        source = self._site(stores[source_id], None)
        target = self._site(stores[target_id], await self._stores.part_bytes(target_id))
        seconds = schedule.finalize_after_seconds
        cost = move_cost(
            source,
            target,
            total=total,
            at_source=loads.get(source_id, nothing),
            at_target=at_target,
            window_days=None if seconds is None else Decimal(seconds) / _DAY_SECONDS,
        )
        moved = total - at_target
        measured, basis = await self._measured(principal, tenant_id, source_id, target_id)
        limits = [limits_of(self._stores.tuned(stores[store_id].tuning)) for store_id in (source_id, target_id)]
        floor = floor_seconds(moved, source=limits[0], target=limits[1], part_bytes=target.part_bytes)
        return {
            "blob_count": total.count,
            "size_bytes": total.size_bytes,
            "moved_count": moved.count,
            "moved_bytes": moved.size_bytes,
            "blockers": list(blockers),
            "cost": cost.document(),
            "time": pace_of(moved, measured, basis=basis, floor=floor).document(),
        }

    async def _measured(
        self, principal: Principal, tenant_id: UUID, source_id: UUID, target_id: UUID
    ) -> tuple[list[Stretch], str]:
        """At what pace was copied lately. What others' moves tell is for operators only."""
        unit = self._database.platform() if principal.is_operator else self._database.tenant(tenant_id)
        async with unit as uow:
            runs = await chunks.list_runs(uow, target_store_id=target_id, source_store_id=source_id)
            if runs:
                return stretches(runs), "between_stores"
            return stretches(await chunks.list_runs(uow, target_store_id=target_id, source_store_id=None)), "to_store"

    def _site(self, store: PricedStore, part_bytes: int | None) -> Site:
        return Site(store.name, prices_of(store, self._currency), part_bytes)
