"""Deleting a tenant, as people do it: ask, cancel, confirm, look, and keep the certificate."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.compliance.deletions import errors, repository
from simples3dms.compliance.deletions.engine import DeletionEngine
from simples3dms.compliance.deletions.values import Deletion, State
from simples3dms.context import Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.documents.holds import repository as holds_repository
from simples3dms.errors import Conflict
from simples3dms.kit.ids import new_id
from simples3dms.kit.texts import is_line
from simples3dms.tenants.values import Tenant


class Deletions:
    """The deletions of all tenants."""

    def __init__(self, database: Database, engine: DeletionEngine, *, wait_days: float) -> None:
        self._database = database
        self._engine = engine
        self._wait_days = wait_days

    async def request_deletion(self, principal: Principal, tenant: Tenant, *, short_name: str, reason: str) -> Deletion:
        """Ask for a tenant to be deleted: nothing happens until it is confirmed. For owners and operators.

        Raises Invalid (`short_name_differs`, `deletion_reason_invalid`), Conflict (`tenant_kept`, `deletion_exists`).
        """
        if short_name != tenant.slug:
            raise errors.short_name_differs()
        if not is_line(reason):
            raise errors.reason_invalid()
        await self._require_unkept(principal, tenant.id, "tenant.deletion_requested")
        async with self._database.platform() as uow:
            deletion = await repository.insert(
                uow,
                new_id(),
                tenant.id,
                reason,
                by=principal.id,
                name=principal.name,
                wait_days=self._wait_days,
            )
            if deletion is None:
                current = await repository.find_current(uow, tenant.id)
                raise errors.exists(current.state if current else State.DONE)
            details = {"reason": reason, "waits_until": deletion.waits_until.isoformat()}
            await _audit(uow, principal, "tenant.deletion_requested", tenant.id, details)
            return deletion

    async def cancel_deletion(self, principal: Principal, tenant_id: UUID) -> None:
        """Take the request back, as long as it was not confirmed.

        Raises NotFound (`deletion_not_found`), Conflict (`deletion_wrong_state`).
        """
        async with self._database.platform() as uow:
            deletion = await _lock(uow, tenant_id)
            await repository.cancel(uow, deletion, name=principal.name)
            await _audit(uow, principal, "tenant.deletion_cancelled", tenant_id, {})

    async def confirm_deletion(self, principal: Principal, tenant: Tenant, *, short_name: str) -> Deletion:
        """Have the tenant deleted, for good. Another owner or operator than who asked may at once, who asked only
        after the wait.

        Raises Invalid (`short_name_differs`), NotFound (`deletion_not_found`), Conflict (`tenant_kept`,
        `deletion_waits`, `deletion_wrong_state`).
        """
        if short_name != tenant.slug:
            raise errors.short_name_differs()
        await self._require_unkept(principal, tenant.id, "tenant.deletion_confirmed")
        async with self._database.platform() as uow:
            deletion = await _lock(uow, tenant.id)
            if deletion.is_waiting and principal.id == deletion.requested_by:
                raise errors.waits(deletion.waits_until)
            await repository.confirm(uow, deletion, by=principal.id, name=principal.name)
            details = {"deletion": str(deletion.id), "requested_by": deletion.requested_by_name}
            await _audit(uow, principal, "tenant.deletion_confirmed", tenant.id, details)
            await self._engine.defer(uow, tenant.id, deletion.id)
            confirmed = await repository.find_current(uow, tenant.id)
            assert confirmed is not None
            return confirmed

    async def _require_unkept(self, principal: Principal, tenant_id: UUID, action: str) -> None:
        async with self._database.tenant(tenant_id) as uow:
            document_id = await holds_repository.find_kept(uow)
        if document_id is not None:
            failure: Conflict = errors.kept(document_id)
            async with self._database.platform() as uow:
                await _audit(uow, principal, action, tenant_id, {"code": failure.problem_code}, outcome="refused")
            raise failure

    async def get_deletion(self, tenant_id: UUID) -> Deletion:
        """A tenant's deletion that was not cancelled. Raises NotFound (`deletion_not_found`)."""
        async with self._database.platform() as uow:
            deletion = await repository.find_current(uow, tenant_id)
        if deletion is None:
            raise errors.not_found()
        return deletion

    async def get_deletion_by_id(self, deletion_id: UUID) -> Deletion:
        """One of whatever state. Raises NotFound (`deletion_not_found`)."""
        async with self._database.platform() as uow:
            deletion = await repository.find(uow, deletion_id)
        if deletion is None:
            raise errors.not_found()
        return deletion

    async def list_deletions(self, *, after: UUID | None = None, limit: int = 100) -> list[Deletion]:
        """A page, newest first, those that were cancelled or are done too."""
        async with self._database.platform() as uow:
            return await repository.list_page(uow, after=after, limit=limit)

    async def get_certificate(self, deletion_id: UUID) -> dict[str, Any]:
        """What was deleted, when, by whom. Raises NotFound (`deletion_not_found`), Conflict (`deletion_not_done`)."""
        deletion = await self.get_deletion_by_id(deletion_id)
        if deletion.certificate is None:
            raise errors.no_certificate()
        return deletion.certificate


async def _lock(uow: UnitOfWork, tenant_id: UUID) -> Deletion:
    deletion = await repository.find_current(uow, tenant_id, lock=True)
    if deletion is None:
        raise errors.not_found()
    if deletion.state != State.REQUESTED:
        raise errors.wrong_state(deletion.state)
    return deletion


async def _audit(
    uow: UnitOfWork,
    principal: Principal,
    action: str,
    tenant_id: UUID,
    details: dict[str, str],
    *,
    outcome: str = "done",
) -> None:
    await record(
        uow,
        principal,
        action,
        target_type="tenant",
        target_id=str(tenant_id),
        tenant_id=tenant_id,
        outcome=outcome,
        details=details,
    )
