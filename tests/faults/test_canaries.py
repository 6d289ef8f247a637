"""S-42: secrets are looked for wherever they might have been left: in talkative logs, in rows, files and answers."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql
from tests.faults.installation import BUCKET, Installation, installed

from simples3dms.client import Client
from simples3dms.db.embedded import EmbeddedPostgres
from simples3dms.kit.secret import Secret

pytestmark = pytest.mark.timeout(300)
#: Where secrets belong, and nowhere else: for their owner's eyes only.
VAULTS = {"keyring.json", "database-credentials.json"}


@pytest.fixture(scope="module", params=["text", "json"])
def talkative(request: pytest.FixtureRequest) -> Iterator[Installation]:
    """An installation that logs all it can."""
    directory = Path(tempfile.mkdtemp(prefix="simples3dms-canaries-"))
    with installed(directory) as found:
        found.serve(log_level="debug", log_format=request.param)
        found.add_stores()
        yield found
    shutil.rmtree(directory, ignore_errors=True)


class Recorder:
    """Asks, keeps every answer, and knows every secret that was sent or given."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.answers: list[str] = []
        self.canaries: dict[str, str] = {}

    def canary(self, name: str) -> str:
        self.canaries[name] = f"{secrets.token_hex(8)}Canary{secrets.token_hex(8)}"
        return self.canaries[name]

    def ask(self, method: str, path: str, *, token: str | None = None, **given: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token or self._own_token}", **given.pop("headers", {})}
        answer = httpx.request(
            method, self.installation.url + path, headers=headers, trust_env=False, timeout=60, **given
        )
        self.answers.append(f"{answer.url.path} {answer.status_code} {dict(answer.headers)} {answer.text}")
        return answer

    @property
    def _own_token(self) -> str:
        assert self.installation.token is not None
        return self.installation.token.reveal()


def _exercise(recorder: Recorder) -> None:
    """What is right and what goes wrong, with a secret in each request."""
    installation = recorder.installation
    account = json.loads((installation.directory / "first.json").read_text())
    recorder.canaries["first password"] = account["password"]
    recorder.canaries["own token"] = recorder._own_token
    recorder.canaries["b2 key"] = installation.b2.application_key
    recorder.canaries["s3 secret"] = installation.s3.secret_key
    recorder.ask("POST", "/api/v1/login", json={"email": "admin@localhost", "password": recorder.canary("wrong one")})
    recorder.ask("GET", "/api/v1/tenants", token=recorder.canary("unknown token"))
    recorder.ask("GET", f"/api/v1/tenants?token={recorder.canary('token in a query')}")
    recorder.ask("GET", "/api/v1/tenants", headers={"Cookie": f"__Host-session={recorder.canary('cookie')}"})
    password = recorder.canary("a user's password")
    recorder.ask("POST", "/api/v1/users", json={"email": "eve@example.org", "password": password})
    recorder.ask("POST", "/api/v1/users", json={"email": "eve@example.org", "password": password})
    recorder.ask("POST", "/api/v1/users", json={"email": "not an address", "password": password, "extra": password})
    for kind, settings, credential in (
        ("s3", {"bucket": BUCKET, "endpoint": installation.s3.endpoint},
         {"access_key_id": installation.s3.access_key, "secret_access_key": recorder.canary("wrong s3 secret")}),
        ("s3", {"bucket": BUCKET, "endpoint": "http://127.0.0.1:9"},
         {"access_key_id": "AK", "secret_access_key": recorder.canary("s3 secret for nowhere")}),
        ("b2", {"bucket": BUCKET, "realm": installation.b2.url},
         {"application_key_id": installation.b2.application_key_id,
          "application_key": recorder.canary("wrong b2 key")}),
        ("s3", {"bucket": BUCKET}, {"access_key_id": "AK", "secret": recorder.canary("misnamed field")}),
    ):  # fmt: skip
        body = {"name": "again", "kind": kind, "settings": settings, "credential": credential}
        refused = recorder.ask("POST", "/api/v1/stores", json=body)
        assert refused.status_code >= 400
        recorder.ask("POST", "/api/v1/store-probes", json={k: v for k, v in body.items() if k != "name"})
        recorder.ask("PUT", "/api/v1/stores/s3-eu/credential", json={"credential": credential})
    made = recorder.ask("POST", "/api/v1/tokens", json={"name": "laptop"})
    recorder.canaries["made token"] = made.json()["token"]
    recorder.answers.pop()  # the one answer in which a token is shown
    for path in ("/api/v1/tokens", "/api/v1/stores", "/api/v1/users", "/api/v1/tenants", "/api/v1/openapi.json"):
        assert recorder.ask("GET", path).status_code == 200


