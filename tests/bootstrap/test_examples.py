"""S-51: nobody runs this in earnest with a secret that everybody knows."""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from simples3dms.bootstrap import build_services
from simples3dms.crypto.examples import is_example
from simples3dms.crypto.passwords import new_password
from simples3dms.errors import Failure
from simples3dms.settings import Settings

EXAMPLES = [
    *("changeme", "Change-Me!", "password123", "minioadmin", "secret", "your-secret-key", "aaaaaaaaaaaaaaaa", "", "x"),
    *("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "12345678", "admin", "insert-your-key-here", "00000000"),
]
#: Every setting that holds a secret, and how an example gets into it.
HOLDERS: dict[str, str] = {
    "database_url": "postgresql://app:{}@127.0.0.1:1/none",
    "database_owner_url": "host=127.0.0.1 port=1 user=owner password='{}'",
    "storage_key": "{}",
    "kms_secret_access_key": "{}",
    "kms_session_token": "{}",
    "transit_token": "{}",
    "smtp_password": "{}",
    "keyring": json.dumps({"format": 1, "primary": "k", "keys": {"k": base64.b64encode(bytes(32)).decode()}}),
}


def production(tmp_path: Path, **given: Any) -> Settings:
    base: dict[str, Any] = {"env": "production", "data_dir": tmp_path, "database_url": SecretStr("host=/nowhere")}
    return Settings(**base | given)


@pytest.mark.parametrize("example", EXAMPLES)
def test_s51_what_everybody_knows_is_an_example(example: str) -> None:
    assert is_example(example)


def test_s51_what_is_made_up_is_none() -> None:
    for _ in range(1000):
        assert not is_example(secrets.token_urlsafe(16))
        assert not is_example(secrets.token_hex(16))
        assert not is_example(new_password().reveal())


@pytest.mark.parametrize("name", HOLDERS)
def test_s51_production_does_not_start_on_an_example(tmp_path: Path, name: str) -> None:
    with pytest.raises(Failure) as caught:
        build_services(production(tmp_path, **{name: SecretStr(HOLDERS[name].replace("{}", "changeme"))}))
    assert caught.value.problem_code == "secret_is_example"
    assert f"SIMPLES3DMS_{name.upper()}" in caught.value.message
    assert "changeme" not in caught.value.message
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


def test_s51_every_setting_that_holds_a_secret_is_tried_above() -> None:
    held = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    assert held == set(HOLDERS)


def test_s51_a_key_ring_that_was_made_up_is_taken(tmp_path: Path) -> None:
    """What is wrong with one that is none is said by whoever reads it."""
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    ring = json.dumps({"format": 1, "primary": "k", "keys": {"k": key}})
    assert build_services(production(tmp_path, keyring=SecretStr(ring))).keys is not None
    with pytest.raises(Failure) as caught:
        build_services(production(tmp_path, keyring=SecretStr("{}")))
    assert caught.value.problem_code == "keyring_malformed"


def test_s51_an_address_is_no_secret(tmp_path: Path) -> None:
    """Nor is a name that sounds like an example."""
    services = build_services(production(tmp_path, database_url=SecretStr("postgresql://app@db.example.org/admin")))
    assert not services.server.is_embedded


def test_s51_there_is_no_default_password() -> None:
    """The first operator's is made up each time; no setting has a secret as its default."""
    assert new_password() != new_password()
    assert [name for name in HOLDERS if Settings.model_fields[name].default] == []


def test_s51_what_tests_may_do_is_refused_in_earnest(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"(?i)test"):
        build_services(production(tmp_path, failpoints="upload.after_put=kill"))
