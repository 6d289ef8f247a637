"""The probe and a store's own settings, through the HTTP door and the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.api.conftest import Door
from tests.api.test_bad_input import refused

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(door: Door) -> Run:
    """`simples3dms ...` signed in at the door: exit code, and all that it said."""
    signed_in = {"SIMPLES3DMS_URL": door.url, "SIMPLES3DMS_TOKEN": door.token.reveal(), "COLUMNS": "160"}

    def act(*command: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "simples3dms", *command],
            env={**os.environ, **signed_in},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return act


def test_a_store_is_probed_on_demand_and_the_result_is_kept(door: Door, run: Run) -> None:
    with door.connect() as client:
        added = client.get_store("disk-a")
        assert added.probe_verdict == "green"
        probed = client.probe_store("disk-a")
        assert probed.verdict == "green"
        assert client.get_probe("disk-a") == probed
        assert len(probed.findings) >= 10
    code, output = run("store", "probe", "disk-a")
    assert code == 0
    assert "Fit for use" in output
    assert "write and read" in output
    code, output = run("store", "probe", "disk-a", "--json")
    assert (code, json.loads(output)["verdict"]) == (0, "green")


def test_a_config_file_is_probed_before_anything_is_saved(door: Door, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    config = tmp_path / "store.toml"
    config.write_text(f'kind = "local"\n[settings]\npath = "{folder}"\n[credential]\n')
    code, output = run("store", "probe", "--config", str(config))
    assert (code, "Fit for use" in output) == (0, True)
    assert list(folder.iterdir()) == []
    with door.connect() as client:
        assert {store.name for store in client.list_stores()} == {"disk-a", "disk-b"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind = ", "must be TOML"),
        ('[settings]\npath = "/"\n', "must be TOML"),
        ('kind = "floppy"\n', "There is no kind of store named"),
        ('kind = "local"\n[settings]\npath = "relative"\n', "path"),
    ],
)
def test_a_wrong_config_file_is_explained(run: Run, tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "store.toml"
    config.write_text(text)
    code, output = run("store", "probe", "--config", str(config))
    assert code != 0
    assert said in output
    assert "Traceback" not in output


def test_a_store_that_can_not_be_reached_is_red_and_the_exit_code_says_so(door: Door, run: Run) -> None:
    root = door.roots["disk-b"]
    root.rename(root.with_name("away"))
    code, output = run("store", "probe", "disk-b")
    assert code == 1
    assert "Not fit for use" in output
    with door.connect() as client:
        assert client.get_store("disk-b").probe_verdict == "unreachable"


def test_settings_of_a_store_are_checked_field_by_field(door: Door, run: Run) -> None:
    with door.connect() as client:
        wrong = refused("store_settings_invalid", 422, lambda: client.set_tuning("disk-a", {"retry_attempts": 99}))
        assert [field.field for field in wrong.problem.fields or []] == ["retry_attempts"]
    code, _ = run("store", "tune", "disk-a", "--set", "read_only=true", "--set", "retry_attempts=2")
    assert code == 0
    with door.connect() as client:
        assert client.get_store("disk-a").tuning == {"read_only": True, "retry_attempts": 2}
    code, output = run("store", "tune", "disk-a", "--set", "retry_attempts=many")
    assert code == 2
    assert "NAME=NUMBER" in output
    code, _ = run("store", "tune", "disk-a")
    with door.connect() as client:
        assert client.get_store("disk-a").tuning == {}


def test_a_tuned_read_only_store_refuses_uploads_and_serves_what_it_has(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("hello")
    with door.connect() as client:
        document = client.upload_document("acme", file)
        client.set_tuning("disk-a", {"read_only": True})
        refused("store_access_denied", 502, lambda: client.upload_document("acme", file))
        with client.open_content("acme", document.id) as chunks:
            assert b"".join(chunks) == b"hello"