def _move(installation: Installation) -> None:
    """Bytes through both providers, up, across and down."""
    installation.add_tenant("acme")
    bodies = installation.fill("acme", 3, with_large=True)
    with installation.connect() as client:
        migration = client.plan_migration("acme", target="s3-eu")
        client.start_migration("acme", migration.id)
    installation.until("acme", migration.id, "ready", "soaking", "done")
    installation.assert_readable("acme", bodies)


def _rows(installation: Installation) -> Iterator[tuple[str, str]]:
    """Every row of every table, the queue's among them, as text."""
    server = EmbeddedPostgres(installation.directory / "var")
    server.start()
    try:
        with psycopg.connect(server.superuser_dsn("simples3dms"), autocommit=True) as connection:
            tables = connection.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = "
                                        "'public'::regnamespace").fetchall()  # fmt: skip
            for (table,) in tables:
                statement = sql.SQL("SELECT row_to_json(t)::text FROM {} t").format(sql.Identifier(table))
                for (row,) in connection.execute(statement):
                    yield table, row
            for (text,) in connection.execute("SELECT query FROM pg_stat_activity"):
                yield "pg_stat_activity", text
            connection.execute("CHECKPOINT")
    finally:
        server.stop()


def test_s42_no_secret_is_left_anywhere(talkative: Installation) -> None:
    recorder = Recorder(talkative)
    _exercise(recorder)
    _move(talkative)
    var = talkative.directory / "var"
    ring = json.loads((var / "keyring.json").read_text())
    recorder.canaries |= {f"wrapping key {name}": key for name, key in ring["keys"].items()}
    passwords = json.loads((var / "database-credentials.json").read_text())
    recorder.canaries |= {f"database password of {name}": password for name, password in passwords.items()}
    with Client(talkative.url) as client:  # a process of its own saw it too
        assert client.log_in("admin@localhost", Secret(recorder.canaries["first password"])).token
    found = []
    log = (talkative.directory / "processes.log").read_text(errors="replace")
    rows = list(_rows(talkative))
    assert len(log) > 1000
    assert {table for table, _ in rows} >= {"audit_events", "credentials", "stores", "replicas", "api_tokens"}
    for name, canary in recorder.canaries.items():
        found += [f"{name} in the log"] if canary in log else []
        found += [f"{name} in an answer: {answer[:200]}" for answer in recorder.answers if canary in answer]
        found += [f"{name} in {table}" for table, row in rows if canary in row]
        found += [f"{name} in {path}" for path in _files(var) if canary.encode() in path.read_bytes()]
    assert found == []


def test_s42_the_search_finds_what_is_there(talkative: Installation) -> None:
    """The counter-proof: a secret written where it does not belong is seen in each of the places."""
    canary = f"{secrets.token_hex(8)}Canary"
    with talkative.connect() as client:
        client.create_tenant("globex", f"Globex {canary}")
    assert any(canary in row for _, row in _rows(talkative))
    assert any(canary.encode() in path.read_bytes() for path in _files(talkative.directory / "var"))


def _files(directory: Path) -> Iterator[Path]:
    """All files, the database's own among them, but the two that hold secrets."""
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.name not in VAULTS:
            yield path
