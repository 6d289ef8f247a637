"""Say how far stores are behind: for a tenant, of a store, of all. It costs the same whatever they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from simples3dms.db.session import Database
from simples3dms.storage.replication import repository
from simples3dms.storage.replication.failures import FailedCopies
from simples3dms.storage.replication.values import StoreLag, TenantLag
from simples3dms.storage.stores.service import Stores
from simples3dms.storage.transfers.service import Transfers

_MOST_TENANTS: Final = 100


@dataclass(frozen=True, slots=True)
class TenantReplication:
    """`is_surveying`: more may come to be owed, since a placement was changed."""

    stores: list[StoreLag]
    is_surveying: bool


@dataclass(frozen=True, slots=True)
class StoreReplication:
    store: StoreLag
    tenants: list[TenantLag]


class Replication:
    """`late_seconds`: a store is late whose oldest pending copy is older than that; 0: none ever is."""

    def __init__(self, database: Database, stores: Stores, transfers: Transfers, *, late_seconds: float) -> None:
        self._database, self._stores = database, stores
        self.failures = FailedCopies(database, transfers)
        self.late_seconds = late_seconds

    async def of_tenant(self, tenant_id: UUID) -> TenantReplication:
        async with self._database.tenant(tenant_id) as uow:
            return TenantReplication(await repository.list_of_tenant(uow), await repository.is_surveying(uow))

    async def of_all(self) -> list[StoreLag]:
        """Of all tenants together; the store that is most behind first."""
        async with self._database.platform() as uow:
            return await repository.list_of_all(uow)

    async def of_store(self, name_or_id: str) -> StoreReplication:
        """With up to 100 of the tenants whose blobs it is owed. Raises NotFound (`store_not_found`)."""
        store = await self._stores.find_anyones(name_or_id)
        async with self._database.platform() as uow:
            tenants = await repository.list_of_store(uow, store.id, limit=_MOST_TENANTS)
            return StoreReplication(await repository.get_of_store(uow, store.id), tenants)
