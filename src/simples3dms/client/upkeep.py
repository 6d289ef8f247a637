"""Scrubs, doubtful replicas and the trust in stores, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Literal
from uuid import UUID

from simples3dms.client.transport import Transport, at, iter_pages
from simples3dms.schemas import upkeep
from simples3dms.schemas.base import Page
from simples3dms.schemas.costs import OwnPrices
from simples3dms.schemas.stores import Store

_PAGE = 200


class UpkeepMixin(Transport):
    """What keeps the bytes in stores good."""

    def start_scrub(self, tenant: str, *, store: str, level: Literal["light", "deep"] = "light") -> upkeep.Scrub:
        body = upkeep.StartScrub(store=store, level=level)
        return self.send("POST", upkeep.Scrub, at("tenants", tenant, "scrubs"), body)

    def iter_scrubs(self, tenant: str) -> Iterator[upkeep.Scrub]:
        """Newest first."""
        path = at("tenants", tenant, "scrubs")
        return iter_pages(lambda after: self.get(Page[upkeep.Scrub], path, limit=_PAGE, after=after))

    def get_scrub(self, tenant: str, scrub_id: UUID) -> upkeep.Scrub:
        return self.get(upkeep.Scrub, at("tenants", tenant, "scrubs", scrub_id))

    def pause_scrub(self, tenant: str, scrub_id: UUID) -> upkeep.Scrub:
        return self.send("POST", upkeep.Scrub, at("tenants", tenant, "scrubs", scrub_id, "pause"))

    def resume_scrub(self, tenant: str, scrub_id: UUID) -> upkeep.Scrub:
        return self.send("POST", upkeep.Scrub, at("tenants", tenant, "scrubs", scrub_id, "resume"))

    def iter_doubtful_replicas(self, tenant: str) -> Iterator[upkeep.DoubtfulReplica]:
        path = at("tenants", tenant, "doubtful-replicas")
        return iter_pages(lambda after: self.get(Page[upkeep.DoubtfulReplica], path, limit=_PAGE, after=after))

    def repair_replicas(self, tenant: str, *, store: str | None = None) -> int:
        """Have all that is doubtful copied anew; how many replicas that are."""
        count, after = 0, None
        while True:
            body = upkeep.RepairReplicas(store=store, after=after)
            done = self.send("POST", upkeep.Repaired, at("tenants", tenant, "repairs"), body)
            count, after = count + done.count, done.next_after
            if after is None:
                return count

    def trust_store(self, store: str, *, reason: str) -> Store:
        return self.send("POST", Store, at("stores", store, "trust"), upkeep.TrustStore(reason=reason))

    def get_restore(self) -> upkeep.RestoreGuard:
        """Whether removals are held back."""
        return self.get(upkeep.RestoreGuard, at("restore"))

    def declare_restore(self, *, reason: str) -> upkeep.RestoreGuard:
        return self.send("POST", upkeep.RestoreGuard, at("restore", "declare"), upkeep.DeclareRestore(reason=reason))

    def confirm_restore(self) -> upkeep.RestoreGuard:
        return self.send("POST", upkeep.RestoreGuard, at("restore", "confirm"))

    def set_price(self, store: str, price_per_gib_month: Decimal | None, others: OwnPrices = OwnPrices()) -> Store:
        """All that is said of its prices: what is left out is as the price list of its service says."""
        body = upkeep.SetPrice(price_per_gib_month=price_per_gib_month, **others.model_dump())
        return self.send("PUT", Store, at("stores", store, "price"), body)

    def get_reconcile_schedule(self, store: str) -> upkeep.StoreSchedule:
        """With what was found there (operators)."""
        return self.get(upkeep.StoreSchedule, at("stores", store, "reconcile-schedule"))

    def set_reconcile_schedule(
        self, store: str, *, every_days: float | None, older_than_days: float = 7
    ) -> upkeep.StoreSchedule:
        """None: only by hand (operators)."""
        body = upkeep.SetReconcileSchedule(every_days=every_days, older_than_days=older_than_days)
        return self.send("PUT", upkeep.StoreSchedule, at("stores", store, "reconcile-schedule"), body)

    def start_reconcile(self, tenant: str, *, store: str, older_than_days: float = 7) -> upkeep.Reconcile:
        body = upkeep.StartReconcile(store=store, older_than_days=older_than_days)
        return self.send("POST", upkeep.Reconcile, at("tenants", tenant, "reconciles"), body)

    def iter_reconciles(self, tenant: str) -> Iterator[upkeep.Reconcile]:
        """Newest first."""
        path = at("tenants", tenant, "reconciles")
        return iter_pages(lambda after: self.get(Page[upkeep.Reconcile], path, limit=_PAGE, after=after))

    def get_reconcile(self, tenant: str, reconcile_id: UUID) -> upkeep.Reconcile:
        return self.get(upkeep.Reconcile, at("tenants", tenant, "reconciles", reconcile_id))

    def iter_reconcile_findings(self, tenant: str, reconcile_id: UUID) -> Iterator[upkeep.ReconcileFinding]:
        """By key and version."""
        path, key, version = at("tenants", tenant, "reconciles", reconcile_id, "findings"), "", ""
        while True:
            page = self.list_all(
                upkeep.ReconcileFinding, path, limit=_PAGE, after_key=key or None, after_version=version or None
            )
            yield from page
            if len(page) < _PAGE:
                return
            key, version = page[-1].key, page[-1].version_id

    def remove_unexplained(self, tenant: str, reconcile_id: UUID, *, count: int) -> upkeep.Reconcile:
        """`count`: how many things that are, as the reconcile says."""
        path = at("tenants", tenant, "reconciles", reconcile_id, "remove")
        return self.send("POST", upkeep.Reconcile, path, upkeep.RemoveUnexplained(count=count))
