"""Sign-in through identity providers: against a certified server, and against what a hostile one would send."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hmac
import secrets
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from tests.identity.oidcserver import Issuer, issuer

from simples3dms.api.app import create_app
from simples3dms.bootstrap import Services, build_services
from simples3dms.context import HOST, Principal
from simples3dms.crypto.oidc import check_id_token, flow_of, new_flow
from simples3dms.errors import Conflict, Failure, Forbidden, Invalid, NotFound, Unauthenticated
from simples3dms.identity.federation.engine import IssuerFailed, is_usable_url
from simples3dms.identity.federation.values import Answer, Begun, IdentityProvider, NewProvider
from simples3dms.identity.permissions import TENANT_ROLES, Permission, rights_of
from simples3dms.identity.sessions.values import NewSession, Visitor
from simples3dms.identity.values import Role
from simples3dms.kit.ids import new_id
from simples3dms.kit.secret import Secret
from simples3dms.settings import Settings
from simples3dms.tenants.values import Tenant

pytestmark = pytest.mark.anyio
PUBLIC = "https://documents.example.org"
CALLBACK = f"{PUBLIC}/api/v1/oidc/callback"
GOOD = Secret("correct horse battery")


@pytest.fixture(scope="module")
def server() -> Iterator[Issuer]:
    # With characters that HTTP Basic would trip over if they were not encoded.
    with issuer(CALLBACK, f"{secrets.token_urlsafe(24)}:%+ &") as found:
        yield found


@pytest.fixture
def settings(settings: Settings, server: Issuer) -> Settings:
    """The guard lets tenants through to the server, which runs on this machine."""
    return settings.model_copy(update={"public_url": PUBLIC, "egress_allow": urlsplit(server.url).netloc})


@pytest.fixture
async def tenant(services: Services) -> Tenant:
    return await services.tenants.create_tenant(HOST, "acme", "Acme")


async def _refused(failure: type[Failure], code: str, act: Any) -> None:
    with pytest.raises(failure) as caught:
        await act
    assert caught.value.problem_code == code


def _new(server: Issuer, **given: Any) -> NewProvider:
    secret = Secret(server.client_secret)
    base = NewProvider("login", server.url, server.client_id, secret, False, False, None)
    return dataclasses.replace(base, **given)


async def _add(services: Services, server: Issuer, of: UUID | None = None, **given: Any) -> IdentityProvider:
    return await services.federation.add_provider(HOST, of, _new(server, **given))


async def _go(server: Issuer, begun: Begun, who: str) -> Answer:
    """What the browser brings back."""
    back = await asyncio.to_thread(server.sign_in, begun.url, who, redirect_uri=CALLBACK)
    found = {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}
    return Answer(found["state"], found.get("code"), found.get("iss"), found.get("error"))


async def _sign_in(services: Services, server: Issuer, provider: IdentityProvider, who: str) -> NewSession:
    begun = await services.federation.begin(provider.id, address="")
    return await services.federation.finish(begun.browser, await _go(server, begun, who), Visitor())


async def _user(services: Services, email: str, **given: Any) -> Principal:
    user, _ = await services.identity.create_user(HOST, email, GOOD, **given)
    return Principal(user.id, user.email, user.is_operator)


async def test_a_verified_address_makes_a_user_once_and_the_subject_is_remembered(
    services: Services, server: Issuer
) -> None:
    provider = await _add(services, server, creates_users=True)
    first = await services.sessions.authenticate((await _sign_in(services, server, provider, "anna")).secret)
    again = await services.sessions.authenticate((await _sign_in(services, server, provider, "anna")).secret)
    assert (first.name, first.tenant_id, again) == ("anna@example.org", None, first)
    assert [user.email for user in await services.identity.list_users()] == ["anna@example.org"]
    # A user without a password is nobody's by password: the answer and the work are those for everybody.
    act = services.identity.log_in("anna@example.org", Secret("!"), token_name="x")
    await _refused(Unauthenticated, "credentials_wrong", act)
    events = [event.action for event in await services.audit.list_events(None)]
    assert events.count("identity.linked") == 1
    assert events.count("session.started") == 2


async def test_who_is_not_to_be_linked_is_not(services: Services, server: Issuer) -> None:
    """No account is taken over by an address that was not verified, or where the set-up does not say so."""
    anna = await _user(services, "anna@example.org")
    provider = await _add(services, server)
    for who in ("anna", "ben", "none"):
        await _refused(Unauthenticated, "sign_in_unlinked", _sign_in(services, server, provider, who))
    linking = await _add(services, server, name="linking", links_by_email=True, creates_users=True)
    await _refused(Unauthenticated, "sign_in_unlinked", _sign_in(services, server, linking, "x-anna"))
    session = await _sign_in(services, server, linking, "anna")
    assert await services.sessions.authenticate(session.secret) == anna
    assert anna.id is not None
    await services.identity.set_disabled(HOST, anna.id, True)
    await _refused(Unauthenticated, "session_invalid", services.sessions.authenticate(session.secret))
    await _refused(Unauthenticated, "sign_in_unlinked", _sign_in(services, server, linking, "anna"))


async def test_a_tenants_provider_speaks_for_that_tenant_only(
    services: Services, server: Issuer, tenant: Tenant
) -> None:
    """An owner could have it name anybody: an operator of the platform, a stranger, another tenant's owner."""
    other = await services.tenants.create_tenant(HOST, "globex", "Globex")
    anna = await _user(services, "anna@example.org", is_operator=True)
    await _user(services, "boss@example.org")
    await services.identity.set_member(HOST, tenant.id, anna.name, "viewer")
    await services.identity.set_member(HOST, other.id, anna.name, "owner")
    await services.identity.set_member(HOST, other.id, "boss@example.org", "owner")
    provider = await _add(services, server, tenant.id, links_by_email=True, creates_users=True, default_role="editor")
    session = await services.sessions.authenticate((await _sign_in(services, server, provider, "anna")).secret)
    assert session.tenant_id == tenant.id
    assert await services.identity.get_rights(session, other.id) == frozenset()
    assert rights_of(session) & {Permission.USERS_WRITE, Permission.ACCOUNT} == frozenset()
    elsewhere = await services.identity.create_token(anna, "elsewhere")
    assert await services.identity.list_tokens(session) == []
    await _refused(NotFound, "token_not_found", services.identity.revoke_token(session, elsewhere.id))
    heir = await services.identity.create_token(session, "heir")
    assert (await services.identity.authenticate(heir.token)).tenant_id == tenant.id
    # Whoever is somebody already, and no member here, is not taken in.
    await _refused(Unauthenticated, "sign_in_unlinked", _sign_in(services, server, provider, "boss"))
    made = await services.sessions.authenticate((await _sign_in(services, server, provider, "new")).secret)
    assert await services.identity.get_rights(made, tenant.id) == TENANT_ROLES[Role.EDITOR]


