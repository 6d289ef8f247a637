"""The doors that people come in by, asked over HTTP."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pyotp
import pytest
from tests.api.conftest import Door

from simples3dms.api.deps import SESSION_COOKIE
from simples3dms.client import ApiProblem, Client
from simples3dms.kit.secret import Secret
from simples3dms.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"sign_in_account_attempts": 3, "sign_in_account_seconds": 600})


@pytest.fixture
def browser(door: Door) -> httpx.Client:
    return httpx.Client(base_url=door.url, trust_env=False, timeout=30)


def test_s10_too_many_attempts_are_told_when_to_come_again(browser: httpx.Client) -> None:
    body = {"email": "anna@example.org", "password": "wronger horse battery"}
    answers = [browser.post("/api/v1/login", json=body) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
    assert answers[3].json()["code"] == "too_many_attempts"
    assert 590 < int(answers[3].headers["retry-after"]) <= 600
    # A header that anybody can write names no network.
    forged = browser.post("/api/v1/login", json=body, headers={"X-Forwarded-For": "203.0.113.9"})
    assert forged.status_code == 429


PASSWORD = "correct horse battery"


@pytest.fixture
def anna(door: Door) -> str:
    """Her address; she owns acme."""
    with door.connect() as operator:
        operator.create_user("anna@example.org", Secret(PASSWORD))
        operator.set_member("acme", "anna@example.org", "owner")
    return "anna@example.org"


class Browser:
    """As a browser does it: it says where a request comes from, and sends back the cookie that it was given.

    By hand, as the cookie is Secure and the test's server speaks http.
    """

    def __init__(self, door: Door) -> None:
        self.http = httpx.Client(base_url=door.url, trust_env=False, timeout=30)
        self.origin = door.url
        self.cookie: str | None = None

    def ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        headers = {"Origin": self.origin, **given.pop("headers", {})}
        if self.cookie is not None:
            headers.setdefault("Cookie", f"{SESSION_COOKIE}={self.cookie}")
        answer = self.http.request(method, f"/api/v1/{path}", headers=headers, **given)
        told = answer.headers.get("set-cookie")
        if told is not None:
            self.cookie = told.partition(";")[0].partition("=")[2].strip('"') or None
        self.http.cookies.clear()
        return answer

    def sign_in(self, email: str, password: str = PASSWORD) -> httpx.Response:
        return self.ask("POST", "session", json={"email": email, "password": password})


@pytest.fixture
def ours(door: Door) -> Browser:
    return Browser(door)


def _code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_s12_the_cookie_is_for_this_host_and_no_script(ours: Browser, anna: str) -> None:
    answer = ours.sign_in(anna)
    assert answer.status_code == 204
    name, *attributes = answer.headers["set-cookie"].split("; ")
    assert name.startswith("__Host-session=")
    assert {one.lower() for one in attributes} == {"httponly", "max-age=86400", "path=/", "samesite=lax", "secure"}
    first = ours.cookie
    assert ours.ask("GET", "session").json()["name"] == anna
    ours.sign_in(anna)
    assert ours.cookie != first
    dead = ours.ask("GET", "session", headers={"Cookie": f"{SESSION_COOKIE}={first}"})
    assert _code(dead) == (401, "session_invalid")


def test_s12_rights_that_change_end_the_session_and_a_password_renews_it(ours: Browser, door: Door, anna: str) -> None:
    ours.sign_in(anna)
    before = ours.cookie
    body = {"password": PASSWORD, "new_password": "wronger horse battery"}
    assert ours.ask("PUT", "password", json=body).status_code == 204
    assert ours.cookie not in (before, None)
    assert _code(ours.ask("GET", "session", headers={"Cookie": f"{SESSION_COOKIE}={before}"})) == (
        401,
        "session_invalid",
    )
    with door.connect() as operator:
        operator.create_user("otto@example.org", Secret(PASSWORD))
    own = ours.cookie
    assert ours.ask("PUT", "tenants/acme/members/otto@example.org", json={"role": "owner"}).status_code == 200
    assert ours.ask("PUT", f"tenants/acme/members/{anna}", json={"role": "editor"}).status_code == 200
    assert ours.cookie != own, "one's own role: a new secret"
    assert ours.ask("GET", "tenants/acme").status_code == 200
    with door.connect() as operator:
        operator.set_member("acme", anna, "administrator")
    ours.sign_in(anna, body["new_password"])
    own = ours.cookie
    assert ours.ask("DELETE", f"tenants/acme/members/{anna}").status_code == 204
    assert ours.cookie not in (own, None), "who leaves himself is not signed out"
    assert ours.ask("GET", "session").json()["name"] == anna
    with door.connect() as operator:
        operator.set_member("acme", anna, "viewer")
    assert _code(ours.ask("GET", "session")) == (401, "session_invalid")


def test_s12_who_joins_and_who_changes_the_own_platform_role_goes_on_under_a_new_secret(
    ours: Browser, door: Door
) -> None:
    with door.connect() as operator:
        otto = operator.create_user("otto@example.org", Secret(PASSWORD), platform_role="operator").user
        made = operator.create_invitation("acme", otto.email, "viewer").hand_over
    assert made is not None
    ours.sign_in(otto.email)
    for method, path, body in (
        ("POST", "invitations/join", {"token": made.token}),
        ("PUT", f"users/{otto.id}/platform-role", {"platform_role": "auditor"}),
    ):
        own = ours.cookie
        assert ours.ask(method, path, json=body).status_code == 200
        assert ours.cookie not in (own, None)
        assert ours.ask("GET", "session").json()["name"] == otto.email
        stolen = ours.ask("GET", "session", headers={"Cookie": f"{SESSION_COOKIE}={own}"})
        assert _code(stolen) == (401, "session_invalid")


def test_s13_signed_out_and_ended_are_out(ours: Browser, door: Door, anna: str) -> None:
    other = Browser(door)
    for browser in (ours, other):
        browser.sign_in(anna)
    listed = ours.ask("GET", "sessions", headers={"User-Agent": "x"}).json()
    assert [one["is_current"] for one in listed] == [False, True]
    assert listed[0]["address"] == "127.0.0.1"
    assert ours.ask("DELETE", "sessions").json() == {"count": 1}
    assert _code(other.ask("GET", "session")) == (401, "session_invalid")
    kept = ours.cookie
    assert ours.ask("DELETE", "session").status_code == 204
    assert ours.cookie is None
    assert _code(ours.ask("GET", "session", headers={"Cookie": f"{SESSION_COOKIE}={kept}"})) == (401, "session_invalid")


def test_s13_a_suspended_tenant_is_closed_to_sessions(ours: Browser, door: Door, anna: str) -> None:
    ours.sign_in(anna)
    assert ours.ask("GET", "tenants/acme/documents").status_code == 200
    with door.connect() as operator:
        operator.suspend_tenant("acme", "x")
    assert _code(ours.ask("GET", "tenants/acme/documents")) == (403, "tenant_suspended")


def test_s14_a_token_in_an_address_is_refused(ours: Browser, door: Door) -> None:
    token = door.token.reveal()
    for query in (f"access_token={token}", f"x={token}", "token=x", f"api_key={token}"):
        assert _code(ours.ask("GET", f"tokens?{query}")) == (400, "token_in_query")
        with door.connect() as client:
            assert _code(client.http.get(f"/api/v1/tokens?{query}")) == (400, "token_in_query")


def test_s15_a_cookie_and_a_token_at_once_are_refused(ours: Browser, door: Door, anna: str) -> None:
    ours.sign_in(anna)
    for authorization in (f"Bearer {door.token.reveal()}", "Basic eDp4", "x"):
        answer = ours.ask("GET", "session", headers={"Authorization": authorization})
        assert _code(answer) == (400, "two_credentials")


def test_s15_other_sites_change_nothing(ours: Browser, door: Door, anna: str) -> None:
    ours.sign_in(anna)
    body = {"name": "stolen"}
    evil = [
        ({"Origin": "https://evil.example"}, {"json": body}),
        ({"Origin": "null"}, {"json": body}),
        ({"Sec-Fetch-Site": "cross-site"}, {"json": body}),
        ({"Sec-Fetch-Site": "same-site"}, {"json": body}),
        ({}, {"data": body}),
        ({"Content-Type": "text/plain"}, {"content": b'{"name": "stolen"}'}),
        ({"Content-Type": "multipart/form-data; boundary=x"}, {"content": b"x"}),
    ]
    for headers, content in evil:
        assert _code(ours.ask("POST", "tokens", headers=headers, **content)) == (403, "request_forged")
    silent = ours.http.post("/api/v1/tokens", json=body, headers={"Cookie": f"{SESSION_COOKIE}={ours.cookie}"})
    assert _code(silent) == (403, "request_forged")
    assert ours.ask("GET", "tokens").json() == []
    assert ours.ask("POST", "tokens", json=body).status_code == 201


def test_s15_nobody_is_signed_in_by_another_site(ours: Browser, anna: str) -> None:
    """Login CSRF: a victim who works in the attacker's account gives away what is put there."""
    body = {"email": anna, "password": PASSWORD}
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = ours.ask("POST", "session", json=body, headers=headers)
        assert _code(answer) == (403, "request_forged")
        assert "set-cookie" not in answer.headers
    assert _code(ours.ask("POST", "session", data=body)) == (403, "request_forged")
    assert _code(ours.http.post("/api/v1/session", json=body)) == (403, "request_forged")


