"""The wire: requests that two servers could read in two ways, heads and bodies that never come, and who is asking."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import uvicorn
from fastapi import FastAPI, Request

from simples3dms.api.app import create_app
from simples3dms.api.middleware import DoorOptions
from simples3dms.api.proxies import TrustedProxies
from simples3dms.api.wire import LARGEST_HEAD_BYTES, MOST_FIELDS, SECURITY_HEADERS, WireProtocol, server_config

HEAD = b"POST /told HTTP/1.1\r\nHost: here\r\n"


@dataclass
class Wire:
    """A served application, and what it was asked."""

    port: int = 0
    asked: list[tuple[str, bytes]] = field(default_factory=list)

    def say(self, *pieces: bytes, seconds: float = 20) -> Answer:
        """Send raw bytes and read until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as line:
            for piece in pieces:
                line.sendall(piece)
            return _read(line)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    rest: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["code"])


def _read(line: socket.socket) -> Answer:
    raw = b""
    while True:
        try:
            piece = line.recv(65_536)
        except ConnectionResetError:
            break
        if not piece:
            break
        raw += piece
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *fields = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in fields)}
    length = int(headers.get("content-length", 0))
    return Answer(int(first.split()[1]), headers, body[:length], body[length:])


def _told(wire: Wire) -> FastAPI:
    """The shipped application, with a route more that says what it understood."""
    app = create_app(None, DoorOptions(TrustedProxies.parse("127.0.0.9, 10.0.0.0/8"), idle_seconds=0.5))

    @app.get("/holds-back", include_in_schema=False)
    async def holds_back() -> list[int]:
        sockets = [one.transport.get_extra_info("socket") for one in app.state.server.server_state.connections]
        return [one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in sockets]

    @app.api_route("/told", methods=["GET", "POST"], include_in_schema=False)
    async def told(request: Request) -> dict[str, object]:
        body = await request.body()
        wire.asked.append((request.method, body))
        client = request.client.host if request.client else None
        return {"client": client, "scheme": request.url.scheme, "body": body.decode()}

    return app


@contextmanager
def _served(app: FastAPI) -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        server = app.state.server = uvicorn.Server(server_config(app))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def served() -> Iterator[Wire]:
    wire = Wire()
    with _served(_told(wire)) as wire.port:
        yield wire


@pytest.fixture
def wire(served: Wire) -> Wire:
    served.asked.clear()
    return served


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WireProtocol, "head_seconds", 0.4)


