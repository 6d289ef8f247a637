"""Scrubs, doubtful replicas and the trust in stores, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal
from uuid import UUID

from simples3dms.client.transport import Transport, at, iter_pages
from simples3dms.schemas import upkeep
from simples3dms.schemas.base import Page
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

    def trust_store(self, store: str, *, reason: str) -> Store:
        return self.send("POST", Store, at("stores", store, "trust"), upkeep.TrustStore(reason=reason))

    def get_restore(self) -> upkeep.RestoreGuard:
        """Whether removals are held back."""
        return self.get(upkeep.RestoreGuard, at("restore"))

    def declare_restore(self, *, reason: str) -> upkeep.RestoreGuard:
        return self.send("POST", upkeep.RestoreGuard, at("restore", "declare"), upkeep.DeclareRestore(reason=reason))

    def confirm_restore(self) -> upkeep.RestoreGuard:
        return self.send("POST", upkeep.RestoreGuard, at("restore", "confirm"))
