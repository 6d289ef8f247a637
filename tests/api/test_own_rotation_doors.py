"""A tenant rotates the credential of a store that it has brought: staged, and with a way back."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.api.conftest import Door
from tests.api.test_probe_doors import Run, run
from tests.rotations.conftest import B2Side

from simples3dms.client import ApiProblem, Client
from simples3dms.kit.secret import Secret
from simples3dms.sandbox.b2 import B2Sandbox
from simples3dms.settings import Settings

__all__ = ["run"]  # a fixture of the neighbour's
BUCKET = "brought"


@pytest.fixture
def side(tmp_path: Path) -> Iterator[B2Side]:
    with B2Sandbox(tmp_path / "b2", buckets=(BUCKET,)) as server:
        yield B2Side(server, BUCKET)


@pytest.fixture
def settings(settings: Settings, side: B2Side) -> Settings:
    return settings.model_copy(update={"egress_guard": "off", "egress_allow": side.server.url.partition("//")[2]})


@pytest.fixture
def olga(door: Door, side: B2Side) -> Iterator[Client]:
    """The owner of a tenant that has brought a bucket, under a key of its own, and writes to it."""
    with door.connect() as operator:
        operator.set_rollout("b2", reach="everyone", attach="tenants")
        operator.set_own_store_rule("b2", hosts=[side.server.url], most_per_tenant=1)
        made = operator.create_user("olga@example.org")
        operator.set_member("acme", "olga@example.org", "owner")
    assert made.password is not None
    with Client(door.url, tries=1) as client:
        token = Secret(client.log_in("olga@example.org", Secret(made.password)).token)
    with door.connect(token) as client:
        client.add_own_store("acme", "mine", kind="b2", settings=side.settings, credential=side.new_credential())
        client.set_placement("acme", write="mine", copies=[], read=[])
        yield client


def _round_trip(olga: Client, directory: Path) -> None:
    body = secrets.token_bytes(2000)
    (directory / "file.bin").write_bytes(body)
    document = olga.upload_document("acme", directory / "file.bin")
    olga.download_document("acme", document.id, directory / "back.bin")
    assert (directory / "back.bin").read_bytes() == body


def test_s39_a_tenant_s_rotation_goes_forth_and_back(olga: Client, door: Door, side: B2Side, tmp_path: Path) -> None:
    old = side.key_ids()
    new = side.new_credential()
    rotation = olga.start_own_rotation("acme", "mine", new, grace_seconds=3600)
    assert (rotation.state, rotation.deletes_old) == ("switched", False)
    _round_trip(olga, tmp_path)
    assert olga.roll_back_own_rotation("acme", "mine").state == "undoing"
    assert olga.get_own_rotation("acme", "mine").to_version == rotation.to_version
    _round_trip(olga, tmp_path)
    assert old < side.key_ids(), "a key that was given is its owner's to delete"
    answers = [olga.http.get(f"/api/v1/tenants/acme/own-stores/mine{part}") for part in ("", "/rotation")]
    answers.append(olga.http.get("/api/v1/tenants/acme/audit"))
    assert all(answer.is_success and new["application_key"] not in answer.text for answer in answers)
    acts = [event["action"] for event in answers[-1].json()["items"] if "rotation" in event["action"]]
    assert {"rotation.started", "rotation.taken_back"} <= set(acts)
    switched = [event for event in answers[-1].json()["items"] if event["action"] == "credential.switched"]
    assert [event["principal_name"] for event in switched] == ["worker"]
    with door.connect() as operator:
        assert "rotation." not in operator.http.get("/api/v1/audit").text, "what a tenant does is in its own trail"


def test_a_credential_that_does_not_work_changes_nothing(olga: Client, side: B2Side, tmp_path: Path) -> None:
    wrong = side.new_credential() | {"application_key": "wrong-" + secrets.token_hex()}
    rotation = olga.start_own_rotation("acme", "mine", wrong)
    assert rotation.state in ("undoing", "failed")
    assert rotation.error_code == "store_credential_refused"
    assert "wrong-" not in rotation.model_dump_json()
    _round_trip(olga, tmp_path)
    with pytest.raises(ApiProblem) as caught:
        olga.finalize_own_rotation("acme", "mine")
    assert caught.value.problem.code == "rotation_not_switched"


def test_the_command_line_rotates_a_tenant_s_store(
    olga: Client, door: Door, side: B2Side, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMPLES3DMS_TENANT", "acme")
    given = tmp_path / "key.json"
    given.write_text(json.dumps(side.new_credential()))
    for words, expected in (
        (("rotate", "mine", "--credential-file", str(given), "--grace-hours", "1"), "switched"),
        (("rotation", "mine"), "the old one is kept until"),
        (("finish", "mine"), "switched"),
    ):
        code, output = run("own-store", *words)
        assert code == 0, output
        assert expected in output
    code, output = run("own-store", "rotation", "never-was")
    assert code != 0
    assert "no such store" in output
