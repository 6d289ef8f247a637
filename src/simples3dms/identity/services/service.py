"""Make service principals and their tokens, switch them off and on."""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

from simples3dms.audit.service import record
from simples3dms.context import Principal
from simples3dms.db.session import Database, UnitOfWork
from simples3dms.identity import errors
from simples3dms.identity import repository as identity_repository
from simples3dms.identity.minting import Bounds, check_token_name, mint, plan_bounds
from simples3dms.identity.permissions import PLATFORM_ROLES, TENANT_ROLES, rights_of
from simples3dms.identity.service import SERVICE_DOMAIN, require_change, require_held, rights_in
from simples3dms.identity.services import repository
from simples3dms.identity.services.values import Service
from simples3dms.identity.values import NewToken, PlatformRole, Role, Token
from simples3dms.kit.ids import new_id
from simples3dms.tenants.values import Tenant

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class ServicePrincipals:
    """Of tenants and of the platform (where `tenant` is None). The door has asked for the permission already.

    Nobody makes, or gets a token of, a service that may do more than they may.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_service(self, principal: Principal, tenant: Tenant | None, name: str, role: str | None) -> Service:
        """Make one, with a role of the tenant, or of the platform (None: no role there).

        Raises Invalid (`service_name_invalid`, `role_invalid`), Conflict (`service_exists`), Forbidden.
        """
        if not _NAME.fullmatch(name):
            raise errors.service_name_invalid()
        roles = [*Role] if tenant is not None else [*PlatformRole]
        if role not in roles and (tenant is not None or role is not None):
            raise errors.role_invalid(roles)
        handle = f"{name}@{tenant.slug}.{SERVICE_DOMAIN}" if tenant is not None else f"{name}@{SERVICE_DOMAIN}"
        service_id, tenant_id = new_id(), tenant.id if tenant is not None else None
        async with self._database.platform() as uow:
            if tenant is None and role is not None:
                require_held(rights_of(principal), PLATFORM_ROLES[PlatformRole(role)])
            made = await repository.insert(
                uow,
                service_id,
                handle,
                tenant_id,
                is_operator=tenant is None and role == PlatformRole.OPERATOR,
                is_auditor=tenant is None and role == PlatformRole.AUDITOR,
            )
            if not made:
                raise errors.service_exists()
            if tenant is not None and role is not None:
                await require_change(uow, principal, tenant.id, handle, becomes=Role(role))
                require_held(await rights_in(uow, principal, tenant.id), TENANT_ROLES[Role(role)])
                await identity_repository.put_member(uow, tenant.id, handle, role)
            await _record(uow, principal, "service.created", tenant_id, service_id, name=name, role=role or "none")
            return await _get(uow, tenant_id, service_id)

    async def list_services(
        self, tenant_id: UUID | None, *, after: UUID | None = None, limit: int = 100
    ) -> list[Service]:
        """A page, oldest first."""
        async with self._database.platform() as uow:
            return await repository.list_page(uow, tenant_id, after=after, limit=limit)

    async def set_disabled(
        self, principal: Principal, tenant_id: UUID | None, service_id: UUID, is_disabled: bool
    ) -> Service:
        """Switch it off at once, or on; no error if it is. Its tokens are revoked for good. Raises NotFound."""
        async with self._database.platform() as uow:
            await self._require_all_of(uow, principal, tenant_id, service_id)
            if await identity_repository.set_disabled(uow, service_id, is_disabled) is not None:
                await identity_repository.revoke_tokens(uow, service_id)
                action = "service.disabled" if is_disabled else "service.enabled"
                await _record(uow, principal, action, tenant_id, service_id)
            return await _get(uow, tenant_id, service_id)

    async def create_token(
        self, principal: Principal, tenant_id: UUID | None, service_id: UUID, name: str, asked: Bounds
    ) -> NewToken:
        """A token of the service, shown once. Raises NotFound (`service_not_found`) and as `plan_bounds`, `mint` do."""
        check_token_name(name)
        bounds = plan_bounds(principal, asked)
        async with self._database.platform() as uow:
            await self._require_all_of(uow, principal, tenant_id, service_id)
            if (await _get(uow, tenant_id, service_id)).disabled_at is not None:
                raise errors.service_disabled()
            return await mint(uow, principal, service_id, name, bounds, by="service")

    async def list_tokens(self, tenant_id: UUID | None, service_id: UUID) -> list[Token]:
        """Newest first, revoked ones too. Raises NotFound (`service_not_found`)."""
        async with self._database.platform() as uow:
            await _get(uow, tenant_id, service_id)
            return await identity_repository.list_tokens(uow, service_id)

    async def revoke_token(
        self, principal: Principal, tenant_id: UUID | None, service_id: UUID, token_id: UUID
    ) -> None:
        """Again is no error. Raises NotFound (`service_not_found`, `token_not_found`)."""
        async with self._database.platform() as uow:
            await _get(uow, tenant_id, service_id)
            if not await identity_repository.revoke_token(uow, service_id, token_id):
                raise errors.token_not_found()
            await record(
                uow, principal, "token.revoked", target_type="token", target_id=str(token_id), tenant_id=tenant_id
            )

    async def _require_all_of(
        self, uow: UnitOfWork, principal: Principal, tenant_id: UUID | None, service_id: UUID
    ) -> None:
        """Raise Forbidden (`rights_exceed_own`) unless the principal may do all that the service may."""
        found = await _get(uow, tenant_id, service_id)
        if found.role is not None and tenant_id is not None:
            require_held(await rights_in(uow, principal, tenant_id), TENANT_ROLES[Role(found.role)])
        roles = [PlatformRole.OPERATOR] * found.is_operator + [PlatformRole.AUDITOR] * found.is_auditor
        require_held(rights_of(principal), *(PLATFORM_ROLES[role] for role in roles))


async def _get(uow: UnitOfWork, tenant_id: UUID | None, service_id: UUID) -> Service:
    found = await repository.find(uow, tenant_id, service_id)
    if found is None:
        raise errors.service_not_found()
    return found


async def _record(
    uow: UnitOfWork, principal: Principal, action: str, tenant_id: UUID | None, service_id: UUID, **details: str
) -> None:
    await record(
        uow,
        principal,
        action,
        target_type="service",
        target_id=str(service_id),
        tenant_id=tenant_id,
        details=details,
    )