def test_s57_a_lower_role_counts_from_the_next_request(ours: Browser, door: Door, anna: str) -> None:
    with httpx.Client(base_url=door.url, trust_env=False) as http, door.connect() as operator:
        login = http.post("/api/v1/login", json={"email": anna, "password": PASSWORD}).json()
        headers = {"Authorization": f"Bearer {login['token']}"}
        assert http.get("/api/v1/tenants/acme/audit", headers=headers).status_code == 200
        operator.set_member("acme", anna, "viewer")
        refused = http.get("/api/v1/tenants/acme/audit", headers=headers)
        assert _code(refused) == (403, "permission_required")
        operator.remove_member("acme", anna)
        assert _code(http.get("/api/v1/tenants/acme/audit", headers=headers)) == (404, "tenant_not_found")


def test_services_and_bounded_tokens_over_http(door: Door, anna: str) -> None:
    with door.connect() as client:
        made = client.create_service("acme", "scanner", "editor")
        assert [one.id for one in client.iter_services("acme")] == [made.id]
        token = client.create_service_token("acme", made.id, "x", scopes=["documents.read"], expires_in_days=1)
        with door.connect(token.token) as scanner:
            assert list(scanner.iter_documents("acme")) == []
            for refused in (lambda: scanner.list_members("acme"), scanner.get_caller, scanner.list_sessions):
                with pytest.raises(ApiProblem) as caught:
                    refused()
                assert caught.value.problem.code == "permission_required"
            client.revoke_service_token("acme", made.id, token.id)
            with pytest.raises(ApiProblem) as caught:
                list(scanner.iter_documents("acme"))
            assert caught.value.problem.code == "token_invalid"
        assert [one.scopes for one in client.list_service_tokens("acme", made.id)] == [["documents.read"]]
        assert client.disable_service("acme", made.id).disabled_at is not None
        assert client.enable_service("acme", made.id).disabled_at is None
        monitor = client.create_service(None, "monitor", "auditor")
        token = client.create_service_token(None, monitor.id, "x")
        with door.connect(token.token) as program:
            assert [one.slug for one in program.iter_tenants()] == ["acme"]
            caller = program.get_caller()
            assert (caller.name, caller.session_id, caller.token_id) == (monitor.email, None, token.id)
        client.disable_service(None, monitor.id)
        only = client.create_token("x", scopes=["tenant.read"], tenant="acme", expires_in_days=1)
        with door.connect(only.token) as bounded:
            assert bounded.get_tenant("acme").slug == "acme"
        user = next(one for one in client.iter_users() if one.email == anna)
        assert client.disable_user(user.id).disabled_at is not None
        assert client.enable_user(user.id).disabled_at is None
        assert client.set_platform_role(user.id, "auditor").is_auditor
        assert not client.set_platform_role(user.id, None).is_auditor
        with pytest.raises(ApiProblem) as caught:
            client.set_platform_role(next(one.id for one in client.iter_users() if one.is_operator), None)
        assert caught.value.problem.code == "last_operator"


