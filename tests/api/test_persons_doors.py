"""Reports and erasures, and a tenant's deletion, at the HTTP door and on the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID

import pytest
from tests.api.conftest import Door

from simples3dms.client import ApiProblem, Client
from simples3dms.kit.secret import Secret


def command(door: Door, *arguments: str, token: Secret | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIMPLES3DMS_")}
    environment |= {"SIMPLES3DMS_URL": door.url, "SIMPLES3DMS_TOKEN": (token or door.token).reveal()}
    done = [sys.executable, "-m", "simples3dms", *arguments]
    return subprocess.run(done, env=environment, capture_output=True, text=True, check=False, timeout=120)


def sign_up(door: Door, email: str) -> Secret:
    with door.connect() as operator:
        made = operator.create_user(email)
        operator.set_member("acme", email, "owner")
    assert made.password is not None
    with Client(door.url, tries=1) as client:
        return Secret(client.log_in(email, Secret(made.password)).token)


def test_reports_and_erasures_on_the_command_line(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "hers.txt"
    file.write_bytes(b"hers")
    token = sign_up(door, "olga@example.org")
    with door.connect(token) as olga:
        document = olga.upload_document("acme", file)
    lines = [json.loads(line) for line in command(door, "user", "report", "olga@example.org").stdout.splitlines()]
    assert [line["document_id"] for line in lines if line["kind"] == "upload"] == [str(document.id)]
    own = command(door, "user", "report", token=token)
    assert json.loads(own.stdout.splitlines()[-1]) == {"kind": "end"}
    assert "admin@localhost" not in own.stdout
    refused = command(door, "user", "report", "admin@localhost", token=token)
    assert (refused.returncode, refused.stdout) == (1, "")
    erased = command(
        door, "user", "erase", "olga@example.org", "--reason", "x", "--document", f"acme:{document.id}", "--json"
    )
    erasure = json.loads(erased.stdout)
    deadline = time.monotonic() + 30
    while (found := json.loads(command(door, "user", "erasure", erasure["id"]).stdout))["state"] != "done":
        assert time.monotonic() < deadline
    assert found["certificate"]["documents"][0]["outcome"] == "purged"
    assert command(door, "user", "report", token=token).returncode == 1
    assert "olga" not in command(door, "user", "list").stdout


def test_a_tenant_is_deleted_on_the_command_line(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"a")
    token = sign_up(door, "olga@example.org")
    with door.connect(token) as owner, door.connect() as operator:
        owner.upload_document("acme", file)
        wrong = command(door, "tenant", "delete", "acme", "--reason", "x", "--short-name", "other", token=token)
        assert (wrong.returncode, "short name" in wrong.stderr) == (1, True)
        asked = command(
            door, "tenant", "delete", "acme", "--reason", "x", "--short-name", "acme", "--json", token=token
        )
        deletion = json.loads(asked.stdout)
        with pytest.raises(ApiProblem) as caught:
            owner.confirm_deletion("acme", short_name="acme")
        assert caught.value.code == "deletion_waits"
        confirmed = command(door, "tenant", "confirm-deletion", "acme", "--short-name", "acme", "--json")
        assert json.loads(confirmed.stdout)["state"] == "purging"
        with pytest.raises(ApiProblem) as caught:
            list(owner.iter_documents("acme"))
        assert caught.value.code in ("tenant_suspended", "tenant_not_found")
        deadline = time.monotonic() + 40
        while {str(one.id): one.state for one in operator.iter_deletions()}[deletion["id"]] != "done":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        certificate = json.loads(command(door, "tenant", "deletion-certificate", deletion["id"]).stdout)
        assert (certificate["short_name"], certificate["documents"]) == ("acme", 1)
        told = [event.action for event in operator.iter_deletion_audit(UUID(deletion["id"]))]
        assert {"document.uploaded", "tenant.deletion_confirmed"} <= set(told)
        with pytest.raises(ApiProblem) as caught:
            owner.get_tenant("acme")
        assert caught.value.code == "tenant_not_found"
        answer = operator.http.get(f"/api/v1/deletions/{deletion['id']}/certificate")
        assert answer.headers["content-disposition"].startswith("attachment")
    assert not [path for root in door.roots.values() for path in root.rglob("[!.]*") if path.is_file()]
