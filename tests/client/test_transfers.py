"""Uploads and downloads of the client against a server that fails in every way: one effect, and only right bytes."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from simples3dms.client import ApiProblem, Client, ServerUnreachable

BODY = os.urandom(2_000_000)
DIGEST = hashlib.sha256(BODY).hexdigest()
#: What the server does with one request; True when it has answered by itself.
Fault = Callable[["Handler"], bool]


@dataclass
class Script:
    """A server that plays one fault a request, and then behaves."""

    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    body: bytes = BODY
    requests: list[dict[str, str]] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    """One document, up and down."""

    protocol_version = "HTTP/1.1"
    script: Script

    def log_message(self, *args: object) -> None:
        return

    def _faulty(self) -> bool:
        self.script.requests.append({name.lower(): value for name, value in self.headers.items()} | {"path": self.path})
        return bool(self.script.faults) and self.script.faults.pop(0)(self)

    def do_GET(self) -> None:
        if self._faulty():
            return
        self.send_range()

    def send_range(self, *, cut: int | None = None, body: bytes | None = None) -> None:
        body = self.script.body if body is None else body
        etag = f'"{hashlib.sha256(body).hexdigest()}"'
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if self.headers.get("If-Range") not in (None, etag):
            start = 0
        self.send_response(206 if start else 200)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : None if cut is None else start + cut])
        if cut is not None:
            self.close_connection = True

    def do_POST(self) -> None:
        if self._faulty():
            return
        self.script.received.append(self.rfile.read(int(self.headers["Content-Length"])))
        now = "2026-01-01T00:00:00Z"
        document = {
            "id": str(UUID(int=1)),
            "name": "x",
            "content_type": "a/b",
            "size_bytes": 1,
            "sha256": DIGEST,
            "version": 1,
            "created_at": now,
            "updated_at": now,
            "deleted_at": None,
        }
        self.answer(201, document)

    def answer(self, status: int, document: object, **headers: str) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if status < 300 else "application/problem+json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)


def problem(status: int, code: str, **headers: str) -> Fault:
    def act(handler: Handler) -> bool:
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        body = {"type": "x", "title": "x", "status": status, "detail": f"It is {code}.", "code": code}
        handler.answer(status, body, **headers)
        return True

    return act


def hang_up(handler: Handler) -> bool:
    handler.rfile.read(1000)
    handler.close_connection = True
    handler.connection.close()
    return True


def cut_after(count: int) -> Fault:
    def act(handler: Handler) -> bool:
        handler.send_range(cut=count)
        return True

    return act


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Scripted", (Handler,), {"script": script}))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield script
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def client(script: Script, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr("simples3dms.client.transport.time.sleep", lambda _seconds: None)
    with Client(script.url, token="t", timeout_seconds=10, tries=4) as client:
        yield client


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.pdf"
    path.write_bytes(BODY)
    return path


def test_an_upload_says_what_it_sends(script: Script, client: Client, source: Path) -> None:
    seen: list[int] = []
    client.upload_document("acme", source, progress=seen.append)
    (request,) = script.requests
    assert request["path"] == "/api/v1/tenants/acme/documents?name=source.pdf"
    assert request["content-type"] == "application/pdf"
    assert request["content-length"] == str(len(BODY))
    assert request["content-digest"] == f"sha-256=:{base64.b64encode(hashlib.sha256(BODY).digest()).decode()}:"
    assert request["authorization"] == "Bearer t"
    assert script.received == [BODY]
    assert sum(seen) == len(BODY)


def test_an_upload_is_sent_again_under_the_same_key(script: Script, client: Client, source: Path) -> None:
    script.faults = [hang_up, problem(503, "unavailable", Retry_After="1"), problem(409, "upload_in_progress")]
    seen: list[int] = []
    client.upload_document("acme", source, progress=seen.append)
    assert len({request["idempotency-key"] for request in script.requests}) == 1
    assert len(script.requests) == 4
    assert script.received == [BODY]
    assert sum(seen) == len(BODY)


@pytest.mark.parametrize("code", ["storage_failed", "digest_mismatch", "placement_not_set"])
def test_what_would_fail_again_is_not_sent_again(script: Script, client: Client, source: Path, code: str) -> None:
    status = {"storage_failed": 502, "digest_mismatch": 422, "placement_not_set": 404}[code]
    script.faults = [problem(status, code)]
    with pytest.raises(ApiProblem) as caught:
        client.upload_document("acme", source)
    assert (caught.value.code, caught.value.status, str(caught.value)) == (code, status, f"It is {code}.")
    assert len(script.requests) == 1


def test_tries_have_an_end(script: Script, client: Client, source: Path) -> None:
    script.faults = [hang_up] * 10
    with pytest.raises(ServerUnreachable):
        client.upload_document("acme", source)
    assert len(script.requests) == 4


def test_an_open_file_is_read_from_where_it_stands(script: Script, client: Client) -> None:
    script.faults = [problem(503, "unavailable")]
    file = io.BytesIO(b"header:" + BODY)
    file.seek(7)
    client.upload_document("acme", file, name="a b&c.bin", document_id=uuid4())
    assert script.received == [BODY]
    assert not file.closed


@pytest.mark.parametrize("name", ["a b", "a/b", "a?b", "a#b", "é", "a%2Fb"])
def test_a_name_in_a_path_names_one_place(script: Script, client: Client, source: Path, name: str) -> None:
    client.upload_document(name, source)
    assert script.requests[0]["path"].count("/") == 5
    assert script.requests[0]["path"].endswith("/documents?name=source.pdf")


def test_a_download_goes_on_after_cuts(script: Script, client: Client, tmp_path: Path) -> None:
    script.faults = [cut_after(700_000), cut_after(0), problem(503, "unavailable"), cut_after(600_000)]
    seen: list[int] = []
    assert client.download_document("acme", uuid4(), tmp_path / "out", progress=seen.append) == DIGEST
    assert (tmp_path / "out").read_bytes() == BODY
    assert sum(seen) == len(BODY)
    assert [request.get("range", "")[:6] for request in script.requests] == ["", *["bytes="] * 4]
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_a_download_with_many_cuts_ends_as_long_as_each_try_brings_something(
    script: Script, client: Client, tmp_path: Path
) -> None:
    script.faults = [cut_after(262_144 + 1)] * 7
    assert client.download_document("acme", uuid4(), tmp_path / "out") == DIGEST


def test_a_document_replaced_on_the_way_is_fetched_anew(script: Script, client: Client, tmp_path: Path) -> None:
    newer = os.urandom(1_500_000)

    def replace(handler: Handler) -> bool:
        handler.send_range(cut=800_000)
        script.body = newer
        return True

    script.faults = [replace]
    seen: list[int] = []
    digest = client.download_document("acme", uuid4(), tmp_path / "out", progress=seen.append)
    assert digest == hashlib.sha256(newer).hexdigest()
    assert (tmp_path / "out").read_bytes() == newer
    assert sum(seen) == len(newer)


def test_hurt_bytes_never_become_a_file(script: Script, client: Client, tmp_path: Path) -> None:
    def lie(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("ETag", f'"{DIGEST}"')
        handler.send_header("Content-Length", "5")
        handler.end_headers()
        handler.wfile.write(b"wrong")
        return True

    script.faults = [lie]
    with pytest.raises(ServerUnreachable):
        client.download_document("acme", uuid4(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_problem_of_a_download_is_told(script: Script, client: Client, tmp_path: Path) -> None:
    script.faults = [problem(404, "document_not_found")]
    with pytest.raises(ApiProblem) as caught:
        client.download_document("acme", uuid4(), tmp_path / "out")
    assert caught.value.code == "document_not_found"
    assert list(tmp_path.iterdir()) == []