def test_second_factors_over_http(ours: Browser, door: Door, anna: str) -> None:
    with Client(door.url, tries=1) as client:
        token = client.log_in(anna, Secret(PASSWORD)).token
    with door.connect(token) as client:
        totp = pyotp.TOTP(client.begin_totp(Secret(PASSWORD)).secret)
        codes = client.confirm_totp(Secret(totp.at(int(time.time()) - 30)))
        assert (client.list_factors().has_totp, len(codes)) == (True, 10)
    refused = ours.sign_in(anna)
    assert _code(refused) == (401, "second_factor_required")
    assert refused.json()["factors"] == ["totp", "recovery_code"]
    body = {"email": anna, "password": PASSWORD, "code": totp.now()}
    assert ours.ask("POST", "session", json=body).status_code == 204
    assert _code(ours.ask("POST", "session", json=body)) == (401, "second_factor_wrong")
    with Client(door.url, tries=1) as client:
        assert client.log_in(anna, Secret(PASSWORD), code=Secret(codes[0])).token
    before = ours.cookie
    assert ours.ask("POST", "account/totp/remove", json={"password": PASSWORD}).status_code == 204
    assert ours.cookie != before
    assert ours.ask("GET", "session").status_code == 200
    refused = ours.ask("POST", "account/passkeys/begin", json={"password": PASSWORD})
    assert _code(refused) == (409, "passkeys_unavailable")


def test_invitations_and_resets_over_http(door: Door, anna: str) -> None:
    chosen = Secret("wronger horse battery")
    with door.connect() as client, Client(door.url, tries=1) as nobody:
        made = client.create_invitation("acme", "new@example.org", "viewer")
        assert made.hand_over is not None
        assert made.hand_over.link is None, "no public address is set, and the Host header does not count"
        assert nobody.accept_invitation(Secret(made.hand_over.token), chosen) == "new@example.org"
        assert nobody.log_in("new@example.org", chosen).token
        with pytest.raises(ApiProblem) as caught:
            nobody.accept_invitation(Secret(made.hand_over.token), chosen)
        assert (caught.value.status, caught.value.code) == (404, "invitation_invalid")
        (listed,) = client.iter_invitations("acme")
        assert listed.accepted_at is not None
        again = client.create_invitation("acme", "other@example.org", "viewer")
        client.revoke_invitation("acme", again.invitation.id)
        user = next(one for one in client.iter_users() if one.email == "new@example.org")
        reset = client.create_reset(user.id)
        nobody.use_reset(Secret(reset.token), Secret(PASSWORD))
        assert nobody.log_in("new@example.org", Secret(PASSWORD)).token
        nobody.request_reset("new@example.org")
        nobody.request_reset("nobody@example.org")
        client.remove_factors(user.id)
