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

from simples3dms.cli.conditions import match_of
from simples3dms.cli.main import app as cli
from simples3dms.cli.main import main
from simples3dms.cli.schedules import seconds_of, window_in_words, window_of
from simples3dms.client import ApiProblem
from simples3dms.storage.migrations import service

Run = Callable[..., Any]


@pytest.fixture
def run(door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command as the operator; what it printed, as JSON where it was asked for."""
    monkeypatch.setenv("SIMPLES3DMS_URL", door.url)
    monkeypatch.setenv("SIMPLES3DMS_TOKEN", door.token.reveal())

    def run(*words: str) -> Any:
        cli([*words], standalone_mode=False)
        out = capsys.readouterr().out
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


def test_a_plan_is_shown_with_what_it_costs(run: Run, door: Door, tmp_path: Path) -> None:
    document = tmp_path / "a.bin"
    document.write_bytes(bytes(3_000_000))
    with door.connect() as client:
        client.upload_document("acme", document)
    priced = run("store", "price", "disk-a", "10", "--egress", "100", "--least-days", "30", "--json")
    assert (priced["price_per_gib_month"], priced["prices"]["egress_per_gib"]) == ("10.000000", "100")
    run("store", "price", "disk-b", "-", "--writes", "1")
    told = run("migration", "plan", "--tenant", "acme", "--to", "disk-b", "--finalize-after", "15d")
    assert "to move  1 blobs, 3.0 MB" in told
    assert "reading at disk-a: 3.0 MB, 0.28 USD" in told
    assert "calls that write to disk-b: 1 calls, less than 0.01 USD" in told
    assert "keeping disk-a for the way back: 3.0 MB, 0.01 USD (for 15 days of roll-back window)" in told
    assert "leaving disk-a early: 3.0 MB, 0.00 to 0.01 USD (at most, if all is new; 30 days are paid at least)" in told
    assert "a month  0.03 USD and 1 line not known before, 1 line not known after" in told
    assert "prices   disk-a: local disk with own prices" in told
    assert "probe    green, 20" in told
    assert "nobody knows: plan with --canary" in told
    shown = run("migration", "show", "--tenant", "acme", "--json")
    assert shown["plan"]["cost"]["once"]["lines"][0]["most"] == "0.279397"


def test_a_plan_with_a_canary_tells_what_it_measured(run: Run, door: Door, tmp_path: Path) -> None:
    document = tmp_path / "a.bin"
    document.write_bytes(bytes(3_000_000))
    with door.connect() as client:
        client.upload_document("acme", document)
    told = run("migration", "plan", "--tenant", "acme", "--to", "disk-b", "--canary")
    assert re.search(r"canary   well: write \d+ ms, read \d+ ms, delete \d+ ms; alone .*B/s written", told)
    assert "of copying, from one copy at a time" in told
    assert [path for path in door.roots["disk-b"].rglob("*") if path.is_file() and "t" in path.parts] == []


def test_a_placement_is_previewed(run: Run, door: Door, tmp_path: Path) -> None:
    document = tmp_path / "a.bin"
    document.write_bytes(bytes(3_000_000))
    with door.connect() as client:
        client.upload_document("acme", document)
    run("store", "price", "disk-a", "10", "--egress", "100")
    wanted = ("placement", "preview", "--tenant", "acme", "--write", "disk-b", "--copy", "disk-a")
    told = run(*wanted)
    assert re.search(r"disk-b +0 +0 B +0 +0 B +1 +3.0 MB +0 +0 B", told)
    assert "moving   0.28 USD, if a migration moves what is absent" in told
    found = run("placement", "preview", "--tenant", "acme", "--write", "disk-a", "--copy", "disk-b", "--json")
    assert [(one["store"], one["held_count"], one["owed_bytes"]) for one in found["stores"]] == [
        ("disk-a", 1, 0),
        ("disk-b", 0, 3_000_000),
    ]
    assert (found["is_estimate"], found["cost"]["once"]["lines"][0]["most"]) == (False, "0.279397")
    with door.connect() as client:
        assert (client.get_placement("acme").version, client.get_placement("acme").write) == (1, "disk-a")


def test_a_part_is_planned_by_conditions(run: Run, door: Door, tmp_path: Path) -> None:
    asked = ("migration", "plan", "--tenant", "acme", "--to", "disk-b")
    for name, body in (("a.png", b"image"), ("b.txt", b"text"), ("c.png", b"")):
        (tmp_path / name).write_bytes(body)
        with door.connect() as client:
            client.upload_document("acme", tmp_path / name)
    only = ("--only", "content_type=image/*", "--only", "min_size=1B", "--only", "max_age=4w")
    planned = run(*asked, *only, "--json")
    assert planned["only"] == {
        "content_types": ["image/*"],
        "min_bytes": 1,
        "max_bytes": None,
        "min_age_days": None,
        "max_age_days": 28,
    }
    assert (planned["plan"]["blob_count"], planned["plan"]["left_count"], planned["plan"]["is_exact"]) == (1, 2, True)
    shown = run("migration", "show", "--tenant", "acme")
    assert "only     content_type=image/* min_size=1 max_age=28d" in shown
    assert "stays    2 blobs, 4 B" in shown
    with pytest.raises(ApiProblem) as caught:
        run(*asked, "--only", "content_type=images")
    assert (caught.value.status, caught.value.code) == (422, "migration_part_invalid")
    assert "content types such as application/pdf or image/*" in str(caught.value)


def test_conditions_that_are_none_are_refused() -> None:
    wrong = ("size=3", "min_size=many", "min_size=3X", "min_age=5h", "max_age=", "content_type=", "")
    for conditions in ([one] for one in wrong):
        with pytest.raises(typer.BadParameter):
            match_of(conditions)
    with pytest.raises(typer.BadParameter):
        match_of(["min_size=1", "min_size=2"])
    read = match_of(
        ["content_type=a/b", "content_type=c/*", "min_size=2KiB", "max_size=3MB", "min_age=2w", "max_age=30d"]
    )
    assert (read.content_types, read.min_bytes, read.max_bytes) == (["a/b", "c/*"], 2048, 3_000_000)
    assert (read.min_age_days, read.max_age_days) == (14, 30)


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


def test_f59_a_refused_cut_over_names_the_documents_on_the_terminal(
    run: Run,
    door: Door,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its copy at the target is bad, and the one at the source is gone: nothing there is to mend it from."""
    monkeypatch.setattr(service, "_CUT_OVER_TRIES", 2)
    path = tmp_path / "a.txt"
    path.write_bytes(b"bytes")
    with door.connect() as client:
        document = client.upload_document("acme", path)
        planned = client.plan_migration("acme", target="disk-b")
        client.start_migration("acme", planned.id)

        def until(reached: Callable[[], bool]) -> None:
            deadline = time.monotonic() + 60
            while not reached():
                assert time.monotonic() < deadline

        until(lambda: client.get_migration("acme", planned.id).state == "ready")
        held = {name: _files_of(root, b"bytes")[0] for name, root in door.roots.items()}
        good = held["disk-a"].read_bytes()
        held["disk-a"].unlink()
        held["disk-b"].chmod(0o600)
        held["disk-b"].write_bytes(b"bytez")
        scrub = client.start_scrub("acme", store="disk-b", level="deep")
        until(lambda: client.get_scrub("acme", scrub.id).state == "done")
        monkeypatch.setattr("sys.argv", ["simples3dms", "migration", "cutover", "--tenant", "acme"])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr().err
        assert (caught.value.code, f"  document {document.id}, version 1: suspect at the target" in said) == (1, True)
        assert client.get_placement("acme").write == "disk-a"
        held["disk-a"].write_bytes(good)
        until(lambda: client.get_migration("acme", planned.id).state == "ready")
    assert run("migration", "cutover", "--tenant", "acme", "--json")["state"] == "soaking"


def _files_of(root: Path, body: bytes) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and path.read_bytes() == body]


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
