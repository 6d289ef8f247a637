"""Drains of stores, over HTTP (operators)."""

from __future__ import annotations

from collections.abc import Iterator

from simples3dms.client.transport import Transport, at, iter_pages
from simples3dms.schemas import drains
from simples3dms.schemas.base import Page

_PAGE = 200


class DrainsMixin(Transport):
    """Stores that are emptied of all their tenants."""

    def start_drain(self, store: str, body: drains.StartDrain) -> drains.Drain:
        return self.send("POST", drains.Drain, at("stores", store, "drain"), body)

    def get_drain(self, store: str) -> drains.Drain:
        return self.get(drains.Drain, at("stores", store, "drain"))

    def iter_drain_tenants(self, store: str, *, state: str | None = None) -> Iterator[drains.DrainTenant]:
        path = at("stores", store, "drain", "tenants")
        return iter_pages(lambda after: self.get(Page[drains.DrainTenant], path, state=state, after=after, limit=_PAGE))

    def confirm_drain(self, store: str) -> drains.Drain:
        return self.send("POST", drains.Drain, at("stores", store, "drain", "confirm"))

    def pause_drain(self, store: str) -> drains.Drain:
        return self.send("POST", drains.Drain, at("stores", store, "drain", "pause"))

    def resume_drain(self, store: str) -> drains.Drain:
        return self.send("POST", drains.Drain, at("stores", store, "drain", "resume"))

    def cancel_drain(self, store: str) -> drains.Drain:
        return self.send("POST", drains.Drain, at("stores", store, "drain", "cancel"))
