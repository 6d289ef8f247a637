"""Sign in through identity providers, and set them up."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Final

from fastapi import Query, Request, Response
from fastapi.responses import RedirectResponse

from simples3dms.api.deps import (
    MemberReader,
    OwnPage,
    ProviderWriter,
    ServicesDep,
    UsersReader,
    UsersWriter,
    as_id,
    client_address,
)
from simples3dms.api.routing import new_router
from simples3dms.api.v1.sessions import set_session, visitor_of
from simples3dms.errors import Failure, NotFound
from simples3dms.identity.errors import provider_not_found
from simples3dms.identity.federation.values import Answer, NewProvider
from simples3dms.kit.secret import Secret
from simples3dms.schemas import federation as schemas

router = new_router(tags=["federation"])
_FLOW_COOKIE: Final = "__Host-sign-in"
_FLOW_SECONDS: Final = 600
Given = Annotated[str | None, Query(max_length=4096)]


@router.get("/oidc/providers", operation_id="list_offered_providers", summary="By which providers one may sign in")
async def list_offered_providers(
    services: ServicesDep, tenant: Annotated[str | None, Query(max_length=100)] = None
) -> list[schemas.OfferedProvider]:
    """Of the platform, and of a tenant by its name; a tenant that has none looks like one that is not there."""
    found = await services.federation.list_providers(None)
    if tenant is not None:
        with suppress(NotFound):
            found += await services.federation.list_providers((await services.tenants.get_tenant(tenant)).id)
    return [schemas.OfferedProvider.model_validate(one) for one in found]


@router.post(
    "/oidc/providers/{provider}/begin",
    operation_id="begin_sign_in",
    dependencies=[OwnPage],
    summary="Begin to sign in by one: where the browser is to go",
)
async def begin_sign_in(provider: str, services: ServicesDep, request: Request, response: Response) -> schemas.Begun:
    begun = await services.federation.begin(as_id(provider, provider_not_found()), address=client_address(request))
    response.set_cookie(
        _FLOW_COOKIE,
        begun.browser.reveal(),
        max_age=_FLOW_SECONDS,
        secure=True,
        httponly=True,
        samesite="lax",
        path="/",
    )
    return schemas.Begun(url=begun.url)


@router.get(
    "/oidc/callback",
    operation_id="finish_sign_in",
    summary="Where providers send the browser back to",
    status_code=303,
    response_class=RedirectResponse,
)
async def finish_sign_in(
    services: ServicesDep,
    request: Request,
    state: Annotated[str, Query(max_length=4096)] = "",
    code: Given = None,
    iss: Given = None,
    error: Given = None,
) -> Response:
    """On to the installation's page, signed in, or with a problem's code after the `#`. Nothing of the query is passed
    on, so that nobody's words stand on our page."""
    kept = request.cookies.get(_FLOW_COOKIE)
    page = (services.public_url or "").rstrip("/")
    try:
        made = await services.federation.finish(
            Secret(kept) if kept else None, Answer(state, code, iss, error), visitor_of(request)
        )
        response = RedirectResponse(f"{page}/", 303)
        set_session(response, made)
    except Failure as failure:
        response = RedirectResponse(f"{page}/sign-in#problem={failure.problem_code}", 303)
    response.delete_cookie(_FLOW_COOKIE, path="/", secure=True, httponly=True, samesite="lax")
    return response


def _new(body: schemas.AddProvider, default_role: str | None) -> NewProvider:
    return NewProvider(
        name=body.name,
        issuer=body.issuer,
        client_id=body.client_id,
        client_secret=Secret(body.client_secret.get_secret_value()) if body.client_secret is not None else None,
        links_by_email=body.links_by_email,
        creates_users=body.creates_users,
        default_role=default_role,
    )


@router.post(
    "/identity-providers", operation_id="add_provider", status_code=201, summary="Add one for the platform (operators)"
)
async def add_provider(body: schemas.AddProvider, services: ServicesDep, principal: UsersWriter) -> schemas.Provider:
    return schemas.Provider.model_validate(
        await services.federation.add_provider(principal, None, _new(body, default_role=None))
    )


@router.get("/identity-providers", operation_id="list_providers", summary="Those of the platform")
async def list_providers(services: ServicesDep, _principal: UsersReader) -> list[schemas.Provider]:
    return [schemas.Provider.model_validate(one) for one in await services.federation.list_providers(None)]


@router.delete(
    "/identity-providers/{provider}",
    operation_id="remove_provider",
    status_code=204,
    summary="Remove one: who came by it is out",
)
async def remove_provider(provider: str, services: ServicesDep, principal: UsersWriter) -> None:
    await services.federation.remove_provider(principal, None, as_id(provider, provider_not_found()))


@router.post(
    "/tenants/{tenant}/identity-providers",
    operation_id="add_tenant_provider",
    status_code=201,
    summary="Add one for a tenant (owners)",
)
async def add_tenant_provider(
    body: schemas.AddTenantProvider, services: ServicesDep, seat: ProviderWriter
) -> schemas.Provider:
    given = _new(body, body.default_role)
    return schemas.Provider.model_validate(
        await services.federation.add_provider(seat.principal, seat.tenant_id, given)
    )


@router.get("/tenants/{tenant}/identity-providers", operation_id="list_tenant_providers", summary="Those of a tenant")
async def list_tenant_providers(services: ServicesDep, seat: MemberReader) -> list[schemas.Provider]:
    return [schemas.Provider.model_validate(one) for one in await services.federation.list_providers(seat.tenant_id)]


@router.delete(
    "/tenants/{tenant}/identity-providers/{provider}",
    operation_id="remove_tenant_provider",
    status_code=204,
    summary="Remove one: who came by it is out",
)
async def remove_tenant_provider(provider: str, services: ServicesDep, seat: ProviderWriter) -> None:
    provider_id = as_id(provider, provider_not_found())
    await services.federation.remove_provider(seat.principal, seat.tenant_id, provider_id)
