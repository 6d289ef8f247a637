"""How far stores are behind, and the installation's health, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

from simples3dms.client.transport import Transport, at, iter_pages
from simples3dms.schemas import replication
from simples3dms.schemas.base import Page
from simples3dms.schemas.migrations import Retried, TransferFailure

_PAGE = 200
#: As many as one call has tried again.
_MOST_AT_ONCE = 1000


class ReplicationMixin(Transport):
    """What waits to be copied, and what is wrong."""

    def get_replication(self) -> replication.Replication:
        """Of all tenants (operators)."""
        return self.get(replication.Replication, at("replication"))

    def get_store_replication(self, store: str) -> replication.StoreReplication:
        """With the tenants whose documents it is behind with (operators)."""
        return self.get(replication.StoreReplication, at("stores", store, "replication"))

    def get_tenant_replication(self, tenant: str) -> replication.TenantReplication:
        return self.get(replication.TenantReplication, at("tenants", tenant, "replication"))

    def iter_failed_copies(self, tenant: str, store: str) -> Iterator[TransferFailure]:
        """Copies towards a store that are tried no more."""
        path = at("tenants", tenant, "replication", store, "failures")
        return iter_pages(lambda after: self.get(Page[TransferFailure], path, after=after, limit=_PAGE))

    def retry_failed_copies(self, tenant: str, store: str) -> int:
        """Have all of them tried again, 1,000 at a time; how many."""
        path = at("tenants", tenant, "replication", store, "retry")
        total = count = self.send("POST", Retried, path).count
        while count == _MOST_AT_ONCE:
            count = self.send("POST", Retried, path).count
            total += count
        return total

    def get_health(self) -> replication.Health:
        """What is wrong, by name (operators)."""
        return self.get(replication.Health, at("health"))

    def get_metrics(self) -> str:
        """Numbers in Prometheus' text format (operators)."""
        return self.call("GET", at("metrics")).decode()
