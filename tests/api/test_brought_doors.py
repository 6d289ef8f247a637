"""Through the door: a tenant brings a store on a real server, moves into it, and nobody else reaches it."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api.conftest import Door
from typer.testing import CliRunner

from simples3dms.cli.main import app as command_line
from simples3dms.client import ApiProblem, Client
from simples3dms.kit.secret import Secret
from simples3dms.sandbox.seaweedfs import SeaweedServer
from simples3dms.settings import Settings


@pytest.fixture
def weed(tmp_path: Path) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path / "weed") as server:
        yield server


@pytest.fixture
def settings(settings: Settings, weed: SeaweedServer) -> Settings:
    """The guard is off for the platform's stores, and lets this one server through."""
    return settings.model_copy(update={"egress_guard": "off", "egress_allow": f"127.0.0.1:{weed.port}"})


@pytest.fixture
def people(door: Door) -> dict[str, Secret]:
    tokens = {"operator": door.token}
    with door.connect() as operator:
        operator.create_tenant("globex", "Globex")
        for name, tenant, role in (
            ("olga", "acme", "owner"),
            ("adam", "acme", "administrator"),
            ("edda", "acme", "editor"),
            ("gus", "globex", "owner"),
        ):
            made = operator.create_user(f"{name}@example.org")
            operator.set_member(tenant, f"{name}@example.org", role)
            assert made.password is not None
            with Client(door.url, tries=1) as client:
                tokens[name] = Secret(client.log_in(f"{name}@example.org", Secret(made.password)).token)
    return tokens


def _open(door: Door, weed: SeaweedServer) -> None:
    with door.connect() as operator:
        operator.set_rollout("s3", reach="everyone", attach="tenants")
        operator.set_own_store_rule("s3", hosts=[weed.endpoint], most_per_tenant=2, bounds={"most_concurrent": (1, 16)})


def _credential(weed: SeaweedServer) -> dict[str, Secret | str]:
    return {"access_key_id": weed.access_key, "secret_access_key": Secret(weed.secret_key)}


def _bring(client: Client, weed: SeaweedServer, tenant: str = "acme", **settings: Any) -> None:
    given = {"endpoint": weed.endpoint, "bucket": "docs", **settings}
    client.add_own_store(tenant, "mine", kind="s3", settings=given, credential=_credential(weed))


def _code(caught: pytest.ExceptionInfo[ApiProblem]) -> str:
    return caught.value.problem.code


def test_s34_a_tenant_moves_into_its_own_bucket_through_the_guard(
    door: Door, people: dict[str, Secret], weed: SeaweedServer, tmp_path: Path
) -> None:
    body = secrets.token_bytes(300_000)
    (tmp_path / "file.bin").write_bytes(body)
    with door.connect(people["olga"]) as olga:
        with pytest.raises(ApiProblem) as caught:
            _bring(olga, weed)
        assert _code(caught) == "own_store_refused", "by default a tenant brings nothing"
        _open(door, weed)
        assert [rule.kind for rule in olga.list_rules_for_own_stores("acme")] == ["s3"]
        document = olga.upload_document("acme", tmp_path / "file.bin")
        _bring(olga, weed)
        migration = olga.plan_migration("acme", target="mine", automatic_cutover=True)
        assert migration.plan.blockers == []
        olga.start_migration("acme", migration.id)
        _until(olga, migration.id, "soaking")
        assert olga.get_placement("acme").write == "mine"
        replicas = {one.store: one.state for one in olga.list_replicas("acme", document.id)}
        assert replicas == {"disk-a": "live", "mine": "live"}
        olga.download_document("acme", document.id, tmp_path / "back.bin")
        assert (tmp_path / "back.bin").read_bytes() == body
        with pytest.raises(ApiProblem) as caught:
            olga.disable_own_store("acme", "mine")
        assert _code(caught) == "store_in_use"
        # Back again: what is removed lies in the tenant's own bucket, whose mark says that it is.
        olga.roll_back_migration("acme", migration.id)
        _until(olga, migration.id, "rolled_back")
        assert {one.store for one in olga.list_replicas("acme", document.id)} == {"disk-a"}
        assert olga.disable_own_store("acme", "mine").disabled_at is not None


def _until(client: Client, migration_id: Any, state: str) -> None:
    deadline = time.monotonic() + 60
    while client.get_migration("acme", migration_id).state != state:
        assert time.monotonic() < deadline, client.get_migration("acme", migration_id)
        time.sleep(0.1)


def test_s39_no_answer_holds_a_secret(door: Door, people: dict[str, Secret], weed: SeaweedServer) -> None:
    _open(door, weed)
    with door.connect(people["adam"]) as adam:
        _bring(adam, weed)
        adam.set_own_credential("acme", "mine", _credential(weed))
        adam.set_own_tuning("acme", "mine", {"most_concurrent": 8})
        for path in ("", "/mine", "/mine/probe"):
            answer = adam.http.get(f"/api/v1/tenants/acme/own-stores{path}")
            assert answer.is_success
            assert weed.secret_key not in answer.text
        assert weed.secret_key not in adam.http.get("/api/v1/tenants/acme/audit").text
        # A place never changes, so that a saved secret never goes to another host.
        for method, part in (("PATCH", ""), ("PUT", ""), ("PUT", "/settings")):
            answer = adam.http.request(
                method, f"/api/v1/tenants/acme/own-stores/mine{part}", json={"settings": {"endpoint": "https://x.org"}}
            )
            assert answer.status_code in (404, 405)
        wrong = {"access_key_id": weed.access_key, "secret_access_key": "wrong-" + secrets.token_hex()}
        with pytest.raises(ApiProblem) as caught:
            adam.set_own_credential("acme", "mine", wrong)
        assert "wrong-" not in caught.value.problem.model_dump_json()
        assert adam.check_own_store("acme", "mine").ok, "the one before still holds"


