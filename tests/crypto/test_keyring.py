"""The key ring's file: made once, for its owner only, and refused when it is anything else."""

from __future__ import annotations

import base64
import json
import multiprocessing
import stat
from pathlib import Path

import pytest

from simples3dms.crypto.errors import KeyringFailed
from simples3dms.crypto.keyring import Keyring, load_or_create_keyring
from simples3dms.crypto.wrapping import LocalKey

KEY = base64.b64encode(b"k" * 32).decode()


def test_it_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    made = load_or_create_keyring(path)
    again = load_or_create_keyring(path)
    assert made.ids == again.ids == [made.primary_id]
    assert made.get_key(made.primary_id).fingerprint == again.get_key(made.primary_id).fingerprint
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["keyring.json"]


def _load(path: Path) -> bytes:
    keyring = load_or_create_keyring(path)
    return keyring.get_key(keyring.primary_id).fingerprint


def test_many_processes_at_once_end_with_the_same_key(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        keys = pool.map(_load, [tmp_path / "keyring.json"] * 16)
    assert len(set(keys)) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["keyring.json"]


def _write(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def _refused(path: Path, code: str) -> str:
    with pytest.raises(KeyringFailed) as caught:
        load_or_create_keyring(path)
    assert caught.value.problem_code == code
    return caught.value.message


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o602, 0o610, 0o777])
def test_a_file_open_to_others_is_refused_and_left_alone(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keyring.json"
    load_or_create_keyring(path)
    path.chmod(mode)
    assert "chmod 600" in _refused(path, "keyring_too_open")
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize(
    "content",
    [
        "",
        "null",
        "[]",
        "7",
        "{",
        b"\xff\xfe",
        '{"format": 3, "primary": "k1", "keys": {"k1": "KEY"}}',
        '{"format": 2, "primary": "k1", "keys": {"k1": {"kind": "floppy"}}}',
        '{"format": 2, "primary": "k1", "keys": {"k1": {"kind": "aws-kms", "key": "x"}}}',
        '{"format": 2, "primary": "k1", "keys": {"k1": {"kind": "transit", "key": "../x", "address": "http://x"}}}',
        '{"format": 1, "primary": "k2", "keys": {"k1": "KEY"}}',
        '{"format": 1, "primary": "k1", "keys": {}}',
        '{"format": 1, "primary": "k1", "keys": []}',
        '{"format": 1, "keys": {"k1": "KEY"}}',
        '{"format": 1, "primary": "k1", "keys": {"k1": 7}}',
        '{"format": 1, "primary": "k1", "keys": {"k1": ""}}',
        '{"format": 1, "primary": "k1", "keys": {"k1": "SHORT"}}',
        '{"format": 1, "primary": "k1", "keys": {"k1": "KEY!"}}',
        '{"format": 1, "primary": "", "keys": {"": "KEY"}}',
        '{"format": 1, "primary": "k1", "keys": {"k1": "KEY", "k1": "KEY"}}',
        "[" * 50_000,
        " " * 70_000,
    ],
)
def test_a_malformed_file_is_refused_without_quoting_it(tmp_path: Path, content: str | bytes) -> None:
    if isinstance(content, str):
        content = content.replace("KEY", KEY).replace("SHORT", base64.b64encode(b"k" * 31).decode())
    path = _write(tmp_path / "keyring.json", content)
    assert KEY[:8] not in _refused(path, "keyring_malformed")
    assert path.stat().st_size == len(content)


def test_several_keys_one_of_them_primary(tmp_path: Path) -> None:
    document = {"format": 1, "primary": "k2", "keys": {"k1": KEY, "k2": base64.b64encode(b"2" * 32).decode()}}
    keyring = load_or_create_keyring(_write(tmp_path / "keyring.json", json.dumps(document)))
    assert (keyring.ids, keyring.primary_id) == (["k1", "k2"], "k2")
    assert keyring.get_key("k2").fingerprint == LocalKey("k2", b"2" * 32).fingerprint


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    _refused(tmp_path, "keyring_unreadable")
    _refused(tmp_path / "absent" / "keyring.json", "keyring_unreadable")


def test_a_key_ring_without_its_primary_key_can_not_be_made() -> None:
    with pytest.raises(KeyringFailed):
        Keyring({}, "k1")
