"""The commands of the audit: export, keep a checkpoint, verify without a server, and be told what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api.conftest import Door

from simples3dms.cli.main import app as cli
from simples3dms.client import Client

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command as the operator; its exit code, and what it printed."""
    monkeypatch.setenv("SIMPLES3DMS_URL", door.url)
    monkeypatch.setenv("SIMPLES3DMS_TOKEN", door.token.reveal())

    def run(*words: str) -> tuple[int, str, str]:
        code = cli([*words], standalone_mode=False) or 0
        out, err = capsys.readouterr()
        return code, out, " ".join(err.split())

    return run


def told(run: Run, *words: str) -> Any:
    code, out, _ = run(*words, "--json")
    assert code in (0, 1)
    return json.loads(out)


def test_from_a_checkpoint_to_a_verdict(run: Run, door: Door, tmp_path: Path) -> None:
    checkpoint, keys, export = tmp_path / "checkpoint.json", tmp_path / "keys.json", tmp_path / "acme.jsonl"
    checkpoint.write_text(json.dumps(told(run, "audit", "checkpoint", "--tenant", "acme"), indent=2))
    keys.write_text(json.dumps(told(run, "audit", "keys")))
    run("audit", "checkpoint", "--tenant", "acme")
    count = told(run, "audit", "export", str(export), "--tenant", "acme")["events"]
    assert count == len(export.read_bytes().splitlines()) - 1 > 2
    proof = ["--checkpoint", str(checkpoint), "--public-key", str(keys)]
    code, _, said = run("audit", "verify", str(export), *proof)
    assert code == 0
    assert f"Good: {count} events, 1 to {count}" in said
    report = told(run, "audit", "verify", str(export), *proof)
    assert (report["ok"], report["checkpoints_matched"], report["signatures_checked"]) == (True, 1, True)
    # Without a checkpoint it says what that is worth.
    assert "No checkpoint was given" in run("audit", "verify", str(export))[2]
    assert "No public key was given" in run("audit", "verify", str(export), "--checkpoint", str(checkpoint))[2]
    # The server's chain, fetched and checked here.
    report = told(run, "audit", "verify", "--tenant", "acme", "--checkpoint", str(checkpoint))
    assert (report["ok"], report["checkpoints_matched"]) == (True, 2)
    assert told(run, "audit", "verify", "--platform")["code"] is None
    # Somebody edits the second event of the file.
    lines = export.read_bytes().splitlines(keepends=True)
    export.write_bytes(b"".join([*lines[:2], lines[2].replace(b"admin@localhost", b"nobody@localhost"), *lines[3:]]))
    code, _, said = run("audit", "verify", str(export), *proof)
    assert (code, said.startswith("WRONG at event 2 (line 3):")) == (1, True)
    report = told(run, "audit", "verify", str(export), *proof)
    assert (report["ok"], report["code"], report["bad_seq"], report["bad_line"]) == (False, "hash_wrong", 2, 3)
    # Somebody cuts the end off.
    export.write_bytes(b"".join(lines[:2]))
    report = told(run, "audit", "verify", str(export), *proof)
    assert (report["code"], report["bad_seq"]) == ("tail_missing", 2)


def test_an_export_goes_on_after_a_number(run: Run, door: Door, tmp_path: Path) -> None:
    run("audit", "checkpoint", "--tenant", "acme")
    with door.connect() as client:
        whole = list(client.iter_audit_export("acme"))
        rest = list(client.iter_audit_export("acme", after_seq=2))
        assert rest[1:] == whole[3:]
        trail = client.get_audit_trail("acme")
        assert (trail.first_seq, trail.retention_days, trail.least_retention_days) == (1, None, 365)
    code, out, _ = run("audit", "export", "-", "--tenant", "acme", "--csv")
    assert (code, out.splitlines()[0].startswith('"seq","at"')) == (0, True)
    assert told(run, "audit", "retention", "500", "--tenant", "acme")["retention_days"] == 500
    assert told(run, "audit", "retention", "--tenant", "acme")["retention_days"] == 500
    assert told(run, "audit", "retention", "forever", "--tenant", "acme")["retention_days"] is None


def test_an_export_that_is_cut_off_goes_on(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client asks for the rest, and the lines are those of one export."""
    with Client(door.url, token=door.token, tries=3) as client:
        client.create_audit_checkpoint("acme")
        whole = list(client.iter_audit_export("acme"))
        asked: list[int | None] = []
        real = Client._lines

        def cut(self: Client, tenant: str | None, format_: str, after_seq: int | None) -> Any:
            asked.append(after_seq)
            for number, line in enumerate(real(self, tenant, format_, after_seq)):
                if number == 2 and len(asked) < 3:
                    raise self.unreachable(httpx.ReadError("cut"))
                yield line

        monkeypatch.setattr(Client, "_lines", cut)
        monkeypatch.setattr(Client, "pause", lambda *_: None)
        # The checkpoint is an event too, which may have been sealed meanwhile.
        assert list(client.iter_audit_export("acme"))[: len(whole)] == whole
    assert asked == [None, 1, 2]


def test_what_is_no_checkpoint_and_no_key_is_said(run: Run, tmp_path: Path) -> None:
    from simples3dms.errors import Invalid

    other = tmp_path / "other.json"
    other.write_text('{"format": "something else"}')
    for option, code in (("--checkpoint", "checkpoint_malformed"), ("--public-key", "audit_key_malformed")):
        with pytest.raises(Invalid) as refused:
            run("audit", "verify", str(other), option, str(other))
        assert refused.value.problem_code == code
    assert told(run, "audit", "verify", str(other))["code"] == "line_broken"
