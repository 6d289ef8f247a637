"""What a migration would take: what there is to move and what that costs.

Only where rules or conditions leave some of a tenant where it is, the catalogue is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from simples3dms.context import Principal
from simples3dms.db.session import Database
from simples3dms.errors import Failure
from simples3dms.providers.errors import ProviderError
from simples3dms.storage.blobs import repository as blobs_repository
from simples3dms.storage.blobs.proofs import READ_BACK, Proof
from simples3dms.storage.counters import repository as counters
from simples3dms.storage.migrations import parts_of
from simples3dms.storage.migrations.canary import Canaries
from simples3dms.storage.migrations.chunks import repository as chunks
from simples3dms.storage.migrations.pace import Stretch, floor_seconds, limits_of, pace_by_canary, pace_of, stretches
from simples3dms.storage.migrations.values import Schedule
from simples3dms.storage.placement.turns import Move
from simples3dms.storage.placement.values import Grant, PlacementRow
from simples3dms.storage.prices.service import move_cost
from simples3dms.storage.prices.values import Beside, Load, Site
from simples3dms.storage.stores import repository as stores_repository
from simples3dms.storage.stores.errors import explain
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.stores.traits import prices_of

_DAY_SECONDS: Final = 86_400
_NOTHING: Final = Load(0, 0)


class Planner:
    """Works plans out. It changes nothing."""

    def __init__(self, database: Database, stores: Stores, canaries: Canaries, *, currency: str, workers: int) -> None:
        """`currency`: of the prices that operators set. `workers`: objects that one process copies at a time."""
        self._database = database
        self._stores = stores
        self._canaries = canaries
        self._currency = currency
        self._workers = workers

    async def blockers(self, tenant_id: UUID, store_id: UUID) -> tuple[str, ...]:
        """What is in the way of using the store now."""
        try:
            provider = await self._stores.provider(store_id)
            await provider.check()
        except ProviderError as error:
            return (explain(error).message,)
        except Failure as error:
            return (error.message,)
        async with self._database.tenant(tenant_id) as uow:
            is_trusted = await blobs_repository.is_trusted(uow, store_id)
        return () if is_trusted else ("much of what the target holds was bad, and no operator trusts it again yet",)

    async def plan(
        self,
        principal: Principal,
        tenant_id: UUID,
        *,
        placement: PlacementRow,
        move: Move,
        target: Grant,
        schedule: Schedule,
        proof: Proof = READ_BACK,
        with_canary: bool = False,
    ) -> dict[str, Any]:
        """The plan of a move, as `looking.plan_in_words` reads it. Outside any transaction.

        Of a catalogue that is too large to be counted whole, all of it is of what was counted: `is_exact` says so.
        """
        canary = await self._canaries.run(tenant_id, target) if with_canary else None
        blockers = await self.blockers(tenant_id, target.store_id)
        async with self._database.tenant(tenant_id) as uow:
            loads = {one.store_id: Load(one.blob_count, one.size_bytes) for one in await counters.list_totals(uow)}
            found = await stores_repository.list_priced(uow, [move.source, move.target])
        stores = {one.id: one for one in found}
        leaving, reached = stores[move.source], stores[move.target]
        counted = await parts_of.count(self._database, tenant_id, placement, move, loads)
        vouches = await self._stores.list_vouched(target.store_id)
        part_bytes = await self._stores.part_bytes(target.store_id)
        seconds = schedule.finalize_after_seconds
        cost = move_cost(
            Site(leaving.name, prices_of(leaving, self._currency)),
            Site(reached.name, prices_of(reached, self._currency), part_bytes),
            total=counted.part,
            at_source=counted.at_source,
            at_target=counted.at_target,
            window_days=None if seconds is None else Decimal(seconds) / _DAY_SECONDS,
            beside=Beside(
                leaving=counted.leaving - counted.at_source,
                at_source=loads.get(move.source, _NOTHING) - counted.leaving,
                at_target=loads.get(move.target, _NOTHING) - counted.at_target,
            ),
        )
        moved = counted.part - counted.at_target
        measured, basis = await self._measured(principal, tenant_id, move)
        limits = [limits_of(self._stores.tuned(one.tuning)) for one in (leaving, reached)]
        floor = floor_seconds(moved, source=limits[0], target=limits[1], part_bytes=part_bytes)
        pace = pace_of(moved, measured, basis=basis, floor=floor)
        if pace.most_seconds is None and canary is not None:
            pace = pace_by_canary(moved, canary, workers=self._workers, floor=floor)
        plan = {
            "blob_count": counted.part.count,
            "size_bytes": counted.part.size_bytes,
            "left_count": counted.left.count,
            "left_bytes": counted.left.size_bytes,
            "is_exact": counted.is_exact,
            "moved_count": moved.count,
            "moved_bytes": moved.size_bytes,
            "cost": cost.document(),
            "time": pace.document(),
            "canary": canary,
            "read_back_percent": proof.read_back_percent if vouches else 100,
            "probe_verdict": reached.probe_verdict,
            "probed_at": None if reached.probed_at is None else reached.probed_at.isoformat(),
        }
        return plan | {"blockers": list(dict.fromkeys((*_standing(plan), *blockers)))}

    async def start_blockers(self, tenant_id: UUID, store_id: UUID, plan: Mapping[str, Any]) -> tuple[str, ...]:
        """What is in the way of starting a migration to the store that was planned so."""
        async with self._database.tenant(tenant_id) as uow:
            found = await stores_repository.list_priced(uow, [store_id])
        verdict = found[0].probe_verdict if found else None
        return (*_standing({**plan, "probe_verdict": verdict}), *await self.blockers(tenant_id, store_id))

    async def _measured(self, principal: Principal, tenant_id: UUID, move: Move) -> tuple[list[Stretch], str]:
        """At what pace was copied lately. What others' moves tell is for operators only."""
        unit = self._database.platform() if principal.is_operator else self._database.tenant(tenant_id)
        async with unit as uow:
            runs = await chunks.list_runs(uow, target_store_id=move.target, source_store_id=move.source)
            if runs:
                return stretches(runs), "between_stores"
            return stretches(await chunks.list_runs(uow, target_store_id=move.target, source_store_id=None)), "to_store"


def _standing(plan: Mapping[str, Any]) -> tuple[str, ...]:
    """What is in the way by what was found before: by the canary of the plan, and by the store's last probe."""
    canary = plan.get("canary") or {}
    found = []
    if canary.get("error_message"):
        found.append(f"The canary failed: {canary['error_message']} Plan anew once that is mended.")
    if plan.get("probe_verdict") == "red":
        found.append("The target's last probe found something red: see `simples3dms store probe`.")
    return tuple(found)
