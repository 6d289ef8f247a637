"""Second factors of one's own account; operators remove those of somebody who has lost them."""

from __future__ import annotations

from uuid import UUID

from fastapi import Response
from pydantic import SecretStr

from simples3dms.api.deps import AccountOwner, ServicesDep, UsersWriter, as_id
from simples3dms.api.routing import new_router
from simples3dms.api.v1.sessions import set_session
from simples3dms.identity.errors import factor_not_found, user_not_found
from simples3dms.kit.secret import Secret
from simples3dms.schemas import factors as schemas

router = new_router(tags=["factors"])


def _secret(given: SecretStr) -> Secret:
    return Secret(given.get_secret_value())


def _shown(codes: list[Secret]) -> list[str]:
    return [code.reveal() for code in codes]


@router.get("/account/factors", operation_id="list_factors", summary="One's second factors")
async def list_factors(services: ServicesDep, principal: AccountOwner) -> schemas.Factors:
    return schemas.Factors.model_validate(await services.factors.get_held(principal))


@router.post("/account/totp/begin", operation_id="begin_totp", summary="A secret for an authenticator app, shown once")
async def begin_totp(body: schemas.Confirm, services: ServicesDep, principal: AccountOwner) -> schemas.NewTotp:
    made = await services.factors.begin_totp(principal, _secret(body.password))
    return schemas.NewTotp(secret=made.secret.reveal(), uri=made.uri.reveal())


@router.post("/account/totp/confirm", operation_id="confirm_totp", summary="Turn the app on by a code of it")
async def confirm_totp(
    body: schemas.ConfirmTotp, services: ServicesDep, principal: AccountOwner, response: Response
) -> schemas.RecoveryCodes:
    codes, renewed = await services.factors.confirm_totp(principal, _secret(body.code))
    set_session(response, renewed)
    return schemas.RecoveryCodes(recovery_codes=_shown(codes))


@router.post("/account/totp/remove", operation_id="remove_totp", status_code=204, summary="Turn the app off")
async def remove_totp(
    body: schemas.Confirm, services: ServicesDep, principal: AccountOwner, response: Response
) -> None:
    set_session(response, await services.factors.remove_totp(principal, _secret(body.password)))


@router.post(
    "/account/passkeys/begin", operation_id="begin_passkey", summary="Options for the browser to make a passkey with"
)
async def begin_passkey(body: schemas.Confirm, services: ServicesDep, principal: AccountOwner) -> schemas.Challenge:
    made = await services.factors.begin_passkey(principal, _secret(body.password))
    return schemas.Challenge(challenge_id=made.id, options=dict(made.options))


@router.post("/account/passkeys", operation_id="add_passkey", status_code=201, summary="Take the passkey that was made")
async def add_passkey(
    body: schemas.AddPasskey, services: ServicesDep, principal: AccountOwner, response: Response
) -> schemas.NewPasskey:
    passkey, (codes, renewed) = await services.factors.add_passkey(
        principal, body.challenge_id, body.credential, body.name
    )
    set_session(response, renewed)
    return schemas.NewPasskey(passkey=schemas.Passkey.model_validate(passkey), recovery_codes=_shown(codes))


@router.post(
    "/account/passkeys/{passkey}/remove", operation_id="remove_passkey", status_code=204, summary="Remove a passkey"
)
async def remove_passkey(
    passkey: str, body: schemas.Confirm, services: ServicesDep, principal: AccountOwner, response: Response
) -> None:
    passkey_id: UUID = as_id(passkey, factor_not_found())
    set_session(response, await services.factors.remove_passkey(principal, passkey_id, _secret(body.password)))


@router.post(
    "/account/recovery-codes", operation_id="create_recovery_codes", summary="Fresh recovery codes, shown once"
)
async def create_recovery_codes(
    body: schemas.Confirm, services: ServicesDep, principal: AccountOwner
) -> schemas.RecoveryCodes:
    codes = await services.factors.create_recovery_codes(principal, _secret(body.password))
    return schemas.RecoveryCodes(recovery_codes=_shown(codes))


@router.post(
    "/users/{user}/remove-factors",
    operation_id="remove_factors",
    status_code=204,
    summary="Remove all second factors of a user who has lost them (operators)",
)
async def remove_factors(user: str, services: ServicesDep, principal: UsersWriter) -> None:
    await services.factors.remove_all(principal, as_id(user, user_not_found()))
