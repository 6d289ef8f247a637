"""SQL of service principals: users that have no password."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from simples3dms.crypto.passwords import NO_PASSWORD
from simples3dms.db.session import UnitOfWork
from simples3dms.identity.services.values import Service

_SELECT: Final = """SELECT u.id, u.email, m.role, u.is_operator, u.is_auditor, u.created_at, u.disabled_at
  FROM users u LEFT JOIN members m ON m.tenant_id = u.of_tenant_id AND m.user_id = u.id WHERE u.is_service"""


async def insert(
    uow: UnitOfWork, service_id: UUID, email: str, tenant_id: UUID | None, *, is_operator: bool, is_auditor: bool
) -> bool:
    """Whether the name was free."""
    count = await uow.execute(
        """INSERT INTO users (id, email, password_hash, is_service, of_tenant_id, is_operator, is_auditor)
           VALUES (%s, %s, %s, true, %s, %s, %s) ON CONFLICT (email) DO NOTHING""",
        [service_id, email, NO_PASSWORD, tenant_id, is_operator, is_auditor],
    )
    return count == 1


async def find(uow: UnitOfWork, tenant_id: UUID | None, service_id: UUID) -> Service | None:
    """Of this tenant, or of the platform (None) only."""
    return await uow.find(
        Service,
        f"{_SELECT} AND u.id = %s AND u.of_tenant_id IS NOT DISTINCT FROM %s",
        [service_id, tenant_id],
    )


async def list_page(uow: UnitOfWork, tenant_id: UUID | None, *, after: UUID | None, limit: int) -> list[Service]:
    return await uow.rows(
        Service,
        f"""{_SELECT} AND u.of_tenant_id IS NOT DISTINCT FROM %(tenant)s
            AND (%(after)s::uuid IS NULL OR u.id > %(after)s) ORDER BY u.id LIMIT %(limit)s""",
        {"tenant": tenant_id, "after": after, "limit": limit},
    )
