"""Calls of the operations on people: accounts, tokens, sessions, second factors, services, invitations, providers."""

from __future__ import annotations

import time
from typing import Any

import pyotp
from tests.api.acts import PUBLIC, Installation, Step, step
from tests.identity.authenticator import Authenticator
from tests.identity.mailbox import Mailbox

from simples3dms.kit.ids import new_id

_PASSWORD, _OTHER = "correct horse battery", "wronger horse battery"
_ANNA = {"email": "anna@example.org", "password": _PASSWORD}


def steps(mailbox: Mailbox, issuer: str) -> list[Step]:
    return [*_accounts(), *_sessions(), *_factors(), *_services(), *_letters(mailbox), *_providers(issuer), *_endings()]


def _accounts() -> list[Step]:
    bert = {"email": "bert@example.org", "password": _PASSWORD}
    return [
        step("create_user", "POST /users", _ANNA, keep={"anna_id": "user.id"}),
        step("log_in", "POST /login", _ANNA, who="", keep={"anna": "token"}),
        step("create_token", "POST /tokens", {"name": "x"}, keep={"token": "id"}),
        step("revoke_token", "DELETE /tokens/{token}"),
        step("set_member", "PUT /tenants/acme/members/anna@example.org", {"role": "editor"}),
        step("remove_member", "DELETE /tenants/acme/members/anna@example.org"),
        step("create_user", "POST /users", bert, keep={"bert_id": "user.id"}),
        step("disable_user", "POST /users/{bert_id}/disable"),
        step("enable_user", "POST /users/{bert_id}/enable"),
        step("set_platform_role", "PUT /users/{bert_id}/platform-role", {"platform_role": "auditor"}),
    ]


def _sessions() -> list[Step]:
    def find_session(at: Installation) -> None:
        at.ids["session"] = at.ask("GET", "/sessions", who="anna").json()[0]["id"]

    sign_in = step("sign_in", "POST /session", _ANNA, who="browser")
    return [
        sign_in,
        step("end_session", "DELETE /sessions/{session}", who="anna", first=find_session),
        sign_in,
        sign_in,
        step("end_sessions", "DELETE /sessions", who="anna"),
        sign_in,
        step("sign_out", "DELETE /session", who="browser"),
        step("change_password", "PUT /password", {"password": _PASSWORD, "new_password": _OTHER}, who="anna"),
        step("log_in", "POST /login", _ANNA | {"password": _OTHER}, who="", keep={"anna": "token"}),
    ]


def _factors() -> list[Step]:
    confirm, key = {"password": _OTHER}, Authenticator(PUBLIC, "documents.example.org")

    def read_app(at: Installation) -> None:
        at.ids["code"] = pyotp.TOTP(at.ids["secret"]).at(int(time.time()))

    def make_passkey(at: Installation) -> None:
        """One challenge, one answer: it is taken before the answer is looked at."""
        begun = at.ask("POST", "/account/passkeys/begin", who="anna", json=confirm).json()
        at.ids |= {"challenge": begun["challenge_id"], "credential": key.create(begun["options"])}

    made = {"challenge_id": "{challenge}", "credential": "{credential}", "name": "key"}
    add_passkey = step(
        "add_passkey", "POST /account/passkeys", made, who="anna", keep={"passkey": "passkey.id"}, first=make_passkey
    )
    return [
        step("begin_totp", "POST /account/totp/begin", confirm, who="anna", keep={"secret": "secret"}),
        step("confirm_totp", "POST /account/totp/confirm", {"code": "{code}"}, who="anna", first=read_app),
        step("create_recovery_codes", "POST /account/recovery-codes", confirm, who="anna"),
        step("remove_totp", "POST /account/totp/remove", confirm, who="anna"),
        step("begin_passkey", "POST /account/passkeys/begin", confirm, who="anna"),
        add_passkey,
        step("remove_passkey", "POST /account/passkeys/{passkey}/remove", confirm, who="anna"),
        add_passkey,
        step("remove_factors", "POST /users/{anna_id}/remove-factors"),
    ]


