"""Say what is wrong with an installation that works: for people, for Prometheus, and in the log when it begins."""

from __future__ import annotations

from collections import Counter
from typing import Final
from uuid import UUID

import structlog

from simples3dms.db.session import Database
from simples3dms.storage.health import repository
from simples3dms.storage.health.values import MEANINGS, Degradation
from simples3dms.storage.reconciles import repository as reconciles_repository
from simples3dms.storage.replication.service import Replication
from simples3dms.storage.replication.values import StoreLag
from simples3dms.storage.restores.service import RestoreGuard
from simples3dms.telemetry.metrics import Gauge

log = structlog.get_logger(__name__)

#: Of each store of the platform, and of all stores together that tenants brought.
_LAG_GAUGES: Final = (
    ("pending_copies", "Copies that are owed to a store.", "pending_count"),
    ("pending_bytes", "And their bytes.", "pending_bytes"),
    ("lag_seconds", "Age of the oldest copy that is owed to a store; 0: none is.", "lag_seconds"),
    ("failed_copies", "Copies to a store that are tried no more by themselves.", "failed_count"),
)


class Health:
    """The installation's, over all tenants and stores."""

    def __init__(self, database: Database, replication: Replication, restores: RestoreGuard) -> None:
        self._database, self._replication, self._restores = database, replication, restores
        self._told: set[tuple[str, UUID | None]] = set()

    async def list_degradations(self) -> list[Degradation]:
        """What is wrong now. Empty: nothing is that anybody looked at."""
        return await self._degradations(await self._replication.of_all())

    async def _degradations(self, lags: list[StoreLag]) -> list[Degradation]:
        found = []
        guard = await self._restores.get()
        if guard.held_at is not None:
            found.append(Degradation("removals_held", None, None, guard.held_at, guard.held_reason or ""))
        async with self._database.platform() as uow:
            for store in await repository.list_untrusted(uow):
                reason = store.untrusted_reason
                found.append(Degradation("store_untrusted", store.id, store.name, store.untrusted_at, reason))
            for one in await reconciles_repository.list_found(uow):
                message = f"{one.unexplained_count} objects that no record explains, of {one.place_count} tenants"
                found.append(Degradation("reconcile_found", one.store_id, one.store, one.since, message))
        for lag in lags:
            if lag.is_later_than(self._replication.late_seconds):
                message = f"{lag.pending_count} copies wait, the oldest for {lag.lag_seconds:.0f} seconds"
                found.append(Degradation("replication_late", lag.store_id, lag.store, lag.oldest_at, message))
            if lag.failed_count:
                message = f"{lag.failed_count} copies have failed"
                found.append(Degradation("copies_failed", lag.store_id, lag.store, None, message))
        return found

    async def measure(self) -> list[Gauge]:
        """The numbers behind it. One series for each store of the platform, whatever tenants there are."""
        lags = await self._replication.of_all()
        of_platform = [lag for lag in lags if not lag.is_brought]
        brought = [lag for lag in lags if lag.is_brought]
        gauges = []
        for name, meaning, field in _LAG_GAUGES:
            total = max if name == "lag_seconds" else sum
            values = [({"store": lag.store, "owner": "platform"}, float(getattr(lag, field))) for lag in of_platform]
            values.append(({"owner": "tenants"}, float(total([0, *(getattr(lag, field) for lag in brought)]))))
            gauges.append(Gauge(f"simples3dms_replication_{name}", meaning, values))
        count = Counter(one.code for one in await self._degradations(lags))
        degraded = [({"code": code}, float(count[code])) for code in MEANINGS]
        return [*gauges, Gauge("simples3dms_degradations", "What is wrong, by name: at how many places.", degraded)]

    async def tell(self) -> None:
        """Log what has begun to be wrong, and what has ended, since the last time. For the watchdog."""
        found = {(one.code, one.store_id): one for one in await self.list_degradations()}
        for key, one in found.items():
            if key not in self._told:
                log.warning("health.degraded", code=one.code, store=one.store, reason=one.message)
        for code, store_id in self._told - set(found):
            log.info("health.mended", code=code, store_id=str(store_id) if store_id else None)
        self._told = set(found)
