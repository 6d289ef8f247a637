"""The commands of migrations that go beyond a step: schedules, reports, drains."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.api.conftest import Door

from simples3dms.cli.main import app as cli
from simples3dms.cli.schedules import seconds_of, window_in_words, window_of
from simples3dms.client import ApiProblem

Run = Callable[..., Any]
_LOGGED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[")


@pytest.fixture
def run(door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command as the operator; what it printed, as JSON where it was asked for."""
    monkeypatch.setenv("SIMPLES3DMS_URL", door.url)
    monkeypatch.setenv("SIMPLES3DMS_TOKEN", door.token.reveal())

    def run(*words: str) -> Any:
        cli([*words], standalone_mode=False)
        out = "\n".join(line for line in capsys.readouterr().out.splitlines() if not _LOGGED.match(line))
        return json.loads(out) if "--json" in words else out

    return run


def test_a_schedule_is_given_with_the_plan_and_anew(run: Run) -> None:
    window = "mon-fri 22:00-06:00 Europe/Vienna"
    asked = ("migration", "plan", "--tenant", "acme", "--to", "disk-b", "--json")
    planned = run(*asked, "--automatic-cutover", "--finalize-after", "7d", "--window", window)
    assert (planned["automatic_cutover"], planned["finalize_after_seconds"]) == (True, 7 * 86_400)
    assert planned["windows"] == [
        {"days": ["mon", "tue", "wed", "thu", "fri"], "opens": "22:00", "closes": "06:00", "zone": "Europe/Vienna"}
    ]
    assert "mon,tue,wed,thu,fri 22:00-06:00 Europe/Vienna" in run("migration", "show", "--tenant", "acme")
    changed = run("migration", "schedule", "--tenant", "acme", "--json")
    assert (changed["automatic_cutover"], changed["finalize_after_seconds"], changed["windows"]) == (False, None, [])


def test_a_proof_is_chosen_with_the_plan(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("migration", "plan", "--tenant", "acme", "--to", "disk-b")
    with pytest.raises(typer.BadParameter):
        run(*asked, "--proof", "etag")
    planned = run(*asked, "--proof", "sample=10", "--json")
    assert (planned["proof"], planned["plan"]["read_back_percent"]) == ("sample=10", 100)
    assert "proof    sample=10: 100 % are read back" in run("migration", "show", "--tenant", "acme")


def test_a_report_is_written_verified_and_found_out(run: Run, door: Door, tmp_path: Path) -> None:
    document, kept, keys = tmp_path / "a.txt", tmp_path / "moved.jsonl", tmp_path / "keys.json"
    document.write_bytes(b"bytes")
    with door.connect() as client:
        client.upload_document("acme", document)
        planned = client.plan_migration("acme", target="disk-b", automatic_cutover=True, finalize_after_seconds=0)
        with pytest.raises(ApiProblem) as caught:
            list(client.iter_report("acme", planned.id))
        assert caught.value.code == "migration_wrong_state"
        client.start_migration("acme", planned.id)
        deadline = time.monotonic() + 60
        while client.get_migration("acme", planned.id).state != "done":
            assert time.monotonic() < deadline
    assert run("migration", "report", str(planned.id), "--tenant", "acme", "-o", str(kept), "--json")["items"] == 1
    keys.write_text(json.dumps(run("audit", "keys", "--json")))
    good = run("migration", "verify-report", str(kept), "--public-key", str(keys), "--json")
    assert (good["ok"], good["proven"], good["signature_checked"]) == (True, 1, True)
    assert good["migration_id"] == str(planned.id)
    kept.write_bytes(kept.read_bytes().replace(b'"size_bytes":5', b'"size_bytes":6'))
    bad = run("migration", "verify-report", str(kept), "--public-key", str(keys), "--json")
    assert (bad["ok"], bad["code"], bad["bad_line"]) == (False, "hash_wrong", 2)
    assert cli(["migration", "verify-report", str(kept)], standalone_mode=False) == 1


def test_a_store_is_drained_by_commands(run: Run, door: Door) -> None:
    asked = ("store", "drain", "disk-a", "--to", "disk-b", "--percent", "99", "--finalize-after", "0s", "--json")
    begun = run(*asked, "--proof", "sample=5")
    assert begun["proof"] == "sample=5"
    assert (begun["steps"], begun["percent"], begun["automatic"]) == ([99, 100], 99, False)
    deadline = time.monotonic() + 60
    while run("drain", "show", "disk-a", "--json")["state"] != "confirming":
        assert time.monotonic() < deadline
    run("drain", "pause", "disk-a")
    run("drain", "resume", "disk-a")
    while run("drain", "show", "disk-a", "--json")["state"] != "confirming":
        assert time.monotonic() < deadline
    run("drain", "confirm", "disk-a")
    while run("drain", "show", "disk-a", "--json")["state"] != "done":
        assert time.monotonic() < deadline
    assert "1 moved" in run("drain", "show", "disk-a")
    (moved,) = run("migration", "list", "--tenant", "acme", "--json")
    assert moved["proof"] == "sample=5"
    (tenant,) = run("drain", "tenants", "disk-a", "--json")
    assert (tenant["slug"], tenant["state"]) == ("acme", "moved")
    with door.connect() as client:
        assert client.get_placement("acme").write == "disk-b"
    run("store", "drain", "disk-a", "--to", "disk-b", "--percent", "1")
    run("drain", "cancel", "disk-a")


def test_how_durations_and_windows_are_spelled() -> None:
    assert [seconds_of(text) for text in ("90s", "30m", "12h", "7d", "2w")] == [90, 1800, 43_200, 604_800, 1_209_600]
    assert window_in_words(window_of("sat-mon,wed 00:00-00:00 UTC")) == "sat,sun,mon,wed 00:00-00:00 UTC"
    for wrong in ("7", "d", "-1d", "7 d", "1.5h"):
        with pytest.raises(typer.BadParameter):
            seconds_of(wrong)
    for wrong in ("mon 22:00 UTC", "someday 22:00-23:00 UTC", "22:00-23:00 UTC", "mon 22:00-23:00"):
        with pytest.raises(typer.BadParameter):
            window_of(wrong)
