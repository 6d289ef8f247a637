"""How far stores are behind, and the installation's health, over HTTP."""

from __future__ import annotations

from simples3dms.client.transport import Transport, at
from simples3dms.schemas import replication


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

    def get_health(self) -> replication.Health:
        """What is wrong, by name (operators)."""
        return self.get(replication.Health, at("health"))

    def get_metrics(self) -> str:
        """Numbers in Prometheus' text format (operators)."""
        return self.call("GET", at("metrics")).decode()