AMBIGUOUS = {
    "a length and chunks": HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "one length twice": HEAD + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
    "a signed length": HEAD + b"Content-Length: +4\r\n\r\nabcd",
    "a hexadecimal length": HEAD + b"Content-Length: 0x4\r\n\r\nabcd",
    "a space before the colon": HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "another coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": HEAD + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    "a compressed coding": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "two coding headers": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunks that do not end": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "bare line feeds": b"POST /told HTTP/1.1\nHost: here\nContent-Length: 1\n\na",
    "one bare line feed": b"GET /told HTTP/1.1\r\nHost: here\nX: y\r\n\r\n",
    "a bare carriage return": b"GET /told HTTP/1.1\r\nHost: here\rX: y\r\n\r\n",
    "a folded line": b"GET /told HTTP/1.1\r\nHost: here\r\nX: y\r\n z\r\n\r\n",
    "line feeds between chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\nabcd\n0\n\n",
    "a chunk longer than told": HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nabcdX0\r\n\r\n",
    "chunks in HTTP/1.0": b"POST /told HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/0.9": b"GET /told\r\n\r\n",
    "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": b"GET /told HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /told HTTP/1.1\r\nHost: here\r\nHost: there\r\n\r\n",
    "a NUL": b"GET /told HTTP/1.1\r\nHost: here\r\nX: a\0b\r\n\r\n",
    "a tunnel": b"CONNECT there:443 HTTP/1.1\r\nHost: there:443\r\n\r\n",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_s50_what_could_be_read_in_two_ways_is_refused(wire: Wire, name: str) -> None:
    smuggled = b"GET /told HTTP/1.1\r\nHost: here\r\n\r\n"
    answer = wire.say(AMBIGUOUS[name] + smuggled)
    assert (answer.status, answer.rest) == (400, b""), name
    assert answer.headers["connection"] == "close"
    assert answer.headers["content-type"] == "application/problem+json"
    assert all(answer.headers[header.lower()] == value for header, value in SECURITY_HEADERS.items())
    assert answer.code in ("request_malformed", "body_malformed")
    assert [asked for asked in wire.asked if asked[0] == "GET"] == [], "the second request was answered"


def test_s50_what_is_well_formed_is_served(wire: Wire) -> None:
    """The counter-proof: the table above is not refused for being raw bytes."""
    chunked = HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n4;a=b\r\nabcd\r\n0\r\n\r\n"
    for request in (
        HEAD + b"Connection: close\r\nContent-Length: 4\r\n\r\nabcd",
        chunked,
        b"POST /told HTTP/1.0\r\nContent-Length: 4\r\n\r\nabcd",
    ):
        assert json.loads(wire.say(request).body)["body"] == "abcd"


def test_no_answer_is_held_back_until_the_one_before_is_acknowledged(wire: Wire) -> None:
    """On a listener that does not say it is TCP's, for which asyncio leaves Nagle's algorithm on."""
    answer = wire.say(b"GET /holds-back HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
    assert json.loads(answer.body) == [1]


def test_a_head_that_is_too_large_is_refused(wire: Wire) -> None:
    one = wire.say(b"GET /told HTTP/1.1\r\nHost: here\r\nX: " + b"a" * (LARGEST_HEAD_BYTES + 1) + b"\r\n\r\n")
    many = wire.say(b"GET /told HTTP/1.1\r\nHost: here\r\n" + b"X: y\r\n" * MOST_FIELDS + b"\r\n")
    assert (one.status, one.code) == (many.status, many.code) == (431, "header_too_large")
    assert wire.asked == []


def test_a_large_body_behind_a_small_head_is_no_large_head(wire: Wire) -> None:
    body = b"a" * (4 * LARGEST_HEAD_BYTES)
    answer = wire.say(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert (answer.status, len(wire.asked[0][1])) == (200, len(body))


@pytest.mark.usefixtures("hasty")
def test_f05_a_head_that_does_not_come_is_not_waited_for(wire: Wire) -> None:
    answer = wire.say(b"GET /told HTTP/1.1\r\nHost: he")
    assert (answer.status, answer.code) == (408, "request_too_slow")
    with socket.create_connection(("127.0.0.1", wire.port), timeout=20) as line:
        assert line.recv(1) == b"", "a connection that says nothing is closed"


@pytest.mark.usefixtures("hasty")
def test_f05_a_second_head_on_a_kept_connection_is_not_waited_for_either(wire: Wire) -> None:
    with socket.create_connection(("127.0.0.1", wire.port), timeout=20) as line:
        line.sendall(b"GET /told HTTP/1.1\r\nHost: here\r\n\r\nGET /told HTTP/1.1\r\nHo")
        answer = _read(line)
    assert answer.status == 200
    assert b"408" in answer.rest.partition(b"\r\n")[0]


def test_f05_a_body_that_does_not_come_is_not_waited_for(wire: Wire) -> None:
    answer = wire.say(HEAD + b"Content-Length: 10\r\n\r\nabc")
    assert (answer.status, answer.code) == (408, "request_too_slow")
    assert wire.asked == []


@pytest.mark.parametrize(
    ("text", "peer", "forwarded", "client"),
    [
        ("", "127.0.0.9", ["192.0.2.1"], "127.0.0.9"),
        ("127.0.0.9", "127.0.0.9", ["192.0.2.1"], "192.0.2.1"),
        ("127.0.0.9", "127.0.0.8", ["192.0.2.1"], "127.0.0.8"),
        ("127.0.0.9", "127.0.0.9", [], "127.0.0.9"),
        ("127.0.0.9", "127.0.0.9", ["198.51.100.7, 192.0.2.1"], "192.0.2.1"),
        ("127.0.0.9", "127.0.0.9", ["198.51.100.7", "192.0.2.1"], "192.0.2.1"),
        ("127.0.0.9,10.0.0.0/8", "127.0.0.9", ["198.51.100.7, 192.0.2.1, 10.1.2.3"], "192.0.2.1"),
        ("127.0.0.9", "127.0.0.9", ["192.0.2.1, nonsense"], "127.0.0.9"),
        ("127.0.0.9", "127.0.0.9", ["[2001:db8::1]:443"], "2001:db8::1"),
        ("127.0.0.9", "127.0.0.9", ["192.0.2.1:5000"], "192.0.2.1"),
        ("127.0.0.9", "::ffff:127.0.0.9", ["192.0.2.1"], "192.0.2.1"),
    ],
)
def test_s49_only_trusted_proxies_say_who_is_asking(text: str, peer: str, forwarded: list[str], client: str) -> None:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    scope = {"type": "http", "client": (peer, 1), "scheme": "http", "headers": headers}
    TrustedProxies.parse(text).resolve(scope)
    assert scope["client"][0] == client  # type: ignore[index]


def test_s49_a_scheme_counts_from_a_trusted_proxy_only(wire: Wire) -> None:
    """From this very machine too: uvicorn by itself would believe it."""
    lie = b"GET /told HTTP/1.1\r\nHost: here\r\nConnection: close\r\nX-Forwarded-Proto: https\r\n"
    lie += b"X-Forwarded-For: 192.0.2.9\r\n\r\n"
    answer = wire.say(lie)
    assert json.loads(answer.body) == {"client": "127.0.0.1", "scheme": "http", "body": ""}
    assert "strict-transport-security" not in answer.headers
    with socket.socket() as line:
        line.bind(("127.0.0.9", 0))
        line.connect(("127.0.0.1", wire.port))
        line.sendall(lie)
        told = _read(line)
    assert json.loads(told.body) == {"client": "192.0.2.9", "scheme": "https", "body": ""}
    assert told.headers["strict-transport-security"] == "max-age=31536000"


NAMES_OF_OTHERS: dict[str, Callable[[str], str]] = {
    "Host": lambda name: f"Host: {name}",
    "X-Forwarded-Host": lambda name: f"Host: here\r\nX-Forwarded-Host: {name}",
    "X-Forwarded-Prefix": lambda name: f"Host: here\r\nX-Forwarded-Prefix: /{name}",
    "Forwarded": lambda name: f"Host: here\r\nForwarded: for=192.0.2.1;host={name};proto=https",
    "X-Original-URL": lambda name: f"Host: here\r\nX-Original-URL: /{name}",
    "X-Rewrite-URL": lambda name: f"Host: here\r\nX-Rewrite-URL: /{name}",
    "Remote-User": lambda name: f"Host: here\r\nRemote-User: {name}\r\nX-Remote-User: {name}\r\nX-Auth-User: {name}",
}


@pytest.mark.parametrize("header", NAMES_OF_OTHERS)
@pytest.mark.parametrize("path", ["/livez", "/api/v1/tenants", "/api/v1/openapi.json", "/nowhere"])
def test_s49_no_header_leads_elsewhere_or_signs_anybody_in(wire: Wire, header: str, path: str) -> None:
    request = "GET {} HTTP/1.1\r\n{}\r\nConnection: close\r\n\r\n"
    plain = wire.say(request.format(path, "Host: here").encode())
    lured = wire.say(request.format(path, NAMES_OF_OTHERS[header]("evil.example")).encode())
    assert lured.status == plain.status
    assert b"evil" not in lured.body
    assert "evil" not in str(lured.headers)


HIDDEN = (
    *("/docs", "/redoc", "/openapi.json", "/metrics", "/debug", "/config", "/admin", "/env", "/.env", "/.git/config"),
    *("/api/v1/settings", "/api/v1/debug", "/minio/bootstrap/v1/verify", "/actuator/env", "/server-status"),
)


@pytest.mark.parametrize("path", HIDDEN)
def test_s52_nothing_of_the_inside_is_served(wire: Wire, path: str) -> None:
    answer = wire.say(f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
    assert (answer.status, answer.code) == (404, "not_found")


def test_s52_the_description_is_for_this_machine_and_for_whoever_signed_in(wire: Wire) -> None:
    ask = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: here\r\nConnection: close\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n"
    assert wire.say(ask).status == 200
    with socket.socket() as line:
        line.bind(("127.0.0.9", 0))
        line.connect(("127.0.0.1", wire.port))
        line.sendall(ask)
        answer = _read(line)
    assert (answer.status, answer.code) == (401, "token_missing")


ORIGINS = ("null", "https://evil.example", "http://here.evil.example", "http://evilhere", "http://here", "*")


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_s16_no_other_origin_is_ever_let_in(wire: Wire, origin: str, method: str) -> None:
    answer = wire.say(
        f"{method} /told HTTP/1.1\r\nHost: here\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: PUT\r\n"
        "Access-Control-Request-Headers: authorization\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
    )
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert origin not in str(answer.headers) or origin == "*"


@pytest.mark.parametrize(
    "request_line",
    ["GET /livez", "GET /nowhere", "PUT /livez", "GET /api/v1/tenants", "POST /api/v1/login", "OPTIONS /", "GET /%00"],
)
def test_s17_every_answer_carries_the_headers(wire: Wire, request_line: str) -> None:
    answer = wire.say(
        f"{request_line} HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
    )
    held = {name: answer.headers.get(name.lower()) for name in SECURITY_HEADERS}
    assert held == SECURITY_HEADERS
    assert "server" not in answer.headers
    assert "frame-ancestors 'none'" in held["Content-Security-Policy"]
