"""Rotation and change of place over HTTP and on the command line: write-only secrets, stable codes."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.api.conftest import Door
from tests.api.test_probe_doors import Run, run
from tests.rotations.conftest import B2Side

from simples3dms.sandbox.b2 import B2Sandbox

BUCKET = "rotation-documents"
__all__ = ["run"]  # a fixture of the neighbour's


@pytest.fixture
def side(tmp_path: Path) -> Iterator[B2Side]:
    with B2Sandbox(tmp_path / "b2", buckets=(BUCKET,)) as server:
        yield B2Side(server)


def test_s39_patch_without_the_secret_is_refused_and_no_answer_echoes_one(door: Door, side: B2Side) -> None:
    credential = side.new_credential()
    with door.connect() as client:
        client.add_store("b2", kind="b2", settings=side.settings, credential=credential)
        rotation = client.start_rotation("b2", side.new_credential())
        assert rotation.state == "switched"
        status = client.get_credential("b2")
    assert {one.state for one in status.versions} == {"current", "old"}
    assert len({one.fingerprint for one in status.versions}) == 2
    canary = secrets.token_hex(12)
    headers = {"Authorization": f"Bearer {door.token.reveal()}"}
    with httpx.Client(base_url=f"{door.url}/api/v1", headers=headers, trust_env=False, timeout=60) as http:
        body = {"settings": {**side.settings, "realm": "http://127.0.0.1:9"}}
        answers = [http.patch("/stores/b2", json=body)]
        assert answers[0].status_code == 422
        answers.append(http.patch("/stores/b2", json=body | {"credential": {"application_key": canary}}))
        assert answers[1].status_code in (400, 422)
        answers.append(http.post("/stores/b2/rotation", json={"credential": {"application_key": canary, "x": canary}}))
        answers += [http.get(f"/stores/{path}") for path in ("b2", "b2/credential", "b2/rotation", "b2/probe")]
        answers.append(http.get("/stores"))
        told = "".join(answer.text for answer in answers)
    for value in (canary, *credential.values()):
        assert value not in told


def test_the_command_line_rotates_and_shows(door: Door, side: B2Side, run: Run, tmp_path: Path) -> None:
    def told(*words: str) -> str:
        code, output = run("store", "credential", *words)
        assert code == 0, output
        return output

    manager = tmp_path / "manager.json"
    manager.write_text(json.dumps(side.manager()))
    with door.connect() as client:
        client.add_store("b2", kind="b2", settings=side.settings, credential=side.new_credential())
    told("schedule", "b2", "--every-days", "30", "--manager-file", str(manager))
    assert "switched" in told("rotate", "b2", "--make", "--grace-hours", "1")
    shown = told("show", "b2")
    assert "version 2: current" in shown
    assert "rotated by itself" in shown
    assert "undoing" in told("roll-back", "b2")
