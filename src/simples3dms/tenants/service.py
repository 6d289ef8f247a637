"""Create and find tenants."""

from __future__ import annotations

import re
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.db.session import Database
from simples3dms.errors import Conflict, Invalid, NotFound
from simples3dms.kit.ids import new_id
from simples3dms.tenants import repository
from simples3dms.tenants.values import Tenant

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_LONGEST_NAME = 200


class Tenants:
    """All tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_tenant(self, principal: Principal, slug: str, name: str) -> Tenant:
        """Make a tenant. Raises Invalid (`tenant_slug_invalid`, `tenant_name_invalid`) or Conflict (`tenant_exists`)."""
        if not _SLUG.fullmatch(slug) or _as_uuid(slug) is not None:
            raise Invalid(
                "A tenant's short name has 1 to 63 lower-case letters, digits and hyphens, and starts with no hyphen.",
                code="tenant_slug_invalid",
            )
        if not name.strip() or len(name) > _LONGEST_NAME:
            raise Invalid(f"A tenant's name has 1 to {_LONGEST_NAME} characters.", code="tenant_name_invalid")
        async with self._database.platform() as uow:
            tenant = await repository.insert(uow, new_id(), slug, name)
            if tenant is None:
                raise Conflict(f"There is a tenant {slug!r} already.", code="tenant_exists")
            await record(uow, principal, "tenant.created", target_type="tenant", target_id=str(tenant.id))
            return tenant

    async def get_tenant(self, slug_or_id: str) -> Tenant:
        """By short name or id. Raises NotFound (`tenant_not_found`)."""
        async with self._database.platform() as uow:
            tenant = await repository.find(uow, slug=slug_or_id, tenant_id=_as_uuid(slug_or_id))
        if tenant is None:
            raise not_found()
        return tenant

    async def list_tenants(self, *, after: UUID | None = None, limit: int = 100) -> list[Tenant]:
        async with self._database.platform() as uow:
            return await repository.list_page(uow, after=after, limit=limit)


def not_found() -> NotFound:
    """The same for a tenant that is not there and for one that the caller is no member of."""
    return NotFound("There is no such tenant.", code="tenant_not_found")


def _as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
