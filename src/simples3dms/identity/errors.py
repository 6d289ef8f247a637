"""What identity refuses, with the codes that callers may rely on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from simples3dms.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated


def credentials_wrong() -> Unauthenticated:
    """One answer for an unknown address, a wrong password and a disabled user."""
    return Unauthenticated("The e-mail address or the password is wrong.", code="credentials_wrong")


def token_invalid() -> Unauthenticated:
    return Unauthenticated("The token is unknown, expired or revoked: sign in.", code="token_invalid")


def session_invalid() -> Unauthenticated:
    return Unauthenticated("The session is over: sign in.", code="session_invalid")


def session_not_found() -> NotFound:
    return NotFound("There is no such session.", code="session_not_found")


def password_wrong() -> Invalid:
    """For who is signed in already; who is not learns `credentials_wrong`."""
    return Invalid("The password is wrong.", code="password_wrong")


def user_required() -> Forbidden:
    return Forbidden("Only a user has a password and tokens.", code="user_required")


def email_invalid() -> Invalid:
    return Invalid("This is no e-mail address.", code="email_invalid")


def user_exists(email: str) -> Conflict:
    return Conflict(f"There is a user {email} already.", code="user_exists")


def user_not_found() -> NotFound:
    return NotFound("There is no such user.", code="user_not_found")


def member_not_found() -> NotFound:
    return NotFound("This user is no member of the tenant.", code="member_not_found")


def token_not_found() -> NotFound:
    return NotFound("There is no such token.", code="token_not_found")


def scope_unknown(unknown: Iterable[str]) -> Invalid:
    names = ", ".join(unknown) or "none"
    return Invalid(f"A token's scopes are permissions, at least one; these are not: {names}.", code="scope_unknown")


def token_exceeds(what: str) -> Forbidden:
    return Forbidden(
        f"A token makes none that may do more than itself: ask for less ({what}), or make it signed in yourself.",
        code="token_exceeds",
        exceeds=what,
    )


def exceeds_own() -> Forbidden:
    return Forbidden("Nobody gives rights that they do not have themselves.", code="rights_exceed_own")


def own_account() -> Conflict:
    return Conflict("Nobody disables themselves: ask another operator.", code="own_account")


def letter_not_found() -> NotFound:
    return NotFound(
        "There is no such letter that could not be sent, or it is just being sent; list them anew.",
        code="letter_not_found",
    )


def last_operator() -> Conflict:
    return Conflict("The last operator stays one: make somebody else an operator first.", code="last_operator")


def service_not_found() -> NotFound:
    return NotFound("There is no such service.", code="service_not_found")


def service_disabled() -> Conflict:
    return Conflict("The service is switched off: enable it first.", code="service_disabled")


def service_name_invalid() -> Invalid:
    return Invalid(
        "A service's name has 1 to 63 lower-case letters, digits and hyphens, and starts with no hyphen.",
        code="service_name_invalid",
    )


def service_exists() -> Conflict:
    return Conflict("There is a service of this name already.", code="service_exists")


def member_exists() -> Conflict:
    return Conflict("This user is a member of the tenant already.", code="member_exists")


def invitation_not_found() -> NotFound:
    return NotFound("There is no such invitation that could still be revoked.", code="invitation_not_found")


def invitation_invalid() -> NotFound:
    """One answer for one that never was, was used, was revoked, has run out, or whose inviter is gone."""
    return NotFound("The invitation is not valid, or no longer: ask for another one.", code="invitation_invalid")


def invitation_not_yours() -> Forbidden:
    return Forbidden("The invitation is for another address: sign in as that user.", code="invitation_not_yours")


def account_exists() -> Conflict:
    return Conflict("The invited address has an account: sign in, and join.", code="account_exists")


def reset_invalid() -> NotFound:
    """One answer for one that never was, was used, or has run out."""
    return NotFound("The link is not valid, or no longer: ask for another one.", code="reset_invalid")


def factor_required(kinds: Iterable[str], passkey: Mapping[str, object] | None) -> Unauthenticated:
    """Only for who has the right password."""
    return Unauthenticated(
        "Give a second factor with the password: a code of your app, a recovery code, or a passkey.",
        code="second_factor_required",
        factors=list(kinds),
        passkey=passkey,
    )


def factor_wrong() -> Unauthenticated:
    return Unauthenticated("The second factor is wrong, or was used before.", code="second_factor_wrong")


def code_wrong() -> Invalid:
    return Invalid("The code is wrong, or was used before: take the next one.", code="code_wrong")


def totp_exists() -> Conflict:
    return Conflict("An app is set up already: remove it first.", code="totp_exists")


def factor_not_found() -> NotFound:
    return NotFound("There is no such second factor.", code="factor_not_found")


def passkeys_unavailable() -> Conflict:
    return Conflict(
        "Passkeys are bound to an address: the operator has to set SIMPLES3DMS_PUBLIC_URL first.",
        code="passkeys_unavailable",
    )


def passkeys_too_many(most: int) -> Conflict:
    return Conflict(f"An account has at most {most} passkeys: remove one first.", code="passkeys_too_many")


def passkey_invalid() -> Invalid:
    return Invalid("The passkey was not made for this request, or is in use: begin again.", code="passkey_invalid")


def passkey_name_invalid() -> Invalid:
    return Invalid("A passkey's name has 1 to 100 printable characters.", code="passkey_name_invalid")


def provider_invalid() -> Invalid:
    return Invalid(
        "An identity provider has a short name, an issuer (https), a client id and, if it has one, a client secret.",
        code="provider_invalid",
    )


def provider_exists() -> Conflict:
    return Conflict("There is an identity provider of this name already.", code="provider_exists")


def provider_not_found() -> NotFound:
    return NotFound("There is no such identity provider.", code="provider_not_found")


def public_url_missing() -> Conflict:
    return Conflict("The operator has to set SIMPLES3DMS_PUBLIC_URL first.", code="public_url_missing")


def sign_in_failed() -> Unauthenticated:
    """One answer for all that may be wrong with what a browser brought back."""
    return Unauthenticated("The sign-in was not finished: begin again.", code="sign_in_failed")


def sign_in_unlinked() -> Unauthenticated:
    return Unauthenticated(
        "The identity provider knows you, and here there is no account of yours: ask for an invitation.",
        code="sign_in_unlinked",
    )


def last_owner() -> Conflict:
    return Conflict("The tenant's last owner stays one: make another member an owner first.", code="last_owner")


def role_invalid(roles: Iterable[str]) -> Invalid:
    return Invalid(f"A role is one of: {', '.join(roles)}.", code="role_invalid")


def password_invalid(shortest: int, longest: int) -> Invalid:
    return Invalid(f"A password has {shortest} to {longest} characters.", code="password_invalid")


def token_name_invalid() -> Invalid:
    return Invalid("A token's name has 1 to 100 printable characters.", code="token_name_invalid")


def token_expiry_invalid(most_days: int) -> Invalid:
    return Invalid(
        f"A token expires after more than 0 and at most {most_days} days, or never.", code="token_expiry_invalid"
    )
