"""Bodies on the wire: uploads that end early or repeat, downloads that break off, conditions and ranges."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api.conftest import Door


@pytest.fixture
def http(door: Door) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {door.token.reveal()}"}
    with httpx.Client(base_url=door.url, headers=headers, trust_env=False, timeout=30) as client:
        yield client


def exchange(door: Door, head: str, body: bytes = b"", *, shut: bool = True) -> bytes:
    """Send a request as it stands, close our half if asked to, and read the answer to its end."""
    head += f"Host: x\r\nAuthorization: Bearer {door.token.reveal()}\r\nConnection: close\r\n\r\n"
    answer = b""
    with socket.create_connection((door.host, door.port), timeout=20) as connection, suppress(OSError):
        connection.sendall(head.encode() + body)
        if shut:
            connection.shutdown(socket.SHUT_WR)
        while chunk := connection.recv(65_536):
            answer += chunk
    return answer


UPLOAD = "POST /api/v1/tenants/acme/documents?name=x HTTP/1.1\r\n"


def put(http: httpx.Client, body: bytes, *, key: str | None = None, document: str | None = None) -> httpx.Response:
    url = "/api/v1/tenants/acme/documents" + (f"/{document}/versions" if document else "")
    headers = {"Idempotency-Key": key} if key else {}
    return http.post(url, params={} if document else {"name": "a.bin"}, content=body, headers=headers)


def names(http: httpx.Client) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = http.get("/api/v1/tenants/acme/documents").json()["items"]
    return items


def test_a_body_of_no_announced_length(door: Door, http: httpx.Client) -> None:
    body = os.urandom(300_000)
    pieces = (body[at : at + 7_000] for at in range(0, len(body), 7_000))
    made = http.post("/api/v1/tenants/acme/documents", params={"name": "x"}, content=pieces)
    assert made.status_code == 201
    assert made.headers["location"] == f"/api/v1/tenants/acme/documents/{made.json()['id']}"
    assert made.json()["sha256"] == hashlib.sha256(body).hexdigest()
    assert http.get(f"{made.headers['location']}/content").content == body


def test_a_chunked_body_that_is_cut_becomes_nothing(door: Door, http: httpx.Client) -> None:
    exchange(door, f"{UPLOAD}Transfer-Encoding: chunked\r\n", b"3e8\r\n" + b"a" * 1000 + b"\r\n")
    exchange(door, f"{UPLOAD}Transfer-Encoding: chunked\r\n", b"zz\r\nabc")
    exchange(door, f"{UPLOAD}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n")
    assert [one for one in names(http) if one["size_bytes"] != 3] == []


def test_nonsense_lengths_are_refused(door: Door, http: httpx.Client) -> None:
    for length in ("-1", "abc", "1e3", "99999999999999999999999999", "5, 6"):
        answer = exchange(door, f"{UPLOAD}Content-Length: {length}\r\n", b"hello", shut=False)
        assert not answer.startswith(b"HTTP/1.1 2"), length
    assert names(http) == []


def test_an_empty_document(http: httpx.Client) -> None:
    made = put(http, b"").json()
    got = http.get(f"/api/v1/tenants/acme/documents/{made['id']}/content")
    assert (got.status_code, got.content, got.headers["content-length"]) == (200, b"", "0")
    beyond = http.get(f"/api/v1/tenants/acme/documents/{made['id']}/content", headers={"Range": "bytes=0-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */0")


def test_a_repeated_upload_has_one_effect_and_the_same_answer(http: httpx.Client) -> None:
    first = put(http, b"one", key="key-1")
    again = put(http, b"one", key="key-1")
    assert "idempotent-replay" not in first.headers
    assert again.headers["idempotent-replay"] == "true"
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert again.headers["location"] == first.headers["location"]
    # Whatever has happened to the document since, the answer is the one that was given.
    document = first.json()["id"]
    assert put(http, b"two, longer", document=document).json()["version"] == 2
    http.delete(f"/api/v1/tenants/acme/documents/{document}")
    assert put(http, b"one", key="key-1").json() == first.json()
    assert len(names(http)) == 0
    other = put(http, b"other", key="key-1")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")


def test_a_key_whose_upload_failed_may_be_used_again(door: Door, http: httpx.Client) -> None:
    exchange(door, f"{UPLOAD}Idempotency-Key: key-2\r\nContent-Length: 5000\r\n", b"a" * 100)
    url, headers = "/api/v1/tenants/acme/documents?name=x", {"Idempotency-Key": "key-2"}
    deadline = time.monotonic() + 120
    while (made := http.post(url, content=b"a" * 5000, headers=headers)).status_code == 409:
        # Until the server has seen that the first one was cut.
        assert made.json()["code"] == "upload_in_progress"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert made.status_code == 201
    assert [one["size_bytes"] for one in names(http)] == [5000]


def test_conditions(http: httpx.Client) -> None:
    body = os.urandom(10_000)
    made = put(http, body).json()
    url = f"/api/v1/tenants/acme/documents/{made['id']}/content"
    etag = f'"{made["sha256"]}"'
    for given in (etag, f"W/{etag}", "*", f'"x", {etag}'):
        held = http.get(url, headers={"If-None-Match": given})
        assert (held.status_code, held.content, held.headers["etag"]) == (304, b"", etag)
        assert held.headers["cache-control"] == "private, no-cache"
    part = {"Range": "bytes=10-19"}
    assert http.get(url, headers={**part, "If-Range": etag}).content == body[10:20]
    for stale in ('"stale"', f"W/{etag}", "Tue, 24 Nov 2026 00:00:00 GMT"):
        assert http.get(url, headers={**part, "If-Range": stale}).content == body
    head = http.head(url, headers=part)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "10000", b"")
    old = http.get(f"/api/v1/tenants/acme/documents/{made['id']}/versions/1/content")
    assert old.content == body
    none = http.get(f"/api/v1/tenants/acme/documents/{made['id']}/versions/9/content")
    assert (none.status_code, none.json()["code"]) == (404, "version_not_found")


def test_what_is_served_is_never_run(http: httpx.Client) -> None:
    url = "/api/v1/tenants/acme/documents"
    made = http.post(url, params={"name": "a.html"}, content=b"<script>", headers={"Content-Type": "text/html"}).json()
    headers = http.get(f"{url}/{made['id']}/content").headers
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"] == "attachment; filename=\"a.html\"; filename*=UTF-8''a.html"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_a_stream_that_fails_is_broken_off_and_never_ended(door: Door, http: httpx.Client) -> None:
    """The bytes on disk are damaged near their end: what was sent is shorter than announced, and the line is cut."""
    made = put(http, os.urandom(3_000_000)).json()
    (path,) = [path for path in door.roots["disk-a"].rglob("[!.]*") if path.is_file()]
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    answer = exchange(door, f"GET /api/v1/tenants/acme/documents/{made['id']}/content HTTP/1.1\r\n", shut=False)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"content-length: 3000000" in head.lower()
    assert len(body) < 3_000_000


def test_a_reader_who_leaves_does_no_harm(door: Door, http: httpx.Client, tmp_path: Path) -> None:
    made = put(http, os.urandom(5_000_000)).json()
    url = f"/api/v1/tenants/acme/documents/{made['id']}/content"
    for _ in range(20):
        with http.stream("GET", url) as answer:
            next(answer.iter_raw(1000))
    assert hashlib.sha256(http.get(url).content).hexdigest() == made["sha256"]
