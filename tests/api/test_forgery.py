"""S-15: which requests that a cookie vouches for are the user's own."""

from __future__ import annotations

import pytest

from simples3dms.api.forgery import Asked, why_forged

OWN = frozenset({"https://documents.example.org"})
HERE, EVIL = "https://documents.example.org", "https://evil.example"
JSON, OCTETS = "application/json", "application/octet-stream"
ALLOWED = [
    ("GET", None, None, None),
    ("GET", EVIL, "cross-site", None),
    ("HEAD", None, "cross-site", None),
    ("OPTIONS", EVIL, "cross-site", None),
    ("POST", HERE, "same-origin", JSON),
    ("POST", None, "same-origin", JSON),
    ("POST", HERE, None, JSON),
    ("POST", HERE, None, "application/json; charset=utf-8"),
    ("PUT", HERE, None, OCTETS),
    ("POST", HERE, "same-origin", "application/pdf"),
    ("DELETE", HERE, None, None),
    ("DELETE", None, "none", None),
]
REFUSED = [
    ("POST", EVIL, "cross-site", JSON),
    ("POST", EVIL, None, JSON),
    ("POST", "null", None, JSON),
    ("POST", "null", "cross-site", JSON),
    ("POST", None, None, JSON),
    ("POST", None, "cross-site", JSON),
    ("POST", "https://a.documents.example.org", None, JSON),
    ("POST", "https://a.documents.example.org", "same-site", JSON),
    ("POST", "https://documents.example.org.evil.example", None, JSON),
    ("POST", "https://evil.example/https://documents.example.org", None, JSON),
    ("POST", "http://documents.example.org", None, JSON),
    ("POST", "https://documents.example.org:8443", None, JSON),
    ("POST", "https://DOCUMENTS.example.org", None, JSON),
    ("POST", "", None, JSON),
    ("POST", HERE, "", JSON),
    ("POST", HERE, "Same-Origin", JSON),
    ("POST", HERE, "cross-site", JSON),
    ("DELETE", EVIL, None, None),
    ("DELETE", None, None, None),
    ("PATCH", None, "cross-site", None),
    ("WHATEVER", EVIL, None, None),
]
FORMS = [
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain",
    "Text/Plain;x=y",
    "",
    None,
]


def _asked(method: str, origin: str | None, fetch_site: str | None, content_type: str | None) -> Asked:
    return Asked(method, OWN, origin, fetch_site, content_type, has_body=content_type is not None)


@pytest.mark.parametrize("row", ALLOWED)
def test_s15_what_our_own_pages_send_is_taken(row: tuple[str, str | None, str | None, str | None]) -> None:
    assert why_forged(_asked(*row)) is None


@pytest.mark.parametrize("row", REFUSED)
def test_s15_what_another_site_may_have_sent_is_refused(row: tuple[str, str | None, str | None, str | None]) -> None:
    assert why_forged(_asked(*row)) is not None


@pytest.mark.parametrize("content_type", FORMS)
@pytest.mark.parametrize("fetch_site", ["same-origin", "none", None])
def test_s15_a_body_that_a_form_can_send_is_refused(content_type: str | None, fetch_site: str | None) -> None:
    form = Asked("POST", OWN, HERE, fetch_site, content_type, has_body=True)
    assert "form" in str(why_forged(form))
    ours = Asked("POST", OWN, HERE, fetch_site, content_type, has_body=True, has_own_header=True)
    assert why_forged(ours) is None