def _services() -> list[Step]:
    found: list[Step] = []
    for noun, base, role in (("service", "/tenants/acme/services", "viewer"), ("platform_service", "/services", None)):
        path = f"{base}/{{{noun}}}"
        made: dict[str, Any] = {"name": "scanner"} | ({"role": role} if role else {})
        found += [
            step(f"create_{noun}", f"POST {base}", made, keep={noun: "id"}),
            step(f"create_{noun}_token", f"POST {path}/tokens", {"name": "x"}, keep={"token": "id"}),
            step(f"disable_{noun}", f"POST {path}/disable"),
            step(f"enable_{noun}", f"POST {path}/enable"),
        ]
    revoke = step("revoke_service_token", "DELETE /tenants/acme/services/{service}/tokens/{token}")
    return [*found[:2], revoke, *found[2:]]


def _letters(mailbox: Mailbox) -> list[Step]:
    def read_letter(at: Installation) -> None:
        """The secret of the link in the newest letter, once none is owed any more."""
        deadline = time.monotonic() + 60
        while at.rows("SELECT id FROM letters"):
            assert time.monotonic() < deadline, "no letter came"
            time.sleep(0.05)
        at.ids["secret"] = mailbox.links()[-1].partition("#")[2]

    def invite(email: str) -> Step:
        given = {"email": email, "role": "viewer"}
        return step("create_invitation", "POST /tenants/acme/invitations", given, keep={"invitation": "invitation.id"})

    def leave_one_unsent(at: Installation) -> None:
        at.rows(
            """INSERT INTO letters (id, kind, subject_id, state, last_error)
               VALUES (%s, 'reset', %s, 'needs_attention', '550') ON CONFLICT DO NOTHING RETURNING id""",
            *(letter, letter),
        )
        at.ids["letter"] = letter

    def leave_another(at: Installation) -> None:
        """Once nobody is at the first one any more, which is about nothing."""
        deadline = time.monotonic() + 60
        while at.rows("SELECT id FROM letters WHERE state = 'pending'"):
            assert time.monotonic() < deadline, "the letter is still owed"
            time.sleep(0.05)
        leave_one_unsent(at)

    letter = str(new_id())
    accepted, reset = "POST /invitations/accept", "POST /password-resets/use"
    chosen = {"token": "{secret}", "password": _PASSWORD}
    return [
        invite("carl@example.org"),
        step("revoke_invitation", "DELETE /tenants/acme/invitations/{invitation}", first=read_letter),
        invite("dora@example.org"),
        step("accept_invitation", accepted, chosen, who="", first=read_letter),
        invite(_ANNA["email"]),
        step("join_tenant", "POST /invitations/join", {"token": "{secret}"}, who="anna", first=read_letter),
        step("request_reset", "POST /password-resets", {"email": _ANNA["email"]}, who=""),
        step("use_reset", reset, chosen, who="", first=read_letter),
        step("create_reset", "POST /users/{anna_id}/password-reset"),
        step("retry_letter", "POST /letters/{letter}/retry", first=leave_one_unsent),
        step("drop_letter", "DELETE /letters/{letter}", first=leave_another),
    ]


def _providers(issuer: str) -> list[Step]:
    made, tenants = {"name": "login", "issuer": issuer, "client_id": "x"}, "/tenants/acme/identity-providers"
    return [
        step("add_provider", "POST /identity-providers", made, keep={"provider": "id"}),
        step("begin_sign_in", "POST /oidc/providers/{provider}/begin", who="", headers={"Origin": PUBLIC}),
        step("remove_provider", "DELETE /identity-providers/{provider}"),
        step("add_tenant_provider", f"POST {tenants}", made, keep={"provider": "id"}),
        step("remove_tenant_provider", f"DELETE {tenants}/{{provider}}"),
    ]


def _endings() -> list[Step]:
    return [step("request_erasure", "POST /users/{bert_id}/erasure", {"reason": "asked for it"})]
