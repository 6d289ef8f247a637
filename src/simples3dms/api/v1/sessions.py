"""Sign in with a browser, see where one is signed in, sign out, change one's password."""

from __future__ import annotations

from fastapi import Request, Response

from simples3dms.api.deps import (
    SESSION_COOKIE,
    AccountOwner,
    Oneself,
    OwnPage,
    ServicesDep,
    as_id,
    client_address,
)
from simples3dms.api.routing import new_router
from simples3dms.context import Principal
from simples3dms.identity.errors import session_not_found
from simples3dms.identity.factors.values import PasskeyAnswer, Proof
from simples3dms.identity.sessions.values import NewSession, Visitor
from simples3dms.kit.secret import Secret
from simples3dms.schemas import sessions as schemas

router = new_router(tags=["sessions"])


def set_session(response: Response, session: NewSession | None) -> None:
    """Hand the browser its session; nothing where there is none to hand."""
    if session is not None:
        response.set_cookie(
            SESSION_COOKIE,
            session.secret.reveal(),
            max_age=session.max_age_seconds,
            secure=True,
            httponly=True,
            samesite="lax",
            path="/",
        )


def visitor_of(request: Request) -> Visitor:
    return Visitor(client_address(request), request.headers.get("user-agent", ""))


def session_before(request: Request) -> Secret | None:
    """What the browser came with, before it signed in."""
    found = request.cookies.get(SESSION_COOKIE)
    return Secret(found) if found else None


def proof_of(body: schemas.SecondFactor) -> Proof | None:
    """The second factor in a body, if there is one."""
    if body.code is None and body.passkey is None:
        return None
    code = Secret(body.code.get_secret_value()) if body.code is not None else None
    given = body.passkey
    return Proof(code, PasskeyAnswer(given.challenge_id, given.credential) if given is not None else None)


@router.post(
    "/session",
    operation_id="sign_in",
    dependencies=[OwnPage],
    status_code=204,
    summary="Sign in with a browser: a session's cookie",
)
async def sign_in(body: schemas.SignIn, services: ServicesDep, request: Request, response: Response) -> None:
    made = await services.sessions.sign_in(
        body.email,
        Secret(body.password.get_secret_value()),
        visitor_of(request),
        proof=proof_of(body),
        replaces=session_before(request),
    )
    set_session(response, made)


@router.get("/session", operation_id="get_caller", summary="Who is asking, and how they came in")
async def get_caller(principal: Oneself) -> schemas.Caller:
    return as_caller(principal)


def as_caller(principal: Principal) -> schemas.Caller:
    assert principal.id is not None
    return schemas.Caller(
        id=principal.id,
        name=principal.name,
        is_operator=principal.is_operator,
        is_auditor=principal.is_auditor,
        session_id=principal.session_id,
        token_id=principal.token_id,
        scopes=None if principal.scopes is None else sorted(principal.scopes),
        tenant_id=principal.tenant_id,
    )


@router.delete("/session", operation_id="sign_out", status_code=204, summary="Sign out: end the session that asks")
async def sign_out(services: ServicesDep, principal: Oneself, response: Response) -> None:
    await services.sessions.sign_out(principal)
    response.delete_cookie(SESSION_COOKIE, path="/", secure=True, httponly=True, samesite="lax")


@router.get("/sessions", operation_id="list_sessions", summary="Where one is signed in with a browser")
async def list_sessions(services: ServicesDep, principal: AccountOwner) -> list[schemas.Session]:
    found = [schemas.Session.model_validate(one) for one in await services.sessions.list_sessions(principal)]
    return [one.model_copy(update={"is_current": one.id == principal.session_id}) for one in found]


@router.delete("/sessions/{session}", operation_id="end_session", status_code=204, summary="End one of one's sessions")
async def end_session(session: str, services: ServicesDep, principal: AccountOwner) -> None:
    await services.sessions.end_session(principal, as_id(session, session_not_found()))


@router.delete("/sessions", operation_id="end_sessions", summary="End all of one's sessions but the one that asks")
async def end_sessions(services: ServicesDep, principal: AccountOwner) -> schemas.Ended:
    return schemas.Ended(count=await services.sessions.end_others(principal))


@router.put(
    "/password",
    operation_id="change_password",
    status_code=204,
    summary="Change one's password: all tokens and other sessions end",
)
async def change_password(
    body: schemas.ChangePassword, services: ServicesDep, principal: AccountOwner, response: Response
) -> None:
    old, new = (Secret(one.get_secret_value()) for one in (body.password, body.new_password))
    set_session(response, await services.identity.change_password(principal, old, new))