async def test_a_removed_provider_lets_nobody_in_and_whoever_came_by_it_is_out(
    services: Services, server: Issuer, tenant: Tenant
) -> None:
    provider = await _add(services, server, tenant.id, creates_users=True, default_role="viewer")
    session = await _sign_in(services, server, provider, "anna")
    begun = await services.federation.begin(provider.id, address="")
    answer = await _go(server, begun, "anna")
    await _refused(NotFound, "provider_not_found", services.federation.remove_provider(HOST, None, provider.id))
    await services.sessions.authenticate(session.secret)
    await services.federation.remove_provider(HOST, tenant.id, provider.id)
    await _refused(Unauthenticated, "session_invalid", services.sessions.authenticate(session.secret))
    await _refused(Unauthenticated, "sign_in_failed", services.federation.finish(begun.browser, answer, Visitor()))
    await _refused(NotFound, "provider_not_found", services.federation.begin(provider.id, address=""))


async def test_what_comes_back_counts_once_in_the_browser_that_began(services: Services, server: Issuer) -> None:
    provider = await _add(services, server, creates_users=True)
    finish = services.federation.finish
    begun, other = [await services.federation.begin(provider.id, address="") for _ in range(2)]
    answer = await _go(server, begun, "anna")
    for browser in (None, other.browser, Secret(""), Secret("\ud800")):
        await _refused(Unauthenticated, "sign_in_failed", finish(browser, answer, Visitor()))
    await finish(begun.browser, answer, Visitor())
    await _refused(Unauthenticated, "sign_in_failed", finish(begun.browser, answer, Visitor()))
    for change in (
        {"code": None},
        {"error": "access_denied"},
        {"issuer": None},
        {"issuer": "https://other.example"},
        {"state": "x"},
        {"state": "\ud800"},
    ):
        begun = await services.federation.begin(provider.id, address="")
        answer = dataclasses.replace(await _go(server, begun, "anna"), **change)  # type: ignore[arg-type]
        await _refused(Unauthenticated, "sign_in_failed", finish(begun.browser, answer, Visitor()))
    # A code of another flow, which PKCE binds to that one.
    begun, other = [await services.federation.begin(provider.id, address="") for _ in range(2)]
    stolen = await _go(server, other, "anna")
    mixed = Answer(flow_of(begun.browser).state, stolen.code, stolen.issuer, None)
    await _refused(IssuerFailed, "issuer_failed", finish(begun.browser, mixed, Visitor()))
    late = await services.federation.begin(provider.id, address="")
    answer = await _go(server, late, "anna")
    async with services.database.platform() as uow:
        await uow.execute("UPDATE sign_in_flows SET expires_at = now()")
    await _refused(Unauthenticated, "sign_in_failed", finish(late.browser, answer, Visitor()))


