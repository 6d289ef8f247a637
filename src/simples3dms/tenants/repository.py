"""SQL of tenants, for the platform's unit of work."""

from __future__ import annotations

from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.tenants.values import Tenant


async def insert(uow: UnitOfWork, tenant_id: UUID, slug: str, name: str) -> Tenant | None:
    """The new tenant, or None if the slug is taken."""
    return await uow.find(
        Tenant,
        """INSERT INTO tenants (id, slug, name) VALUES (%s, %s, %s) ON CONFLICT (slug) DO NOTHING
           RETURNING id, slug, name, created_at""",
        [tenant_id, slug, name],
    )


async def find(uow: UnitOfWork, *, slug: str | None = None, tenant_id: UUID | None = None) -> Tenant | None:
    return await uow.find(
        Tenant,
        "SELECT id, slug, name, created_at FROM tenants WHERE slug = %s OR id = %s",
        [slug, tenant_id],
    )


async def list_page(uow: UnitOfWork, *, after: UUID | None, limit: int) -> list[Tenant]:
    return await uow.rows(
        Tenant,
        """SELECT id, slug, name, created_at FROM tenants WHERE (%(after)s::uuid IS NULL OR id > %(after)s)
           ORDER BY id LIMIT %(limit)s""",
        {"after": after, "limit": limit},
    )
