"""SQL of notices: recorded in the tenant's unit of work, made letters of in the platform's."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.storage.notices.values import DueNotice, NoticeLetter


async def insert(uow: UnitOfWork, notice_id: UUID, *, migration_id: UUID, state: str) -> None:
    """The change that this is about commits with it, or neither does."""
    await uow.execute(
        "INSERT INTO notices (tenant_id, id, migration_id, state) VALUES (%s, %s, %s, %s)",
        [uow.tenant_id, notice_id, migration_id, state],
    )


async def take_due(uow: UnitOfWork, *, limit: int) -> list[DueNotice]:
    """Notices that have not been taken, oldest first, taken with this unit of work and by no other."""
    return await uow.rows(
        DueNotice,
        """WITH due AS (SELECT tenant_id, id FROM notices WHERE taken_at IS NULL ORDER BY at LIMIT %s
             FOR UPDATE SKIP LOCKED),
           taken AS (UPDATE notices n SET taken_at = now() FROM due WHERE n.tenant_id = due.tenant_id AND n.id = due.id
             RETURNING n.tenant_id, n.id, n.at)
           SELECT taken.tenant_id, taken.id, coalesce(s.migration_letters, true) AS is_wanted FROM taken
             LEFT JOIN tenant_settings s ON s.tenant_id = taken.tenant_id ORDER BY taken.at""",
        [limit],
    )


async def list_readers(uow: UnitOfWork, tenant_id: UUID, *, roles: Sequence[str]) -> list[UUID]:
    """The tenant's people with one of these roles; no service, and nobody who is disabled."""
    return await uow.scalars(
        """SELECT u.id FROM members m JOIN users u ON u.id = m.user_id WHERE m.tenant_id = %s AND m.role = ANY (%s)
             AND NOT u.is_service AND u.disabled_at IS NULL ORDER BY u.id""",
        [tenant_id, list(roles)],
    )


async def insert_letter(uow: UnitOfWork, notice: DueNotice, letter_id: UUID, *, user_id: UUID) -> None:
    await uow.execute(
        "INSERT INTO notice_letters (tenant_id, id, notice_id, user_id) VALUES (%s, %s, %s, %s)",
        [notice.tenant_id, letter_id, notice.id, user_id],
    )


async def find_letter(uow: UnitOfWork, letter_id: UUID, *, roles: Sequence[str]) -> NoticeLetter | None:
    """None if it is for somebody who has left, or of a tenant that is ended or wants no more of them."""
    return await uow.find(
        NoticeLetter,
        """SELECT u.email, t.slug AS tenant_slug, t.name AS tenant_name, n.migration_id, a.name AS source,
             b.name AS target, n.state, CASE WHEN n.state = 'failed' THEN g.error_message END AS error_message
           FROM notice_letters l JOIN notices n ON n.tenant_id = l.tenant_id AND n.id = l.notice_id
             JOIN migrations g ON g.tenant_id = n.tenant_id AND g.id = n.migration_id
             JOIN stores a ON a.id = g.source_store_id JOIN stores b ON b.id = g.target_store_id
             JOIN tenants t ON t.id = l.tenant_id AND t.deleting_at IS NULL
             JOIN users u ON u.id = l.user_id AND u.disabled_at IS NULL
             JOIN members m ON m.tenant_id = l.tenant_id AND m.user_id = l.user_id AND m.role = ANY (%s)
             LEFT JOIN tenant_settings s ON s.tenant_id = l.tenant_id
           WHERE l.id = %s AND coalesce(s.migration_letters, true)""",
        [list(roles), letter_id],
    )
