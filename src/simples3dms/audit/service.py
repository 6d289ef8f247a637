"""Record acts in the unit of work that does them, and list them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from simples3dms.audit import repository
from simples3dms.audit.values import AuditEvent
from simples3dms.context import PLATFORM, Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.kit.ids import new_id


async def record(
    uow: UnitOfWork,
    principal: Principal,
    action: str,
    *,
    target_type: str,
    target_id: str,
    tenant_id: UUID | None = None,
    outcome: str = "done",
    details: Mapping[str, Any] | None = None,
) -> None:
    """Add an event in the caller's unit of work: it is there if, and only if, the change is. `details`: no secrets."""
    event = AuditEvent(
        id=new_id(),
        at=datetime.now(UTC),
        principal_id=principal.id,
        principal_name=principal.name,
        action=action,
        target_type=target_type,
        target_id=target_id,
        outcome=outcome,
        details=dict(details or {}),
    )
    await repository.insert(uow, tenant_id or PLATFORM, event)


class Audit:
    """The audit of the platform and of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_events(
        self, tenant_id: UUID | None, *, after: UUID | None = None, limit: int = 100
    ) -> list[AuditEvent]:
        """A page of a tenant's events, or the platform's own (None), newest first."""
        context = self._database.platform() if tenant_id is None else self._database.tenant(tenant_id)
        async with context as uow:
            return await repository.list_page(uow, tenant_id or PLATFORM, after=after, limit=limit)
