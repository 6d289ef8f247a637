"""How far stores are behind, and what is wrong with an installation that works."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from simples3dms.schemas.base import Response


class Lag(Response):
    """Copies that are owed. Exact, and the same to find out whatever the stores hold."""

    pending_count: int = Field(description="Copies that are owed and not made yet.")
    pending_bytes: int
    failed_count: int = Field(description="Copies that are tried no more by themselves: see to them.")
    failed_bytes: int
    waived_count: int = Field(description="Copies that somebody let stand as they are.")
    oldest_at: datetime | None = Field(description="Since when the oldest pending one is owed.")
    lag_seconds: float = Field(description="Its age; 0: none is pending.")


class StoreLag(Lag):
    store_id: UUID
    store: str
    is_brought: bool = Field(description="By a tenant.")
    is_late: bool = Field(description="Its lag is above `late_seconds`.")


class TenantLag(Lag):
    tenant_id: UUID
    tenant: str = Field(description="Its short name.")


class Replication(Response):
    """Of all tenants, the store that is most behind first: those of the platform, and of others that are behind."""

    late_seconds: float = Field(description="The setting; 0: nothing is called late.")
    stores: list[StoreLag]


class TenantReplication(Replication):
    """Of one tenant's documents, in each of its stores."""

    is_surveying: bool = Field(
        description="What the placement wants of documents that are there is being looked at: more may come to be owed."
    )


class StoreReplication(Response):
    """Of one store, with the tenants whose documents it is behind with: up to 100, the most behind first."""

    late_seconds: float
    store: StoreLag
    tenants: list[TenantLag]


class Degradation(Response):
    code: str = Field(description="Its name, stable.")
    store: str | None
    store_id: UUID | None
    since: datetime | None
    message: str


class Health(Response):
    """Everything works; this is what is not as it is to be."""

    status: str = Field(description="`ok`, or `degraded`.")
    degradations: list[Degradation]
