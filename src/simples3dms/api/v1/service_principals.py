"""Service principals of tenants and of the platform, and their tokens."""

from __future__ import annotations

from uuid import UUID

from fastapi import Response

from simples3dms.api.deps import (
    After,
    Limit,
    MemberReader,
    MemberWriter,
    ServicesDep,
    UsersReader,
    UsersWriter,
    as_id,
)
from simples3dms.api.pages import as_page
from simples3dms.api.routing import new_router
from simples3dms.identity.errors import service_not_found, token_not_found
from simples3dms.identity.minting import Bounds
from simples3dms.identity.values import NewToken
from simples3dms.schemas import identity as identity_schemas
from simples3dms.schemas import services as schemas
from simples3dms.schemas.base import Page

router = new_router(tags=["services"])


def _id(service: str) -> UUID:
    return as_id(service, service_not_found())


def _shown_once(response: Response, made: NewToken) -> identity_schemas.NewToken:
    response.headers["Cache-Control"] = "no-store"
    return identity_schemas.NewToken(id=made.id, token=made.token.reveal(), name=made.name, expires_at=made.expires_at)


@router.post(
    "/tenants/{tenant}/services", operation_id="create_service", status_code=201, summary="Make a service principal"
)
async def create_service(body: schemas.CreateService, services: ServicesDep, seat: MemberWriter) -> schemas.Service:
    made = await services.service_principals.create_service(seat.principal, seat.tenant, body.name, body.role)
    return schemas.Service.model_validate(made)


@router.get("/tenants/{tenant}/services", operation_id="list_services", summary="The tenant's service principals")
async def list_services(
    services: ServicesDep, seat: MemberReader, after: After = None, limit: Limit = 100
) -> Page[schemas.Service]:
    found = await services.service_principals.list_services(seat.tenant_id, after=after, limit=limit + 1)
    return as_page(schemas.Service, found, limit)


@router.post("/tenants/{tenant}/services/{service}/disable", operation_id="disable_service", summary="Switch one off")
async def disable_service(service: str, services: ServicesDep, seat: MemberWriter) -> schemas.Service:
    found = await services.service_principals.set_disabled(seat.principal, seat.tenant_id, _id(service), True)
    return schemas.Service.model_validate(found)


@router.post("/tenants/{tenant}/services/{service}/enable", operation_id="enable_service", summary="Switch one on")
async def enable_service(service: str, services: ServicesDep, seat: MemberWriter) -> schemas.Service:
    found = await services.service_principals.set_disabled(seat.principal, seat.tenant_id, _id(service), False)
    return schemas.Service.model_validate(found)


@router.post(
    "/tenants/{tenant}/services/{service}/tokens",
    operation_id="create_service_token",
    status_code=201,
    summary="A token of a service principal",
)
async def create_service_token(
    service: str, body: schemas.CreateServiceToken, services: ServicesDep, seat: MemberWriter, response: Response
) -> identity_schemas.NewToken:
    bounds = Bounds(body.scopes, seat.tenant_id, body.expires_in_days)
    made = await services.service_principals.create_token(
        seat.principal, seat.tenant_id, _id(service), body.name, bounds
    )
    return _shown_once(response, made)


@router.get(
    "/tenants/{tenant}/services/{service}/tokens", operation_id="list_service_tokens", summary="Its tokens, no secrets"
)
async def list_service_tokens(service: str, services: ServicesDep, seat: MemberReader) -> list[identity_schemas.Token]:
    found = await services.service_principals.list_tokens(seat.tenant_id, _id(service))
    return [identity_schemas.Token.model_validate(token) for token in found]


@router.delete(
    "/tenants/{tenant}/services/{service}/tokens/{token}",
    operation_id="revoke_service_token",
    status_code=204,
    summary="Revoke one",
)
async def revoke_service_token(service: str, token: str, services: ServicesDep, seat: MemberWriter) -> None:
    token_id = as_id(token, token_not_found())
    await services.service_principals.revoke_token(seat.principal, seat.tenant_id, _id(service), token_id)


@router.post(
    "/services", operation_id="create_platform_service", status_code=201, summary="Make a service of the platform"
)
async def create_platform_service(
    body: schemas.CreatePlatformService, services: ServicesDep, principal: UsersWriter
) -> schemas.Service:
    made = await services.service_principals.create_service(principal, None, body.name, body.platform_role)
    return schemas.Service.model_validate(made)


@router.get("/services", operation_id="list_platform_services", summary="Service principals of the platform")
async def list_platform_services(
    services: ServicesDep, _principal: UsersReader, after: After = None, limit: Limit = 100
) -> Page[schemas.Service]:
    found = await services.service_principals.list_services(None, after=after, limit=limit + 1)
    return as_page(schemas.Service, found, limit)


@router.post("/services/{service}/disable", operation_id="disable_platform_service", summary="Switch one off")
async def disable_platform_service(service: str, services: ServicesDep, principal: UsersWriter) -> schemas.Service:
    found = await services.service_principals.set_disabled(principal, None, _id(service), True)
    return schemas.Service.model_validate(found)


@router.post("/services/{service}/enable", operation_id="enable_platform_service", summary="Switch one on")
async def enable_platform_service(service: str, services: ServicesDep, principal: UsersWriter) -> schemas.Service:
    found = await services.service_principals.set_disabled(principal, None, _id(service), False)
    return schemas.Service.model_validate(found)


@router.post(
    "/services/{service}/tokens",
    operation_id="create_platform_service_token",
    status_code=201,
    summary="A token of a service of the platform",
)
async def create_platform_service_token(
    service: str, body: schemas.CreateServiceToken, services: ServicesDep, principal: UsersWriter, response: Response
) -> identity_schemas.NewToken:
    bounds = Bounds(body.scopes, None, body.expires_in_days)
    made = await services.service_principals.create_token(principal, None, _id(service), body.name, bounds)
    return _shown_once(response, made)
