"""Every operation that changes something is one event, in the transaction that changes it; refusals are events too."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
import structlog
from psycopg.conninfo import conninfo_to_dict
from tests.api.conftest import Door
from tests.conftest import Cluster

from simples3dms.api.app import create_app
from simples3dms.cli.main import app as cli
from simples3dms.client import ApiProblem, Client
from simples3dms.db.provision import Provisioned
from simples3dms.kit.secret import Secret

#: Operations that are no GET and yet change nothing that the records answer for, each with the reason.
CHANGES_NOTHING = {
    "check_store": "asks the store whether it works",
    "probe_store": "measures the store; what it found is no decision of anybody's",
    "probe_config": "measures a place that is not saved",
}
#: What must be as before when an operation failed. Counters, leases and the workers' own rows are left out.
STATE = (
    "SELECT id, slug, suspended_at IS NULL FROM tenants ORDER BY id",
    "SELECT id, email, password_hash FROM users ORDER BY id",
    "SELECT id, name, revoked_at FROM api_tokens ORDER BY id",
    "SELECT id, name, tuning, disabled_at FROM stores ORDER BY id",
    "SELECT store_id, version, sealed FROM credentials ORDER BY store_id",
    "SELECT tenant_id, user_id, role FROM members ORDER BY tenant_id, user_id",
    "SELECT tenant_id, store_id FROM store_grants ORDER BY tenant_id, store_id",
    "SELECT tenant_id, version FROM placements ORDER BY tenant_id",
    "SELECT id, version_number, deleted_at, purged_at FROM documents ORDER BY id",
    "SELECT document_id, number FROM versions ORDER BY document_id, number",
    "SELECT id, state FROM migrations ORDER BY id",
    "SELECT tenant_id, seq FROM audit_checkpoints ORDER BY tenant_id, seq",
    "SELECT tenant_id, retention_days FROM audit_heads WHERE retention_days IS NOT NULL ORDER BY tenant_id",
    "SELECT key_id FROM audit_signing_keys WHERE retired_at IS NOT NULL ORDER BY key_id",
)


@dataclass
class Installation:
    """The server, somebody signed in as its operator, and a look behind it."""

    door: Door
    database: psycopg.Connection[Any]
    http: httpx.Client
    ids: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        return self.http.request(method, f"/api/v1{path.format(**self.ids)}", **given)

    def state(self) -> list[Any]:
        return [self.database.execute(query).fetchall() for query in STATE]  # type: ignore[call-overload]

    def acts(self) -> int:
        """Events of anybody but the worker, in all chains."""
        return int(self.rows("SELECT count(*) FROM audit_events WHERE principal_name <> 'worker'")[0][0])

    def rows(self, query: Any, *params: Any) -> list[Any]:
        return self.database.execute(query, params).fetchall()

    def break_audit(self) -> None:
        self.database.execute("ALTER TABLE audit_events ADD CONSTRAINT broken CHECK (false) NOT VALID")

    def mend_audit(self) -> None:
        self.database.execute("ALTER TABLE audit_events DROP CONSTRAINT broken")

    def until(self, state: str) -> None:
        deadline = time.monotonic() + 60
        while self.ask("GET", "/tenants/acme/migrations/{migration}").json()["state"] != state:
            assert time.monotonic() < deadline, f"never {state}"
            time.sleep(0.05)


@pytest.fixture
def installation(door: Door, cluster: Cluster, urls: Provisioned) -> Iterator[Installation]:
    name = str(conninfo_to_dict(urls.app_url)["dbname"])
    headers = {"Authorization": f"Bearer {door.token.reveal()}"}
    # What fails on purpose is logged in a line: the usual traceback with all its variables takes seconds.
    structlog.configure(processors=[structlog.processors.KeyValueRenderer()])
    with (
        psycopg.connect(cluster.server.superuser_dsn(name), autocommit=True) as connection,
        httpx.Client(base_url=door.url, headers=headers, trust_env=False, timeout=60) as http,
    ):
        yield Installation(door, connection, http)
    structlog.reset_defaults()


#: The operation, method, path, what is sent, what to remember of the answer; before it, what to wait for.
Step = tuple[str, str, str, dict[str, Any], dict[str, str], str]


def steps(tmp_path: Path) -> list[Step]:
    """A valid call of every operation, in an order in which each is."""
    acme, root = "/tenants/acme", tmp_path / "disk-c"
    root.mkdir()
    document, migration = acme + "/documents/{document}", acme + "/migrations/{migration}"

    def step(
        name: str,
        method: str,
        path: str,
        body: Any = None,
        *,
        keep: dict[str, str] | None = None,
        until: str = "",
        **more: Any,
    ) -> Step:
        return name, method, path, ({"json": body} if body is not None else {}) | more, keep or {}, until

    plan = step("plan_migration", "POST", acme + "/migrations", {"target": "disk-b"}, keep={"migration": "id"})
    back = step("plan_migration", "POST", acme + "/migrations", {"target": "disk-b"}, keep={"migration": "id"})
    person = {"email": "anna@example.org", "password": "correct horse battery"}
    return [
        step("create_tenant", "POST", "/tenants", {"slug": "globex", "name": "Globex"}),
        step("create_user", "POST", "/users", person),
        step("log_in", "POST", "/login", person),
        step("create_token", "POST", "/tokens", {"name": "x"}, keep={"token": "id"}),
        step("revoke_token", "DELETE", "/tokens/{token}"),
        step("set_member", "PUT", acme + "/members/anna@example.org", {"role": "editor"}),
        step("remove_member", "DELETE", acme + "/members/anna@example.org"),
        step("suspend_tenant", "PUT", "/tenants/globex/suspension", {"reason": "x"}),
        step("resume_tenant", "DELETE", "/tenants/globex/suspension"),
        step("add_store", "POST", "/stores", {"name": "disk-c", "kind": "local", "settings": {"path": str(root)}}),
        step("check_store", "POST", "/stores/disk-c/check"),
        step("probe_store", "POST", "/stores/disk-c/probe"),
        step("probe_config", "POST", "/store-probes", {"kind": "local", "settings": {"path": str(root)}}),
        step("set_tuning", "PUT", "/stores/disk-c/tuning", {"tuning": {"retry_attempts": 2}}),
        step("set_credential", "PUT", "/stores/disk-c/credential", {"credential": {}}),
        step("grant_store", "POST", "/stores/disk-c/grants", {"tenant": "globex"}),
        step("set_placement", "PUT", "/tenants/globex/placement", {"write": "disk-c"}),
        step("upload_document", "POST", acme + "/documents?name=a", keep={"document": "id"}, content=b"one"),
        step("upload_version", "POST", document + "/versions", content=b"two"),
        step("delete_document", "DELETE", document),
        step("restore_document", "POST", document + "/restore"),
        step("delete_document", "DELETE", document),
        step("purge_document", "POST", document + "/purge"),
        step("upload_document", "POST", acme + "/documents?name=b", content=b"three"),
        plan,
        step("cancel_migration", "POST", migration + "/cancel"),
        plan,
        step("start_migration", "POST", migration + "/start"),
        step("retry_failures", "POST", migration + "/failures/retry", {}, until="ready"),
        step("pause_migration", "POST", migration + "/pause"),
        step("resume_migration", "POST", migration + "/resume"),
        step("cut_over_migration", "POST", migration + "/cutover", until="ready"),
        step("roll_back_migration", "POST", migration + "/rollback", until="soaking"),
        step("plan_migration", "POST", acme + "/migrations", back[3]["json"], keep=back[4], until="rolled_back"),
        step("start_migration", "POST", migration + "/start"),
        step("cut_over_migration", "POST", migration + "/cutover", until="ready"),
        step("finalize_migration", "POST", migration + "/finalize", until="soaking"),
        step("set_audit_retention", "PUT", acme + "/audit/retention", {"days": 400}, until="done"),
        step("create_audit_checkpoint", "POST", acme + "/audit/checkpoints"),
        step("set_platform_retention", "PUT", "/audit/retention", {"days": 400}),
        step("create_platform_checkpoint", "POST", "/audit/checkpoints"),
        step("rotate_audit_key", "POST", "/audit/keys"),
    ]


def test_s45_every_operation_that_changes_something_has_a_call_here(tmp_path: Path) -> None:
    """An operation that is added gets a step, or a reason why it needs none."""
    changing = {
        operation["operationId"]
        for methods in create_app(None).openapi()["paths"].values()
        for method, operation in methods.items()
        if method != "get"
    }
    assert {name for name, *_ in steps(tmp_path)} == changing
    assert set(CHANGES_NOTHING) <= changing


@pytest.mark.timeout(300)
def test_s45_one_act_is_one_event_and_without_it_there_is_no_act(installation: Installation, tmp_path: Path) -> None:
    """First with an audit that takes nothing: the operation fails, and all is as it was. Then for good."""
    # The key that signs is made at its first use, whatever comes of that.
    assert installation.ask("POST", "/audit/checkpoints").status_code == 201
    for name, method, path, given, keep, until in steps(tmp_path):
        if until:
            installation.until(until)
        expected = 0 if name in CHANGES_NOTHING else 1
        if expected:
            before = installation.state()
            installation.break_audit()
            failed = installation.ask(method, path, **given)
            assert failed.status_code == 500, (name, failed.text)
            assert installation.state() == before, name
            installation.mend_audit()
        count = installation.acts()
        answer = installation.ask(method, path, **given)
        assert answer.is_success, (name, answer.text)
        assert installation.acts() - count == expected, name
        installation.ids |= {noun: answer.json()[key] for noun, key in keep.items()}


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
def anna(door: Door) -> Client:
    """A viewer of acme."""
    with door.connect() as operator:
        made = operator.create_user("anna@example.org")
        operator.set_member("acme", "anna@example.org", "viewer")
        operator.create_tenant("globex", "Globex")
    assert made.password is not None
    with Client(door.url, tries=1) as client:
        return door.connect(client.log_in("anna@example.org", Secret(made.password)).token)


def ask_and_be_refused(act: Callable[[], object]) -> str:
    with pytest.raises(ApiProblem) as refused:
        act()
    return refused.value.code


def test_s45_a_refused_attempt_is_a_security_event(installation: Installation, anna: Client) -> None:
    assert ask_and_be_refused(lambda: anna.set_member("acme", "anna@example.org", "owner")) == "permission_required"
    assert ask_and_be_refused(lambda: list(anna.iter_users())) == "permission_required"
    assert ask_and_be_refused(lambda: anna.get_tenant("globex")) == "tenant_not_found"
    assert ask_and_be_refused(lambda: anna.get_placement("never-was")) == "tenant_not_found"
    with Client(installation.door.url, tries=1) as nobody:
        hostile = "root@example.org\r\n\x1b[2J\u2028\x00"
        assert ask_and_be_refused(lambda: nobody.log_in(hostile, Secret("wrong"))) == "credentials_wrong"
    found = refusals(installation)
    assert [one[:3] for one in found] == [
        ("acme", "anna@example.org", "access.refused set_member"),
        ("platform", "anna@example.org", "access.refused list_users"),
        ("platform", "anna@example.org", "access.refused get_tenant"),
        ("platform", "anna@example.org", "access.refused get_placement"),
        ("platform", "nobody", "login.refused root@example.org\r\n\x1b[2J\u2028\ufffd"),
    ]
    assert found[0][3] == {
        "code": "permission_required",
        "method": "PUT",
        "address": "127.0.0.1",
        "permission": "members.write",
    }
    assert (found[2][3]["tenant"], found[3][3]["tenant"]) == ("globex", "never-was")
    anna.close()


def test_s43_no_field_breaks_out_of_its_line(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Line breaks, escapes and formulas in what others give: one line in an export, and nothing but text on screen."""
    hostile = '=cmd|\' /C calc\'!A0\r\nX-Forged: 1\x1b[2J\u2028\u202e","seq":9}'
    installation.ask("GET", "/tenants/acme", headers={"X-Request-ID": "bad id\x1b[2J", "User-Agent": "\x1b[2J"})
    for number, email in enumerate((hostile, "+1+1", "@SUM(1)", "-1", "\t=1")):
        answer = installation.ask("POST", "/login", json={"email": email, "password": f"wrong {number}"})
        assert answer.status_code == 401
    assert installation.ask("POST", "/audit/checkpoints").status_code == 201
    exported = installation.ask("GET", "/audit/export").content
    lines = exported.decode("ascii").splitlines()
    assert exported.count(b"\n") == len(lines)
    assert all(line.isprintable() for line in lines)
    assert hostile in [json.loads(line)["event"]["target_id"] for line in lines[1:]]
    sheet = installation.ask("GET", "/audit/export", params={"format": "csv"})
    assert sheet.headers["content-type"].startswith("text/csv")
    assert "attachment" in sheet.headers["content-disposition"]
    rows = sheet.text.splitlines()
    assert len(rows) == len(lines)
    assert not any(f'"{start}' in sheet.text for start in "=+@")
    for shown in ("'=cmd", "'+1+1", "'@SUM(1)", "'-1"):
        assert f'"{shown}' in sheet.text
    monkeypatch.setenv("SIMPLES3DMS_URL", installation.door.url)
    monkeypatch.setenv("SIMPLES3DMS_TOKEN", installation.door.token.reveal())
    cli(["audit", "list", "--platform", "--action", "login.*"], standalone_mode=False)
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\u2028" not in printed
    assert "\u202e" not in printed
