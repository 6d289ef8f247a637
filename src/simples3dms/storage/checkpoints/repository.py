"""SQL of the checkpoints' copies. The key has its row before the object is there."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.checkpoints.values import Copy


async def insert(uow: UnitOfWork, seq: int, places: Sequence[tuple[UUID, str]]) -> None:
    """Plan a copy at each store and key; those that are planned already stay. None for a tenant that is deleted."""
    await uow.execute(
        """INSERT INTO audit_copies (tenant_id, seq, store_id, key, state)
           SELECT %s, %s, store_id, key, 'writing' FROM unnest(%s::uuid[], %s::text[]) AS given (store_id, key)
           WHERE EXISTS (SELECT 1 FROM tenants WHERE id = %s AND deleting_at IS NULL) ON CONFLICT DO NOTHING""",
        [uow.tenant_id, seq, [store_id for store_id, _ in places], [key for _, key in places], uow.tenant_id],
    )


async def list_due_tenants(uow: UnitOfWork, *, limit: int) -> list[UUID]:
    """For the platform's unit of work. The rows that are looked at are those that are due."""
    return await uow.scalars(
        """SELECT DISTINCT tenant_id FROM (
             SELECT tenant_id FROM audit_copies WHERE state = 'writing' AND due_at <= now()
             ORDER BY due_at LIMIT %s) due""",
        [limit],
    )


async def claim(uow: UnitOfWork, *, lease_seconds: float, limit: int) -> list[Copy]:
    """Take due copies; nobody else gets them before the lease has run out."""
    return await uow.rows(
        Copy,
        """UPDATE audit_copies c SET due_at = now() + make_interval(secs => %(lease)s::float8), fence = fence + 1,
             attempt = attempt + 1
           FROM (SELECT tenant_id, seq, store_id FROM audit_copies
                 WHERE tenant_id = %(tenant)s AND state = 'writing' AND due_at <= now()
                   AND EXISTS (SELECT 1 FROM tenants WHERE id = %(tenant)s AND deleting_at IS NULL)
                 ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED) due
           WHERE (c.tenant_id, c.seq, c.store_id) = (due.tenant_id, due.seq, due.store_id)
           RETURNING c.seq, c.store_id, c.key, c.fence""",
        {"tenant": uow.tenant_id, "lease": lease_seconds, "limit": limit},
    )


async def settle(uow: UnitOfWork, copy: Copy) -> None:
    await uow.execute(
        """UPDATE audit_copies SET state = 'stored', stored_at = now(), last_error = NULL
           WHERE tenant_id = %s AND seq = %s AND store_id = %s AND fence = %s""",
        [uow.tenant_id, copy.seq, copy.store_id, copy.fence],
    )


async def postpone(uow: UnitOfWork, copy: Copy, *, error: str, base_seconds: float) -> None:
    """Try again later: after twice as long each time, and hourly in the end."""
    await uow.execute(
        """UPDATE audit_copies SET last_error = %s,
             due_at = now() + make_interval(secs => least(3600, %s::float8 * power(2, least(attempt, 20) - 1)))
           WHERE tenant_id = %s AND seq = %s AND store_id = %s AND fence = %s""",
        [error, base_seconds, uow.tenant_id, copy.seq, copy.store_id, copy.fence],
    )


async def count_waiting(uow: UnitOfWork) -> int:
    """Counted up to 1,000."""
    return int(
        await uow.scalar(
            """SELECT count(*) FROM (SELECT 1 FROM audit_copies WHERE tenant_id = %s AND state = 'writing'
               LIMIT 1000) x""",
            [uow.tenant_id],
        )
    )
