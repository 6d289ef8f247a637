"""What routes depend on: the services, who is asking, and in which tenant with which role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from simples3dms.bootstrap import Services
from simples3dms.context import Principal
from simples3dms.errors import NotFound, Unauthenticated
from simples3dms.identity.service import require_admin, require_operator
from simples3dms.identity.values import Role
from simples3dms.kit.secret import Secret
from simples3dms.tenants.service import not_found as tenant_not_found
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


async def get_operator(principal: PrincipalDep) -> Principal:
    require_operator(principal)
    return principal


OperatorDep = Annotated[Principal, Depends(get_operator)]


@dataclass(frozen=True, slots=True)
class Seat:
    """A principal in a tenant."""

    principal: Principal
    tenant: Tenant
    role: Role

    @property
    def tenant_id(self) -> UUID:
        return self.tenant.id


async def get_seat(
    services: ServicesDep,
    principal: PrincipalDep,
    tenant: Annotated[str, Path(description="The tenant's short name or id.", max_length=100)],
) -> Seat:
    """The tenant of the path; the same answer where it is not there and where one is no member of it."""
    found = await services.tenants.get_tenant(tenant)
    role = await services.identity.get_role(principal, found.id)
    if role is None:
        raise tenant_not_found()
    return Seat(principal, found, role)


SeatDep = Annotated[Seat, Depends(get_seat)]


async def get_admin_seat(seat: SeatDep) -> Seat:
    require_admin(seat.role)
    return seat


AdminSeatDep = Annotated[Seat, Depends(get_admin_seat)]
After = Annotated[UUID | None, Query(description="The `next_after` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="Most items on the page.")]


def as_id(text: str, failure: NotFound) -> UUID:
    """An id from a path; what is no id is not there, like an id that nobody has."""
    try:
        return UUID(text)
    except ValueError:
        raise failure from None
