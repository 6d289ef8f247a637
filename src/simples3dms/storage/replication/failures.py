"""Copies that are tried no more: look, and have them tried again once what was wrong is mended."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.storage.replication import repository
from simples3dms.storage.stores import errors
from simples3dms.storage.transfers import repository as transfers_repository
from simples3dms.storage.transfers.service import Transfers
from simples3dms.storage.transfers.values import TransferFailure

_BATCH: Final = 1000


class FailedCopies:
    """Of one tenant's documents, at one store. Both raise NotFound (`store_not_found`) where it has no such store."""

    def __init__(self, database: Database, transfers: Transfers) -> None:
        self._database, self._transfers = database, transfers

    async def list_page(
        self, tenant_id: UUID, store: str, *, after: UUID | None = None, limit: int = 50
    ) -> list[TransferFailure]:
        async with self._database.tenant(tenant_id) as uow:
            stores = [await _find(uow, store)]
            return await transfers_repository.list_failures(
                uow, migration_id=None, store_ids=stores, after=after, limit=limit
            )

    async def retry(self, principal: Principal, tenant_id: UUID, store: str) -> int:
        """Have up to 1,000 of them tried again, with fresh attempts; how many. What was waived stays waived."""
        async with self._database.tenant(tenant_id) as uow:
            store_id = await _find(uow, store)
            ids = await transfers_repository.revive(
                uow, migration_id=None, store_ids=[store_id], ids=None, limit=_BATCH
            )
            for transfer_id in ids:
                await self._transfers.defer_run(uow, transfer_id)
            await record(
                uow,
                principal,
                "replication.retried",
                target_type="store",
                target_id=str(store_id),
                tenant_id=tenant_id,
                details={"count": len(ids)},
            )
        return len(ids)


async def _find(uow: UnitOfWork, store: str) -> UUID:
    store_id = await repository.find_granted_id(uow, store)
    if store_id is None:
        raise errors.not_found()
    return store_id