async def test_the_client_secret_is_sealed_and_the_flow_leaves_none(services: Services, server: Issuer) -> None:
    provider = await _add(services, server, creates_users=True)
    begun = await services.federation.begin(provider.id, address="")
    flow = flow_of(begun.browser)
    async with services.database.platform() as uow:
        dump = await uow.scalars(
            """SELECT p::text FROM identity_providers p UNION ALL SELECT f::text FROM sign_in_flows f
               UNION ALL SELECT a::text FROM audit_events a"""
        )
    hidden = [server.client_secret, begun.browser.reveal(), flow.verifier.reveal(), flow.state, flow.nonce]
    assert not any(secret in row for row in dump for secret in hidden)
    assert flow.verifier.reveal() not in begun.url


async def test_who_may_set_up_a_provider(services: Services, server: Issuer, tenant: Tenant) -> None:
    """Whoever says who vouches for people could become each of them."""
    anna = await _user(services, "anna@example.org")
    add = services.federation.add_provider
    await services.identity.set_member(HOST, tenant.id, anna.name, "administrator")
    await _refused(Forbidden, "rights_exceed_own", add(anna, tenant.id, _new(server)))
    await _refused(Forbidden, "rights_exceed_own", add(anna, None, _new(server)))
    await services.identity.set_member(HOST, tenant.id, anna.name, "owner")
    made = await services.identity.create_token(anna, "x", scopes=[Permission.PROVIDERS_WRITE])
    weak = await services.identity.authenticate(made.token)
    await _refused(Forbidden, "rights_exceed_own", add(weak, tenant.id, _new(server)))
    await add(anna, tenant.id, _new(server))
    await _refused(Conflict, "provider_exists", add(anna, tenant.id, _new(server)))
    for wrong in (
        {"name": "X"},
        {"issuer": "http://login.example.org"},
        {"issuer": "ftp://x"},
        {"client_id": ""},
        {"client_secret": Secret("\n")},
    ):
        await _refused(Invalid, "provider_invalid", add(HOST, None, _new(server, **wrong)))
    await _refused(Invalid, "role_invalid", add(HOST, None, _new(server, default_role="viewer")))
    await _refused(IssuerFailed, "issuer_failed", add(HOST, None, _new(server, issuer=f"{server.url}/")))
    await _refused(IssuerFailed, "issuer_failed", add(HOST, None, _new(server, issuer="http://127.0.0.1:9")))
    assert [one.name for one in await services.federation.list_providers(tenant.id)] == ["login"]
    assert await services.federation.list_providers(None) == []


