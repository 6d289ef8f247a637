"""Log lines: no secret in them, whatever shape it has or whoever logs it, and no line that somebody else wrote."""

from __future__ import annotations

import io
import json
import logging
import secrets
import sys
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from simples3dms.kit.secret import Secret
from simples3dms.telemetry.logging import configure_logging
from simples3dms.telemetry.redaction import one_line, redact

Form = Literal["text", "json"]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Form], Callable[[], str]]]:
    """Set logging up as the commands do, into a buffer; what was written."""
    root = logging.getLogger()
    handlers, level, before = root.handlers[:], root.level, structlog.get_config()

    def configured(form: Form) -> Callable[[], str]:
        buffer = io.StringIO()
        monkeypatch.setattr(sys, "stderr", buffer)
        configure_logging("debug", form)
        return buffer.getvalue

    yield configured
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


def test_what_a_test_logs_is_not_among_what_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """Else a line of a server in this process, at the wrong moment, would stand in the middle of a command's JSON."""
    structlog.get_logger(__name__).warning("something.happened")
    assert capsys.readouterr() == ("", "")


def canary() -> str:
    return secrets.token_hex(20)


#: How a secret may come into a line. `{}` is where it stands.
SHAPES = [
    "s3dms_{}",
    "Authorization: Bearer {}",
    "{{'Authorization': 'AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature={}'}}",
    "Cookie: __Host-session={}",
    "set-cookie=__Host-session={}; Path=/",
    "GET https://bucket.example/key?X-Amz-Algorithm=x&X-Amz-Signature={}&x=1",
    "https://bucket.example/key?Authorization={}",
    "postgresql://app:{}@db.example:5432/x",
    "connection failed: host=db user=app password={} dbname=x",
    "connection failed: host=db password='{}'",
    '{{"secret_access_key": "{}", "bucket": "b"}}',
    "applicationKey={}",
    "4_00{}_account=",
    "K001{}",
    "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
    "X-Vault-Token: {}",
]


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("shape", SHAPES)
def test_s42_a_secret_is_known_by_its_shape(lines: Callable[[Form], Callable[[], str]], form: Form, shape: str) -> None:
    written = lines(form)
    hidden = canary()
    text = shape.format(hidden)
    structlog.get_logger().warning("store.failed", error=text, nested={"answers": [text]})
    structlog.get_logger().warning(text)
    logging.getLogger("vendor.client").warning("failed: %s", text)
    try:
        raise RuntimeError(text)
    except RuntimeError:
        structlog.get_logger().exception("job.crashed")
        logging.getLogger("vendor.client").exception("crashed")
    assert written().count("\n") >= 5
    assert hidden not in written()
    assert "***" in written()


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("name", ["password", "new_password", "api_key", "token", "credential", "client-secret", "dsn"])
def test_s42_a_secret_is_known_by_its_name(lines: Callable[[Form], Callable[[], str]], form: Form, name: str) -> None:
    written = lines(form)
    hidden = canary()
    structlog.get_logger().info("x", **{name: hidden}, given={name: hidden}, secret=Secret(hidden), safe="kept")
    assert hidden not in written()
    assert "kept" in written()


def test_what_is_no_secret_is_kept() -> None:
    for text in (
        "token_id 0198c0de-0000-7000-8000-000000000000 was revoked",
        "https://s3.example:9000/bucket/t/acme/key?versionId=3",
        "the password is wrong",
        "12 tokens, 3 secrets, author: me",
        "sha256 " + "ab" * 32,
    ):
        assert redact(text) == text


FORGED = "x\n2026-01-01T00:00:00Z [info] user.signed_in user=admin\r\x1b[2J\u2028\u2029\x85\u202e\x00end"


@pytest.mark.parametrize("form", ["text", "json"])
def test_s43_nobody_writes_a_line_of_their_own(lines: Callable[[Form], Callable[[], str]], form: Form) -> None:
    written = lines(form)
    structlog.get_logger().info("request.refused", agent=FORGED, **{"na\nme": FORGED})
    structlog.get_logger().info(FORGED)
    logging.getLogger("vendor.client").warning("agent %s", FORGED)
    logged = written()
    assert logged.count("\n") == len(logged.splitlines()) == 3
    assert not set(logged) & set("\x1b\r\x00\u202e")
    if form == "json":
        first, second, third = (json.loads(line) for line in logged.splitlines())
        assert (first["agent"], second["event"], third["event"]) == (FORGED, FORGED, f"agent {FORGED}")


def test_s43_a_traceback_can_not_pass_for_lines_of_the_log(lines: Callable[[Form], Callable[[], str]]) -> None:
    written = lines("text")
    try:
        raise RuntimeError(FORGED)
    except RuntimeError:
        structlog.get_logger().exception("job.crashed")
    first, *below = written().splitlines()
    assert first.endswith("job.crashed")
    assert below
    assert all(line.startswith("    | ") for line in below)


@given(st.text(st.characters(), max_size=60))
def test_s43_one_line_is_one_line_and_keeps_what_is_readable(text: str) -> None:
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    assert shown.isprintable() or any(ord(character) > 0x7F for character in shown)
    assert one_line(shown) == shown
