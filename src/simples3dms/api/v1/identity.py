"""Signing in, tokens, users, members."""

from __future__ import annotations

from fastapi import Request, Response

from simples3dms.api.deps import (
    After,
    Limit,
    MemberReader,
    MemberWriter,
    Oneself,
    ServicesDep,
    UsersReader,
    UsersWriter,
    as_id,
    client_address,
)
from simples3dms.api.pages import as_page
from simples3dms.api.routing import new_router
from simples3dms.api.v1.sessions import proof_of, set_session
from simples3dms.errors import NotFound
from simples3dms.identity.errors import user_not_found
from simples3dms.kit.secret import Secret
from simples3dms.schemas import identity as schemas
from simples3dms.schemas.base import Page

router = new_router()


@router.post("/login", operation_id="log_in", tags=["identity"], summary="A token for an e-mail address and a password")
async def log_in(body: schemas.LogIn, services: ServicesDep, request: Request, response: Response) -> schemas.NewToken:
    made = await services.identity.log_in(
        body.email,
        Secret(body.password.get_secret_value()),
        token_name=body.token_name,
        address=client_address(request),
        proof=proof_of(body),
    )
    response.headers["Cache-Control"] = "no-store"
    return schemas.NewToken(id=made.id, token=made.token.reveal(), name=made.name, expires_at=made.expires_at)


@router.post("/tokens", operation_id="create_token", tags=["identity"], status_code=201, summary="A token of one's own")
async def create_token(
    body: schemas.CreateToken, services: ServicesDep, principal: Oneself, response: Response
) -> schemas.NewToken:
    made = await services.identity.create_token(
        principal,
        body.name,
        expires_in_days=body.expires_in_days,
        scopes=body.scopes,
        tenant_id=(await services.tenants.get_tenant(body.tenant)).id if body.tenant is not None else None,
        password=Secret(body.password.get_secret_value()) if body.password is not None else None,
    )
    response.headers["Cache-Control"] = "no-store"
    return schemas.NewToken(id=made.id, token=made.token.reveal(), name=made.name, expires_at=made.expires_at)


@router.get("/tokens", operation_id="list_tokens", tags=["identity"], summary="One's own tokens, without the secrets")
async def list_tokens(services: ServicesDep, principal: Oneself) -> list[schemas.Token]:
    return [schemas.Token.model_validate(token) for token in await services.identity.list_tokens(principal)]


@router.delete("/tokens/{token}", operation_id="revoke_token", tags=["identity"], status_code=204, summary="Revoke one")
async def revoke_token(token: str, services: ServicesDep, principal: Oneself) -> None:
    token_id = as_id(token, NotFound("There is no such token.", code="token_not_found"))
    await services.identity.revoke_token(principal, token_id)


@router.post(
    "/users", operation_id="create_user", tags=["identity"], status_code=201, summary="Make a user (operators)"
)
async def create_user(
    body: schemas.CreateUser, services: ServicesDep, principal: UsersWriter, response: Response
) -> schemas.NewUser:
    chosen = Secret(body.password.get_secret_value()) if body.password else None
    user, made = await services.identity.create_user(
        principal,
        body.email,
        chosen,
        is_operator=body.platform_role == "operator",
        is_auditor=body.platform_role == "auditor",
    )
    response.headers["Cache-Control"] = "no-store"
    return schemas.NewUser(user=schemas.User.model_validate(user), password=made.password.reveal() if made else None)


@router.get("/users", operation_id="list_users", tags=["identity"], summary="All users (operators)")
async def list_users(
    services: ServicesDep, _operator: UsersReader, after: After = None, limit: Limit = 100
) -> Page[schemas.User]:
    return as_page(schemas.User, await services.identity.list_users(after=after, limit=limit + 1), limit)


@router.post(
    "/users/{user}/disable", operation_id="disable_user", tags=["identity"], summary="Keep a user out, at once"
)
async def disable_user(user: str, services: ServicesDep, principal: UsersWriter) -> schemas.User:
    user_id = as_id(user, user_not_found())
    return schemas.User.model_validate(await services.identity.set_disabled(principal, user_id, True))


@router.post("/users/{user}/enable", operation_id="enable_user", tags=["identity"], summary="Let a user in again")
async def enable_user(user: str, services: ServicesDep, principal: UsersWriter) -> schemas.User:
    user_id = as_id(user, user_not_found())
    return schemas.User.model_validate(await services.identity.set_disabled(principal, user_id, False))


@router.put(
    "/users/{user}/platform-role",
    operation_id="set_platform_role",
    tags=["identity"],
    summary="Make a user an operator, an auditor, or neither (operators)",
)
async def set_platform_role(
    user: str, body: schemas.SetPlatformRole, services: ServicesDep, principal: UsersWriter, response: Response
) -> schemas.User:
    user_id = as_id(user, user_not_found())
    changed, renewed = await services.identity.set_platform_role(principal, user_id, body.platform_role)
    set_session(response, renewed)
    return schemas.User.model_validate(changed)


@router.get("/tenants/{tenant}/members", operation_id="list_members", tags=["members"], summary="Who belongs to it")
async def list_members(services: ServicesDep, seat: MemberReader) -> list[schemas.Member]:
    return [schemas.Member.model_validate(member) for member in await services.identity.list_members(seat.tenant_id)]


@router.put(
    "/tenants/{tenant}/members/{email}", operation_id="set_member", tags=["members"], summary="Add, or change the role"
)
async def set_member(
    email: str, body: schemas.SetMember, services: ServicesDep, seat: MemberWriter, response: Response
) -> schemas.Member:
    member, renewed = await services.identity.set_member(seat.principal, seat.tenant_id, email, body.role)
    set_session(response, renewed)
    return schemas.Member.model_validate(member)


@router.delete(
    "/tenants/{tenant}/members/{email}",
    operation_id="remove_member",
    tags=["members"],
    status_code=204,
    summary="Take a member out",
)
async def remove_member(email: str, services: ServicesDep, seat: MemberWriter, response: Response) -> None:
    set_session(response, await services.identity.remove_member(seat.principal, seat.tenant_id, email))
