"""Every operation that changes something is one event, in the transaction that changes it; refusals are events too."""

from __future__ import annotations

import csv
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

import httpx
import psycopg
import pyotp
import pytest
import structlog
from psycopg.conninfo import conninfo_to_dict
from tests.api import acts_of_people, acts_of_stores, acts_of_tenants
from tests.api.acts import CHANGES_NOTHING, PUBLIC, Installation, walk
from tests.api.conftest import Door
from tests.conftest import Cluster
from tests.identity.mailbox import Mailbox, mail_server
from tests.rotations.conftest import BUCKET, B2Side

from simples3dms.api.app import create_app
from simples3dms.cli.main import app as cli
from simples3dms.client import ApiProblem, Client
from simples3dms.db.provision import Provisioned
from simples3dms.kit.secret import Secret
from simples3dms.sandbox.b2 import B2Sandbox
from simples3dms.settings import Settings


@pytest.fixture
def mail() -> Iterator[tuple[Mailbox, int]]:
    with mail_server() as server:
        yield server


@pytest.fixture
def issuer() -> Iterator[str]:
    """An identity provider that says what it is, and no more."""

    class Discovery(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
            body = json.dumps({"issuer": url} | {name: f"{url}/{name}" for name in names}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Discovery) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield url
        server.shutdown()


@pytest.fixture
def side(tmp_path: Path) -> Iterator[B2Side]:
    with B2Sandbox(tmp_path / "b2", buckets=(BUCKET, "brought")) as server:
        yield B2Side(server)


@pytest.fixture
def settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """With what a test asks for: letters that go somewhere, and servers of tenants that the guard lets through."""
    given: dict[str, Any] = {"public_url": PUBLIC}
    if "mail" in request.fixturenames:
        given |= {"smtp_host": "127.0.0.1", "smtp_port": request.getfixturevalue("mail")[1], "smtp_tls": "none"}
    if "issuer" in request.fixturenames:
        given["egress_allow"] = urlsplit(request.getfixturevalue("issuer")).netloc
    if "side" in request.fixturenames:
        given["egress_allow"] = urlsplit(request.getfixturevalue("side").server.url).netloc
    return settings.model_copy(update=given)


@pytest.fixture
def installation(door: Door, cluster: Cluster, urls: Provisioned) -> Iterator[Installation]:
    name = str(conninfo_to_dict(urls.app_url)["dbname"])
    # What fails on purpose is logged in a line: the usual traceback with all its variables takes seconds.
    before = structlog.get_config()
    structlog.configure(processors=[structlog.processors.KeyValueRenderer()])
    with (
        psycopg.connect(cluster.server.superuser_dsn(name), autocommit=True) as connection,
        httpx.Client(base_url=door.url, trust_env=False, timeout=60) as http,
    ):
        yield Installation(door, connection, http)
    structlog.configure(**before)


def test_s45_every_operation_that_changes_something_has_a_call(tmp_path: Path, side: B2Side) -> None:
    """An operation that is added gets a step, or a reason why it needs none."""
    changing = {
        operation["operationId"]
        for methods in create_app(None).openapi()["paths"].values()
        for method, operation in methods.items()
        if method != "get"
    }
    steps = [*acts_of_people.steps(Mailbox(), ""), *acts_of_stores.steps(tmp_path, side), *acts_of_tenants.steps()]
    assert {one.name for one in steps} == changing
    assert set(CHANGES_NOTHING) <= changing


@pytest.mark.timeout(300)
def test_s45_one_act_on_people_is_one_event_and_without_it_there_is_no_act(
    installation: Installation, mail: tuple[Mailbox, int], issuer: str
) -> None:
    walk(installation, acts_of_people.steps(mail[0], issuer))


@pytest.mark.timeout(300)
def test_s45_one_act_on_stores_is_one_event_and_without_it_there_is_no_act(
    installation: Installation, tmp_path: Path, side: B2Side
) -> None:
    walk(installation, acts_of_stores.steps(tmp_path, side))


@pytest.mark.timeout(300)
def test_s45_one_act_on_tenants_is_one_event_and_without_it_there_is_no_act(installation: Installation) -> None:
    # The key that signs is made at its first use, whatever comes of that.
    assert installation.ask("POST", "/audit/checkpoints").status_code == 201
    walk(installation, acts_of_tenants.steps())


def test_s45_what_fails_leaves_no_event(installation: Installation) -> None:
    installation.ask("POST", "/tenants", json={"slug": "globex", "name": "Globex"})
    count = installation.acts()
    for method, path, given in (
        ("POST", "/tenants", {"json": {"slug": "globex", "name": "Globex"}}),
        ("POST", "/tenants", {"json": {"slug": "Not Valid", "name": "x"}}),
        ("PUT", "/tenants/acme/members/nobody@example.org", {"json": {"role": "viewer"}}),
        ("DELETE", f"/tenants/acme/documents/{UUID(int=1)}", {}),
        ("POST", "/tenants/acme/documents?name=a", {"content": b"x", "headers": {"Content-Digest": "sha-256=:AAAA:"}}),
        ("POST", "/tenants/acme/migrations", {"json": {"target": "disk-a"}}),
        ("PUT", "/tenants/acme/audit/retention", {"json": {"days": 3}}),
    ):
        assert not installation.ask(method, path, **given).is_success
    assert installation.acts() == count


def refusals(installation: Installation) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Whose chain, who, what, and the details."""
    found = installation.rows(
        """SELECT coalesce(t.slug, 'platform'), e.principal_name, e.action || ' ' || e.target_id, e.details
           FROM audit_events e LEFT JOIN tenants t ON t.id = e.tenant_id WHERE e.outcome = 'refused' ORDER BY e.id"""
    )
    return [(chain, who, what, details) for chain, who, what, details in found]


@pytest.fixture
def anna(installation: Installation, door: Door) -> Iterator[Client]:
    """A viewer of acme."""
    with door.connect() as operator:
        made = operator.create_user("anna@example.org")
        operator.set_member("acme", "anna@example.org", "viewer")
        operator.create_tenant("globex", "Globex")
    assert made.password is not None
    with Client(door.url, tries=1) as client:
        token = client.log_in("anna@example.org", Secret(made.password)).token
    installation.ids |= {"anna": token, "password": made.password}
    with door.connect(token) as client:
        yield client


def ask_and_be_refused(act: Callable[[], object]) -> str:
    with pytest.raises(ApiProblem) as refused:
        act()
    return refused.value.code


def test_s45_a_refused_attempt_is_a_security_event(installation: Installation, anna: Client) -> None:
    assert ask_and_be_refused(lambda: anna.set_member("acme", "anna@example.org", "owner")) == "permission_required"
    assert ask_and_be_refused(lambda: list(anna.iter_users())) == "permission_required"
    assert ask_and_be_refused(lambda: anna.get_tenant("globex")) == "tenant_not_found"
    assert ask_and_be_refused(lambda: anna.get_placement("never-was")) == "tenant_not_found"
    found = refusals(installation)
    assert [one[:3] for one in found] == [
        ("acme", "anna@example.org", "access.refused set_member"),
        ("platform", "anna@example.org", "access.refused list_users"),
        ("platform", "anna@example.org", "access.refused get_tenant"),
        ("platform", "anna@example.org", "access.refused get_placement"),
    ]
    assert found[0][3] == {
        "code": "permission_required",
        "method": "PUT",
        "address": "127.0.0.1",
        "permission": "members.write",
    }
    assert (found[2][3]["tenant"], found[3][3]["tenant"]) == ("globex", "never-was")


def test_s45_who_is_not_let_in_is_a_security_event_once(installation: Installation, anna: Client) -> None:
    """Whatever the door: passwords, second factors, links, identity providers. Repeats have no event of their own."""
    password = {"email": "anna@example.org", "password": installation.ids["password"]}
    app = pyotp.TOTP(anna.begin_totp(Secret(password["password"])).secret)
    anna.confirm_totp(Secret(app.at(int(time.time()))))
    anna_id = str(anna.get_caller().id)
    wrong, secret = {"password": "wronger horse battery"}, {"token": "s3dmsx_none"}
    attempts: list[tuple[str, str, str, dict[str, Any]]] = [
        ("POST", "/login", "", {"json": password | wrong}),
        ("POST", "/session", "browser", {"json": wrong | {"email": "root@example.org\r\n\x1b[2J\u2028\x00"}}),
        ("POST", "/session", "browser", {"json": password | {"code": "000000"}}),
        ("POST", "/password-resets/use", "", {"json": secret | wrong}),
        ("POST", "/invitations/accept", "", {"json": secret | wrong}),
        ("POST", "/invitations/join", "anna", {"json": secret}),
        ("GET", "/oidc/callback?state=x&code=x", "", {}),
        ("POST", "/session", "", {"json": password}),
    ]
    for _ in range(3):
        for method, path, who, given in attempts:
            assert not installation.ask(method, path, who=who, **given).is_success
    found = refusals(installation)
    assert [(*one[:3], one[3].get("wrong", one[3].get("code"))) for one in found] == [
        ("platform", "somebody", f"sign_in.refused {anna_id}", "password"),
        ("platform", "somebody", "sign_in.refused unknown", "password"),
        ("platform", "somebody", f"sign_in.refused {anna_id}", "second factor"),
        ("platform", "somebody", "sign_in.refused unknown", "reset link"),
        ("platform", "somebody", "sign_in.refused unknown", "invitation"),
        ("platform", "somebody", f"sign_in.refused {anna_id}", "invitation"),
        ("platform", "somebody", "sign_in.refused unknown", "identity provider's answer"),
        ("platform", "somebody", "access.refused sign_in", "request_forged"),
    ]
    assert {one[3]["network"] for one in found[:-1]} == {"127.0.0.1"}
    assert "root" not in str(found), "what was typed is not kept"


def test_s43_no_field_breaks_out_of_its_line(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Line breaks, escapes and formulas in what others give: one line in an export, and nothing but text on screen."""
    hostile = '=cmd| C calc\'!A0\r\nX-Forged: 1\x1b[2J\u2028\u202e","seq":9}'
    assert installation.ask("GET", f"/tenants/{quote(hostile)}").status_code == 404
    for name in ("=cmd|\u202e", "+1+1", "-1"):
        person = {"email": f"{name}@example.org", "password": "correct horse battery"}
        assert installation.ask("POST", "/users", json=person).status_code == 201
        installation.ids["hostile"] = installation.ask("POST", "/login", json=person).json()["token"]
        assert installation.ask("GET", "/users", who="hostile").status_code == 403
    assert installation.ask("POST", "/audit/checkpoints").status_code == 201
    exported = installation.ask("GET", "/audit/export").content
    lines = exported.decode("ascii").splitlines()
    assert exported.count(b"\n") == len(lines)
    assert all(line.isprintable() for line in lines)
    assert hostile in [json.loads(line)["event"]["details"].get("tenant") for line in lines[1:]]
    sheet = installation.ask("GET", "/audit/export", params={"format": "csv"})
    assert sheet.headers["content-type"].startswith("text/csv")
    assert "attachment" in sheet.headers["content-disposition"]
    # Beside the heading, a row for each event; what was sealed since comes after them.
    seqs = [str(json.loads(line)["seq"]) for line in lines[1:]]
    assert [row[0] for row in csv.reader(sheet.text.splitlines())][1 : len(lines)] == seqs
    cells = [cell for row in csv.reader(sheet.text.splitlines()) for cell in row]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for cell in cells)
    for shown in ("'=cmd", "'+1+1", "'-1"):
        assert any(cell.startswith(shown) for cell in cells)
    monkeypatch.setenv("SIMPLES3DMS_URL", installation.door.url)
    monkeypatch.setenv("SIMPLES3DMS_TOKEN", installation.door.token.reveal())
    cli(["audit", "list", "--platform", "--action", "access.*"], standalone_mode=False)
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\u2028" not in printed
    assert "\u202e" not in printed