async def test_a_tenants_issuer_is_reached_through_the_guard(settings: Settings, server: Issuer) -> None:
    """The operator's own may be of the house's network; a tenant's may not, unless the operator lets it."""
    guarded = settings.model_copy(update={"egress_guard": "all", "egress_allow": ""})
    services = await asyncio.to_thread(build_services, guarded)
    await services.open()
    tenant = await services.tenants.create_tenant(HOST, "acme", "Acme")
    await _refused(Invalid, "endpoint_refused", _add(services, server, tenant.id))
    await _add(services, server)
    # Past the check, as a name would be that leads elsewhere later: discovery itself is stopped.
    act = services.federation._issuers.discover(server.url, is_tenants=True)
    await _refused(IssuerFailed, "issuer_failed", act)
    await services.close()
    port = urlsplit(server.url).port
    allowed = guarded.model_copy(update={"egress_allow": f"127.0.0.1:{port}"})
    services = await asyncio.to_thread(build_services, allowed)
    await services.open()
    provider = await _add(services, server, tenant.id, creates_users=True, default_role="viewer")
    assert await _sign_in(services, server, provider, "anna")
    await services.close()


KEY, FOREIGN = RSAKey.generate_key(2048), RSAKey.generate_key(2048)
NOW = int(time.time())
RIGHT = {
    "iss": "https://issuer.example",
    "sub": "anna",
    "aud": "documents",
    "exp": NOW + 300,
    "iat": NOW,
    "nonce": "n",
    "email": "Anna@example.org",
    "email_verified": True,
}


def _check(claims: dict[str, Any], key: RSAKey = KEY, header: dict[str, Any] | None = None) -> Any:
    token = jwt.encode(header or {"alg": "RS256"}, claims, key)
    keys: Any = KeySet([KEY]).as_dict()
    return check_id_token(
        token, keys, issuer="https://issuer.example", client_id="documents", nonce="n", now_seconds=NOW
    )


def test_an_id_token_that_is_right() -> None:
    found = _check(RIGHT)
    assert (found.subject, found.email) == ("anna", "anna@example.org")
    assert _check({**RIGHT, "aud": ["documents"]}).subject == "anna"
    for unverified in (False, "true", None, 1):
        assert _check({**RIGHT, "email_verified": unverified}).email is None


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://issuer.example/"},
        {"iss": None},
        {"aud": "others"},
        {"aud": ["others"]},
        {"aud": ["documents", "others"], "azp": "others"},
        {"exp": NOW - 61},
        {"exp": None},
        {"iat": NOW + 3600},
        {"nbf": NOW + 3600},
        {"nonce": "m"},
        {"nonce": None},
        {"sub": ""},
        {"sub": None},
        {"sub": "x" * 256},
        {"sub": 7},
    ],
)
def test_an_id_token_that_is_not_for_us_here_and_now(change: dict[str, Any]) -> None:
    claims = {name: value for name, value in {**RIGHT, **change}.items() if value is not None}
    assert _check(claims) is None


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_an_id_token_that_the_issuer_did_not_sign() -> None:
    assert _check(RIGHT, FOREIGN) is None
    keys: Any = KeySet([KEY]).as_dict()
    public = KEY.as_pem(private=False)
    body = jwt.encode({"alg": "RS256"}, RIGHT, KEY).split(".")
    shared = _text(b'{"alg":"HS256"}') + "." + body[1]
    mac = _text(hmac.digest(public, shared.encode(), "sha256"))
    forged = [
        # By nobody; by our public key taken for a shared secret; with another body; half of one; none.
        "eyJhbGciOiJub25lIn0." + body[1] + ".",
        f"{shared}.{mac}",
        body[0] + "." + body[1][:-4] + "AAAA." + body[2],
        ".".join(body[:2]),
        "",
        "\ud800",
    ]
    for token in forged:
        found = check_id_token(
            token, keys, issuer="https://issuer.example", client_id="documents", nonce="n", now_seconds=NOW
        )
        assert found is None


