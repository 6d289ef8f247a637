"""Invite people to a tenant; accept; reset forgotten passwords."""

from __future__ import annotations

from fastapi import Request, Response

from simples3dms.api.deps import (
    AccountOwner,
    After,
    Limit,
    MemberReader,
    MemberWriter,
    ServicesDep,
    UsersWriter,
    as_id,
    client_address,
)
from simples3dms.api.pages import as_page
from simples3dms.api.routing import new_router
from simples3dms.api.v1.sessions import set_session
from simples3dms.identity.errors import invitation_not_found, user_not_found
from simples3dms.identity.invitations.values import HandOver
from simples3dms.kit.secret import Secret
from simples3dms.schemas import invitations as schemas
from simples3dms.schemas.base import Page

router = new_router(tags=["invitations"])


def _shown_once(response: Response, made: HandOver | None) -> schemas.HandOver | None:
    if made is None:
        return None
    response.headers["Cache-Control"] = "no-store"
    link = made.link.reveal() if made.link is not None else None
    return schemas.HandOver(token=made.token.reveal(), link=link, expires_at=made.expires_at)


@router.post(
    "/tenants/{tenant}/invitations", operation_id="create_invitation", status_code=201, summary="Invite an address"
)
async def invite(
    body: schemas.Invite, services: ServicesDep, seat: MemberWriter, response: Response
) -> schemas.NewInvitation:
    made, hand_over = await services.invitations.invite(seat.principal, seat.tenant, body.email, body.role)
    return schemas.NewInvitation(
        invitation=schemas.Invitation.model_validate(made), hand_over=_shown_once(response, hand_over)
    )


@router.get("/tenants/{tenant}/invitations", operation_id="list_invitations", summary="Invitations, newest first")
async def list_invitations(
    services: ServicesDep, seat: MemberReader, after: After = None, limit: Limit = 100
) -> Page[schemas.Invitation]:
    found = await services.invitations.list_invitations(seat.tenant_id, after=after, limit=limit + 1)
    return as_page(schemas.Invitation, found, limit)


@router.delete(
    "/tenants/{tenant}/invitations/{invitation}",
    operation_id="revoke_invitation",
    status_code=204,
    summary="Make one useless",
)
async def revoke_invitation(invitation: str, services: ServicesDep, seat: MemberWriter) -> None:
    invitation_id = as_id(invitation, invitation_not_found())
    await services.invitations.revoke(seat.principal, seat.tenant_id, invitation_id)


@router.post(
    "/invitations/accept", operation_id="accept_invitation", status_code=201, summary="Make the account it is for"
)
async def accept_invitation(
    body: schemas.AcceptInvitation, services: ServicesDep, request: Request
) -> schemas.Accepted:
    token, password = Secret(body.token.get_secret_value()), Secret(body.password.get_secret_value())
    email = await services.invitations.accept(token, password, address=client_address(request))
    return schemas.Accepted(email=email)


@router.post("/invitations/join", operation_id="join_tenant", summary="Take the place as who one is")
async def join_tenant(
    body: schemas.JoinTenant, services: ServicesDep, principal: AccountOwner, request: Request, response: Response
) -> schemas.Joined:
    token = Secret(body.token.get_secret_value())
    tenant_id, renewed = await services.invitations.join(principal, token, address=client_address(request))
    set_session(response, renewed)
    return schemas.Joined(tenant_id=tenant_id)


@router.post(
    "/password-resets",
    operation_id="request_reset",
    status_code=202,
    summary="Have a link sent, if the address is a user's; the answer does not tell",
)
async def request_reset(body: schemas.RequestReset, services: ServicesDep, request: Request) -> None:
    await services.resets.request(body.email, address=client_address(request))


@router.post("/password-resets/use", operation_id="use_reset", status_code=204, summary="Set a new password by a link")
async def use_reset(body: schemas.UseReset, services: ServicesDep, request: Request) -> None:
    token, password = Secret(body.token.get_secret_value()), Secret(body.password.get_secret_value())
    await services.resets.use(token, password, address=client_address(request))


@router.post(
    "/users/{user}/password-reset",
    operation_id="create_reset",
    status_code=201,
    summary="A reset link to hand over (operators)",
)
async def create_reset(
    user: str, services: ServicesDep, principal: UsersWriter, response: Response
) -> schemas.HandOver:
    made = _shown_once(response, await services.resets.create(principal, as_id(user, user_not_found())))
    assert made is not None
    return made
