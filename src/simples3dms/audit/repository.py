"""SQL of the audit: rows are added and read, never changed."""

from __future__ import annotations

from uuid import UUID

from psycopg.types.json import Jsonb

from simples3dms.audit.values import AuditEvent
from simples3dms.db.session import UnitOfWork


async def insert(uow: UnitOfWork, tenant_id: UUID, event: AuditEvent) -> None:
    """Add an event; the database's clock says when."""
    await uow.execute(
        """INSERT INTO audit_events (tenant_id, id, principal_id, principal_name, action, target_type, target_id,
             outcome, details) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)""",
        [
            tenant_id,
            event.id,
            event.principal_id,
            event.principal_name,
            event.action,
            event.target_type,
            event.target_id,
            event.outcome,
            Jsonb(event.details),
        ],
    )


async def list_page(uow: UnitOfWork, tenant_id: UUID, *, after: UUID | None, limit: int) -> list[AuditEvent]:
    """Newest first."""
    return await uow.rows(
        AuditEvent,
        """SELECT id, at, principal_id, principal_name, action, target_type, target_id, outcome, details
           FROM audit_events WHERE tenant_id = %(tenant)s AND (%(after)s::uuid IS NULL OR id < %(after)s)
           ORDER BY id DESC LIMIT %(limit)s""",
        {"tenant": tenant_id, "after": after, "limit": limit},
    )
