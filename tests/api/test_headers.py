"""Headers with rules of their own: dispositions that no name can break, ranges, tags, digests."""

from __future__ import annotations

import base64
import re
from email.message import Message
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simples3dms.api.headers import attachment, content_digest, is_held, parse_content_digest, parse_range, safe_type
from simples3dms.errors import Invalid

_SHAPE = re.compile(r"attachment; filename=\"([A-Za-z0-9 ._()+-]+)\"; filename\*=UTF-8''([A-Za-z0-9._~%-]+)")
_ETAG = '"aa"'


def parameters(value: str) -> list[str]:
    """The names of a header's parameters, as the standard library's parser sees them."""
    message = Message()
    message["Content-Disposition"] = value
    return [name for name, _ in message.get_params(header="content-disposition", unquote=False) or []][1:]


@settings(deadline=None)
@given(st.text(st.characters(), max_size=300))
@example('a"\r\nX: 1')
@example('a"; filename="evil.html')
@example("résumé – 漢字.pdf")
@example("invoice\u202efdp.exe")
@example("\ud800")
@example("\x00")
@example("..\\..\\x")
@example("../../etc/passwd")
@example("100%.txt")
@example("'")
@example("")
def test_no_name_breaks_a_disposition(name: str) -> None:
    value = attachment(name)
    value.encode("ascii")
    found = _SHAPE.fullmatch(value)
    assert found is not None
    assert parameters(value) == ["filename", "filename"]  # the plain one and `filename*`, and nothing smuggled in
    shown = unquote(found.group(2), errors="strict")
    assert shown
    assert not set(shown) & set("/\\\r\n\0\u202e")


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["C"], exclude_characters="/\\"), min_size=1))
def test_a_harmless_name_arrives_as_it_is(name: str) -> None:
    message = Message()
    message["Content-Disposition"] = attachment(name).replace('filename="', 'plain="')
    assert message.get_filename() == (name.strip() or "document")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("bytes=0-0", (0, 1)),
        ("bytes=0-", (0, 100)),
        ("Bytes=10-19", (10, 10)),
        ("bytes=-5", (95, 5)),
        ("bytes=-500", (0, 100)),
        ("bytes=90-9999999999999999999", (90, 10)),
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=0-0,5-9", None),
        ("bytes=" + ",".join(["0-"] * 1000), None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
        ("bytes=" + "9" * 100 + "-", None),
    ],
)
def test_ranges(value: str | None, expected: tuple[int, int] | None) -> None:
    assert parse_range(value, 100) == expected


@pytest.mark.parametrize(("value", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=-1", 0)])
def test_ranges_outside_the_document(value: str, size: int) -> None:
    with pytest.raises(Invalid) as caught:
        parse_range(value, size)
    assert caught.value.problem_code == "range_not_satisfiable"
    assert caught.value.extra == {"size_bytes": size}


@settings(deadline=None)
@given(st.text(max_size=40).map(lambda tail: f"bytes={tail}"), st.integers(0, 10**12))
def test_a_range_lies_within_the_document_or_is_refused(value: str, size: int) -> None:
    try:
        part = parse_range(value, size)
    except Invalid:
        return
    if part is not None:
        start, length = part
        assert 0 <= start < start + length <= size


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, False),
        ('"aa"', True),
        ('W/"aa"', True),
        ('"bb", "aa"', True),
        ("*", True),
        ('"bb"', False),
        ("aa", False),
        ("", False),
    ],
)
def test_tags_that_the_caller_holds(value: str | None, expected: bool) -> None:
    assert is_held(value, _ETAG) is expected


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_a_digest_goes_there_and_back(digest: bytes) -> None:
    assert parse_content_digest(content_digest(digest)) == digest
    assert parse_content_digest(f"md5=:AAAA:, {content_digest(digest)}") == digest


@pytest.mark.parametrize(
    "value",
    [
        "",
        "sha-256",
        "sha-256=:AAAA:",
        "sha-256=:====:",
        "md5=:AAAA:",
        "sha-256=" + base64.b64encode(bytes(32)).decode(),
        "xsha-256=:" + base64.b64encode(bytes(32)).decode() + ":",
    ],
)
def test_a_digest_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_content_digest(value)
    assert caught.value.problem_code == "digest_malformed"


@pytest.mark.parametrize(
    ("given_type", "served"),
    [
        ("application/pdf", "application/pdf"),
        ("Image/PNG; x=y", "image/png"),
        ("text/html", "application/octet-stream"),
        ("image/svg+xml", "application/octet-stream"),
        ("application/xhtml+xml", "application/octet-stream"),
        ("text/plain; charset=utf-7", "text/plain"),
        ("nonsense", "application/octet-stream"),
    ],
)
def test_only_harmless_types_are_served_as_such(given_type: str, served: str) -> None:
    assert safe_type(given_type) == served
