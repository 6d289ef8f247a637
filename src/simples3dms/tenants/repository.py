"""SQL of tenants, for the platform's unit of work."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.tenants.values import Tenant

_TENANT: Final = "id, slug, name, created_at, suspended_at, suspension_reason"


async def insert(uow: UnitOfWork, tenant_id: UUID, slug: str, name: str) -> Tenant | None:
    """The new tenant, or None if the slug is taken."""
    return await uow.find(
        Tenant,
        f"""INSERT INTO tenants (id, slug, name) VALUES (%s, %s, %s) ON CONFLICT (slug) DO NOTHING
           RETURNING {_TENANT}""",  # noqa: S608
        [tenant_id, slug, name],
    )


async def find(uow: UnitOfWork, *, slug: str | None = None, tenant_id: UUID | None = None) -> Tenant | None:
    return await uow.find(
        Tenant,
        f"SELECT {_TENANT} FROM tenants WHERE slug = %s OR id = %s",  # noqa: S608
        [slug, tenant_id],
    )


async def list_page(uow: UnitOfWork, *, after: UUID | None, limit: int) -> list[Tenant]:
    return await uow.rows(
        Tenant,
        f"""SELECT {_TENANT} FROM tenants WHERE (%(after)s::uuid IS NULL OR id > %(after)s)
           ORDER BY id LIMIT %(limit)s""",  # noqa: S608
        {"after": after, "limit": limit},
    )


async def set_allowed_jurisdictions(uow: UnitOfWork, tenant_id: UUID, allowed: list[str] | None) -> None:
    await uow.execute("UPDATE tenants SET allowed_jurisdictions = %s WHERE id = %s", [allowed, tenant_id])


async def set_suspension(uow: UnitOfWork, tenant_id: UUID, reason: str | None) -> Tenant | None:
    """Suspend for a reason, or (None) no longer. None if that is how it was."""
    return await uow.find(
        Tenant,
        f"""UPDATE tenants SET suspension_reason = %(reason)s,
             suspended_at = CASE WHEN %(reason)s::text IS NULL THEN NULL ELSE coalesce(suspended_at, now()) END
           WHERE id = %(id)s AND suspension_reason IS DISTINCT FROM %(reason)s
           RETURNING {_TENANT}""",  # noqa: S608
        {"id": tenant_id, "reason": reason},
    )
