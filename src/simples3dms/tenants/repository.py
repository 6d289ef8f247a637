"""SQL of tenants, for the platform's unit of work."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from simples3dms.db.session import UnitOfWork
from simples3dms.tenants.values import Tenant, TenantSettings

_SETTINGS: Final = """SELECT coalesce(s.version, 0) AS version, s.trash_days, s.retention_days, s.retention_mode,
    s.region, t.allowed_jurisdictions, s.migration_letters, s.largest_upload_bytes, s.most_documents, s.most_bytes,
    s.updated_at
  FROM tenants t LEFT JOIN tenant_settings s ON s.tenant_id = t.id WHERE t.id = %s"""
#: Makes a tenant's id the name of the lock on its residency.
_RESIDENCY: Final = 0x53_33_44_4D_52_45
_TENANT: Final = "id, slug, name, created_at, suspended_at, suspension_reason, deleting_at"


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
        f"SELECT {_TENANT} FROM tenants WHERE (slug = %s OR id = %s) AND deleted_at IS NULL",  # noqa: S608
        [slug, tenant_id],
    )


async def list_page(uow: UnitOfWork, *, after: UUID | None, limit: int) -> list[Tenant]:
    return await uow.rows(
        Tenant,
        f"""SELECT {_TENANT} FROM tenants WHERE (%(after)s::uuid IS NULL OR id > %(after)s) AND deleted_at IS NULL
           ORDER BY id LIMIT %(limit)s""",  # noqa: S608
        {"after": after, "limit": limit},
    )


async def share_residency(uow: UnitOfWork, tenant_id: UUID) -> None:
    """Where the tenant's documents may lie stays as it is until this unit of work ends. Many may hold it at once."""
    await uow.execute("SELECT pg_advisory_xact_lock_shared(hashtextextended(%s, %s))", [str(tenant_id), _RESIDENCY])


async def lock_residency(uow: UnitOfWork, tenant_id: UUID) -> None:
    """Wait for all who decide by it where documents go; none begins before this unit of work has ended."""
    await uow.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, %s))", [str(tenant_id), _RESIDENCY])


async def set_allowed_jurisdictions(uow: UnitOfWork, tenant_id: UUID, allowed: list[str] | None) -> None:
    """The caller holds `lock_residency`."""
    await uow.execute("UPDATE tenants SET allowed_jurisdictions = %s WHERE id = %s", [allowed, tenant_id])


async def set_suspension(uow: UnitOfWork, tenant_id: UUID, reason: str | None) -> Tenant | None:
    """Suspend for a reason, or (None) no longer. None if that is how it was."""
    return await uow.find(
        Tenant,
        f"""UPDATE tenants SET suspension_reason = %(reason)s,
             suspended_at = CASE WHEN %(reason)s::text IS NULL THEN NULL ELSE coalesce(suspended_at, now()) END
           WHERE id = %(id)s AND suspension_reason IS DISTINCT FROM %(reason)s AND deleting_at IS NULL
           RETURNING {_TENANT}""",  # noqa: S608
        {"id": tenant_id, "reason": reason},
    )


async def find_settings(uow: UnitOfWork, tenant_id: UUID) -> TenantSettings:
    """What is set for the tenant: the defaults where nothing is. For the tenant's unit of work too."""
    found = await uow.find(TenantSettings, _SETTINGS, [tenant_id])
    return found or TenantSettings()


async def save_settings(uow: UnitOfWork, tenant_id: UUID, settings: TenantSettings) -> TenantSettings | None:
    """Put them in force as the version after `settings.version`; None if that is not the one in force.

    The caller holds `lock_residency`, from before it read what it changes.
    """
    count = await uow.execute(
        """INSERT INTO tenant_settings AS s (tenant_id, version, trash_days, retention_days, retention_mode, region,
             largest_upload_bytes, most_documents, most_bytes, migration_letters)
           VALUES (%(tenant)s, %(before)s + 1, %(trash)s, %(days)s, %(mode)s, %(region)s, %(largest)s, %(documents)s,
             %(bytes)s, %(letters)s)
           ON CONFLICT (tenant_id) DO UPDATE SET version = EXCLUDED.version, trash_days = EXCLUDED.trash_days,
             retention_days = EXCLUDED.retention_days, retention_mode = EXCLUDED.retention_mode,
             region = EXCLUDED.region, largest_upload_bytes = EXCLUDED.largest_upload_bytes,
             most_documents = EXCLUDED.most_documents, most_bytes = EXCLUDED.most_bytes,
             migration_letters = EXCLUDED.migration_letters, updated_at = now()
             WHERE s.version = %(before)s""",
        {
            "tenant": tenant_id,
            "before": settings.version,
            "trash": settings.trash_days,
            "days": settings.retention_days,
            "mode": settings.retention_mode,
            "region": settings.region,
            "largest": settings.largest_upload_bytes,
            "documents": settings.most_documents,
            "bytes": settings.most_bytes,
            "letters": settings.migration_letters,
        },
    )
    if count != 1:
        return None
    # With the tenant, where whoever places bytes looks.
    await uow.execute(
        "UPDATE tenants SET allowed_jurisdictions = %s WHERE id = %s AND allowed_jurisdictions IS DISTINCT FROM %s",
        [settings.allowed_jurisdictions, tenant_id, settings.allowed_jurisdictions],
    )
    return await find_settings(uow, tenant_id)