def test_each_flow_is_its_own() -> None:
    one, two = new_flow(), new_flow()
    assert len({one.state, one.nonce, one.verifier.reveal(), one.browser.reveal(), two.state, two.nonce}) == 6
    again = flow_of(one.browser)
    assert (again.state, again.nonce, again.verifier, again.challenge) == (
        one.state,
        one.nonce,
        one.verifier,
        one.challenge,
    )


@pytest.mark.parametrize(
    ("url", "usable"),
    [
        ("https://x.example", True),
        ("https://x.example/realms/a", True),
        ("http://127.0.0.1:3000", True),
        ("http://localhost", True),
        ("http://x.example", False),
        ("http://127.0.0.1.evil.example", False),
        ("https://user@x.example", False),
        ("https://", False),
        ("javascript:x", False),
        ("https://x.example/#a", False),
        ("https://[", False),
        ("", False),
    ],
)
def test_where_secrets_may_go(url: str, usable: bool) -> None:
    assert is_usable_url(url) is usable


async def test_a_browser_goes_there_and_comes_back(services: Services, server: Issuer, tenant: Tenant) -> None:
    """Over HTTP: the flow's cookie, the session's, and nothing of what came back on the page that follows."""
    provider = await _add(services, server, tenant.id, creates_users=True, default_role="viewer")
    transport = httpx.ASGITransport(create_app(services))
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC, headers={"Origin": PUBLIC}) as browser:
        for name, expected in (("acme", [str(provider.id)]), ("never-was", []), ("", [])):
            offered = await browser.get("/api/v1/oidc/providers", params={"tenant": name})
            assert [one["id"] for one in offered.json()] == expected
        path = f"/api/v1/oidc/providers/{provider.id}/begin"
        forged = await browser.post(path, headers={"Origin": "https://evil.example"})
        assert (forged.status_code, forged.json()["code"]) == (403, "request_forged")
        began = await browser.post(path)
        assert "; secure" in began.headers["set-cookie"].lower()
        answer = await _go(server, Begun(began.json()["url"], Secret("")), "anna")
        query = {"state": answer.state, "code": answer.code or "", "iss": answer.issuer or ""}
        evil = await browser.get("/api/v1/oidc/callback", params={"state": "<x>", "error": "//evil.example"})
        assert (evil.status_code, evil.headers["location"]) == (303, f"{PUBLIC}/sign-in#problem=sign_in_failed")
        # The flow's cookie went with that; a browser that still has it is the one that began.
        browser.cookies.clear()
        browser.cookies.set("__Host-sign-in", began.cookies["__Host-sign-in"])
        back = await browser.get("/api/v1/oidc/callback", params=query)
        assert (back.status_code, back.headers["location"]) == (303, f"{PUBLIC}/")
        caller = (await browser.get("/api/v1/session")).json()
        assert (caller["name"], caller["tenant_id"]) == ("anna@example.org", str(tenant.id))
        assert (await browser.get("/api/v1/tenants/acme/documents")).status_code == 200
        assert (await browser.get("/api/v1/sessions")).json()["code"] == "permission_required"
        assert (await browser.delete("/api/v1/session")).status_code == 204


async def test_a_provider_of_nobody(services: Services) -> None:
    await _refused(NotFound, "provider_not_found", services.federation.begin(new_id(), address=""))
