"""What routes depend on: the services, who is asking, and in which tenant with which role."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Path, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from simples3dms.bootstrap import Services
from simples3dms.context import Principal
from simples3dms.errors import NotFound, Unauthenticated
from simples3dms.identity.permissions import WHILE_SUSPENDED, Permission, require, rights_of
from simples3dms.kit.secret import Secret
from simples3dms.tenants.service import not_found as tenant_not_found
from simples3dms.tenants.service import suspended
from simples3dms.tenants.values import Tenant

_bearer = HTTPBearer(auto_error=False, description="An API token, from `POST /api/v1/login` or `token create`.")

LARGEST_PAGE = 500


def get_services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(get_services)]


async def get_principal(
    services: ServicesDep, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    if given is None:
        raise Unauthenticated("Sign in first: send a token as `Authorization: Bearer ...`.", code="token_missing")
    return await services.identity.authenticate(Secret(given.credentials))


PrincipalDep = Annotated[Principal, Depends(get_principal)]


@dataclass(frozen=True, slots=True)
class Seat:
    """A principal in a tenant, with the right that the route asked for."""

    principal: Principal
    tenant: Tenant

    @property
    def tenant_id(self) -> UUID:
        return self.tenant.id


#: The permission that each dependency below asks for: the application starts only if every route has one.
PERMISSION_OF: dict[Callable[..., Any], Permission] = {}


def _in_tenant(permission: Permission) -> Any:
    async def get_seat(
        services: ServicesDep,
        principal: PrincipalDep,
        tenant: Annotated[str, Path(description="The tenant's short name or id.", max_length=100)],
    ) -> Seat:
        """The same answer where the tenant is not there and where one has no place in it."""
        found = await services.tenants.get_tenant(tenant)
        rights = await services.identity.get_rights(principal, found.id)
        if not rights:
            raise tenant_not_found()
        require(rights, permission)
        if found.suspended_at is not None and permission not in WHILE_SUSPENDED:
            raise suspended()
        return Seat(principal, found)

    PERMISSION_OF[get_seat] = permission
    return Depends(get_seat)


def _on_platform(permission: Permission) -> Any:
    async def get_entitled(principal: PrincipalDep) -> Principal:
        require(rights_of(principal), permission)
        return principal

    PERMISSION_OF[get_entitled] = permission
    return Depends(get_entitled)


TenantReader = Annotated[Seat, _in_tenant(Permission.TENANT_READ)]
DocumentReader = Annotated[Seat, _in_tenant(Permission.DOCUMENTS_READ)]
DocumentWriter = Annotated[Seat, _in_tenant(Permission.DOCUMENTS_WRITE)]
DocumentPurger = Annotated[Seat, _in_tenant(Permission.DOCUMENTS_PURGE)]
StorageReader = Annotated[Seat, _in_tenant(Permission.STORAGE_READ)]
PlacementWriter = Annotated[Seat, _in_tenant(Permission.PLACEMENT_WRITE)]
OwnStoresWriter = Annotated[Seat, _in_tenant(Permission.OWN_STORES_WRITE)]
MigrationWriter = Annotated[Seat, _in_tenant(Permission.MIGRATIONS_WRITE)]
MemberReader = Annotated[Seat, _in_tenant(Permission.MEMBERS_READ)]
MemberWriter = Annotated[Seat, _in_tenant(Permission.MEMBERS_WRITE)]
AuditReader = Annotated[Seat, _in_tenant(Permission.AUDIT_READ)]
TenantsReader = Annotated[Principal, _on_platform(Permission.TENANTS_READ)]
TenantsWriter = Annotated[Principal, _on_platform(Permission.TENANTS_WRITE)]
UsersReader = Annotated[Principal, _on_platform(Permission.USERS_READ)]
UsersWriter = Annotated[Principal, _on_platform(Permission.USERS_WRITE)]
StoresReader = Annotated[Principal, _on_platform(Permission.STORES_READ)]
StoresWriter = Annotated[Principal, _on_platform(Permission.STORES_WRITE)]
RolloutsWriter = Annotated[Principal, _on_platform(Permission.ROLLOUTS_WRITE)]
Oneself = Annotated[Principal, _on_platform(Permission.OWN)]

After = Annotated[UUID | None, Query(description="The `next_after` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="Most items on the page.")]


def as_id(text: str, failure: NotFound) -> UUID:
    """An id from a path; what is no id is not there, like an id that nobody has."""
    try:
        return UUID(text)
    except ValueError:
        raise failure from None