def test_s09_another_tenants_store_looks_like_none(door: Door, people: dict[str, Secret], weed: SeaweedServer) -> None:
    _open(door, weed)
    with door.connect(people["olga"]) as olga, door.connect(people["gus"]) as gus, door.connect() as operator:
        _bring(olga, weed)
        mine = str(olga.get_own_store("acme", "mine").id)
        for method, part, body in (
            ("GET", "", None),
            ("GET", "/probe", None),
            ("POST", "/check", None),
            ("POST", "/probe", None),
            ("POST", "/disable", None),
            ("PUT", "/tuning", {"tuning": {}}),
            ("PUT", "/credential", {"credential": {}}),
            ("POST", "/rotation", {"credential": {}}),
            ("GET", "/rotation", None),
            ("POST", "/rotation/rollback", None),
            ("POST", "/rotation/finalize", None),
        ):
            answers = [
                gus.http.request(method, f"/api/v1/tenants/globex/own-stores/{name}{part}", json=body)
                for name in (mine, "mine", "never-was")
            ]
            assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(404, "store_not_found")}
            assert len({answer.json()["detail"] for answer in answers}) == 1
            hidden = gus.http.request(method, f"/api/v1/tenants/acme/own-stores/{mine}{part}", json=body)
            assert (hidden.status_code, hidden.json()["code"]) == (404, "tenant_not_found")
        assert gus.list_own_stores("globex") == []
        assert {one.name for one in operator.list_stores()} == {"disk-a", "disk-b"}
        with pytest.raises(ApiProblem) as caught:
            operator.grant_store("globex", mine)
        assert _code(caught) == "store_not_found"
        for settings in ({"prefix": "inner"},):
            with pytest.raises(ApiProblem) as caught:
                _bring(gus, weed, "globex", **settings)
            assert _code(caught) == "store_place_taken"
            assert "acme" not in caught.value.problem.model_dump_json()


def test_s04_no_field_is_taken_that_is_not_for_the_caller(
    door: Door, people: dict[str, Secret], weed: SeaweedServer
) -> None:
    _open(door, weed)
    good = {
        "name": "mine",
        "kind": "s3",
        "settings": {"endpoint": weed.endpoint, "bucket": "docs"},
        "credential": {"access_key_id": weed.access_key, "secret_access_key": weed.secret_key},
    }
    url = "/api/v1/tenants/acme/own-stores"
    with door.connect(people["olga"]) as olga:
        for extra in ("owner_tenant_id", "tenant_id", "jurisdiction", "jurisdiction_source", "id", "probe_verdict"):
            assert _refused(olga.http.post(url, json={**good, extra: "DE"})) == (422, "invalid")
        hidden = {**good, "settings": {**good["settings"], "proxy_url": "http://x", "owner": "y"}}  # type: ignore[dict-item]
        assert _refused(olga.http.post(url, json=hidden)) == (422, "store_settings_invalid")
        assert olga.list_own_stores("acme") == []
        olga.http.post(url, json=good).raise_for_status()
        extra_tuning = {"tuning": {}, "disabled_at": None}
        assert _refused(olga.http.put(f"{url}/mine/tuning", json=extra_tuning)) == (422, "invalid")
    with door.connect(people["edda"]) as edda:
        assert _refused(edda.http.post(url, json=good)) == (403, "permission_required")
        assert [one.name for one in edda.list_own_stores("acme")] == ["mine"]


def _refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, str(answer.json()["code"])


def test_the_command_line_says_what_a_change_would_do(
    door: Door, people: dict[str, Secret], weed: SeaweedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMPLES3DMS_URL", door.url)
    monkeypatch.setenv("SIMPLES3DMS_TOKEN", door.token.reveal())
    monkeypatch.setenv("SIMPLES3DMS_TENANT", "acme")

    def run(*words: str, code: int = 0, given: str = "") -> str:
        result = CliRunner().invoke(command_line, words, input=given)
        assert result.exit_code == code, result.output
        return result.output

    assert "0 tenants would gain local, 2 would lose it (1 of them have it in use" in run(
        "rollout", "set", "local", "--off", "--preview"
    )
    run("rollout", "set", "local", "--off", code=1, given="n\n")
    assert json.loads(run("rollout", "show", "local", "--json"))["version"] == 0
    run("rollout", "set", "s3", "--percent", "50", "--choose", "acme", "--attach", "tenants", "--yes")
    assert "tenants" in run("rollout", "list")
    run("own-store", "rule", "set", "s3", "--host", weed.endpoint, "--bound", "most_concurrent=1..16")
    assert "most_concurrent" in run("own-store", "rules")
    (tmp_path / "key.json").write_text(
        json.dumps({"access_key_id": weed.access_key, "secret_access_key": weed.secret_key})
    )
    added = run(
        *("own-store", "add", "mine", "--kind", "s3", "--set", f"endpoint={weed.endpoint}", "--set", "bucket=docs"),
        *("--credential-file", str(tmp_path / "key.json")),
    )
    assert weed.secret_key not in added
    run("own-store", "test", "mine")
    run("own-store", "tune", "mine", "--set", "most_concurrent=4")
    run("store", "jurisdiction", "disk-a", "de")
    assert "disk-b" in run("residency", "set", "--allow", "DE", "--preview")
    run("residency", "set", "--allow", "DE", "--yes")
    assert "DE" in run("residency", "show")
    run("store", "revoke", "disk-b")
    run("own-store", "disable", "mine")
    run("own-store", "rule", "remove", "s3")
    run("residency", "set", "--anywhere", "--yes")
