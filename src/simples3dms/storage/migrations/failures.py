"""What a migration could not copy: look, try again, or go on without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.kit.texts import is_line
from simples3dms.storage.migrations import errors, repository
from simples3dms.storage.migrations.engine import MigrationEngine
from simples3dms.storage.migrations.values import ENDED, MigrationRow
from simples3dms.storage.transfers import repository as transfers_repository
from simples3dms.storage.transfers.service import Transfers
from simples3dms.storage.transfers.values import TransferFailure

_RETRY_BATCH: Final = 1000


class Failures:
    """The given-up items of all migrations."""

    def __init__(self, database: Database, transfers: Transfers, engine: MigrationEngine) -> None:
        self._database = database
        self._transfers = transfers
        self._engine = engine

    async def list_page(
        self, tenant_id: UUID, migration_id: UUID, *, after: UUID | None = None, limit: int = 50
    ) -> list[TransferFailure]:
        """The items that were given up, with the reason, for a person to mend and retry, or to waive."""
        async with self._database.tenant(tenant_id) as uow:
            row = await repository.find(uow, migration_id)
            if row is None:
                raise errors.not_found()
            return await transfers_repository.list_failures(
                uow, migration_id=row.id, store_ids=_stores_of(row), after=after, limit=limit
            )

    async def retry(
        self, principal: Principal, tenant_id: UUID, migration_id: UUID, failure_ids: Sequence[UUID] | None = None
    ) -> int:
        """Try given-up items again, all or the named ones, waived ones among these; how many.

        One name that is none of this migration's failures, and nothing is done: NotFound (`failure_not_found`).
        """
        async with self._database.tenant(tenant_id) as uow:
            row = await _lock(uow, migration_id)
            ids = await transfers_repository.revive(
                uow, migration_id=row.id, store_ids=_stores_of(row), ids=failure_ids, limit=_RETRY_BATCH
            )
            if failure_ids is not None and set(ids) != set(failure_ids):
                raise errors.failure_not_found()
            if failure_ids is not None:
                # Some may have been waived, and so left out of the proof: a cut-over has to prove all anew.
                await repository.forget_proof(uow, row)
            for transfer_id in ids:
                await self._transfers.defer_run(uow, transfer_id)
            await _record(uow, principal, "migration.retried", row.id, count=len(ids))
        return len(ids)

    async def waive(
        self, principal: Principal, tenant_id: UUID, migration_id: UUID, failure_ids: Sequence[UUID], *, reason: str
    ) -> int:
        """Go on without these given-up items, which stay where they are; how many.

        They hold neither the cut-over nor the end up any more, and what there is of them at the store that is left
        stays there, readable. Retrying one by name takes its waiver back. One name that is none of this migration's
        failures, and nothing is done: NotFound (`failure_not_found`). Raises Invalid (`waiver_reason_invalid`),
        Conflict (`migration_wrong_state`) once the migration has ended.
        """
        if not is_line(reason):
            raise errors.reason_invalid()
        wanted = set(failure_ids)
        async with self._database.tenant(tenant_id) as uow:
            row = await _lock(uow, migration_id)
            if row.state in ENDED:
                raise errors.wrong_state("leave items behind", row.state)
            waived = await transfers_repository.waive(
                uow, migration_id=row.id, store_ids=_stores_of(row), ids=list(wanted), reason=reason
            )
            if set(waived) != wanted:
                raise errors.failure_not_found()
            await self._engine.defer_advance(uow, row.id)
            await _record(uow, principal, "migration.waived", row.id, items=sorted(map(str, wanted)), reason=reason)
        return len(wanted)


async def _lock(uow: UnitOfWork, migration_id: UUID) -> MigrationRow:
    """Waits for a cut-over that is being decided, and is waited for by the next."""
    row = await repository.lock(uow, migration_id)
    if row is None:
        raise errors.not_found()
    return row


async def _record(uow: UnitOfWork, principal: Principal, action: str, migration_id: UUID, **details: object) -> None:
    await record(
        uow,
        principal,
        action,
        target_type="migration",
        target_id=str(migration_id),
        tenant_id=uow.tenant_id,
        details=details,
    )


def _stores_of(row: MigrationRow) -> list[UUID]:
    """The stores towards which any failed copy holds the migration up; none once it has ended."""
    return [] if row.state in ENDED else [row.source_store_id, row.target_store_id]
