"""The guard before real clients: obstore, botocore and b2sdk, towards servers that try to lead them astray."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from simples3dms.egress import Destination, EgressGuard, EgressPolicy
from simples3dms.errors import Invalid
from simples3dms.providers.errors import AccessDenied, ProviderError
from simples3dms.providers.registry import BuildOptions, get_kind

pytestmark = pytest.mark.anyio
KEYS = {"access_key_id": "tenants-own", "secret_access_key": "made-up"}


class Server:
    """An HTTP server on the loopback interface that notes what it is asked, and answers as it is told."""

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                outer.asked.append(f"{self.command} {self.path} {self.headers.get('Authorization', '')}")
                if self.headers.get("Content-Length"):
                    self.rfile.read(int(self.headers["Content-Length"]))
                answer(self)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def says(status: int, body: bytes = b"secret of the host", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        sent = {"ETag": '"x"', "Last-Modified": "Tue, 24 Nov 2026 06:00:00 GMT", **headers}
        for name, value in sent.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    return answer


@pytest.fixture
def inside() -> Iterator[Server]:
    """What no tenant may reach: a stand-in for a metadata service."""
    server = Server(says(200))
    yield server
    server.close()


def guarding(*allowed: Server | str, **how: Any) -> EgressGuard:
    entries = [one if isinstance(one, str) else f"127.0.0.1:{one.port}" for one in allowed]
    return EgressGuard(EgressPolicy.parse(allow=",".join(entries)), refusal_seconds=0.3, **how)


def s3(endpoint: str, proxy_url: str | None) -> Any:
    options = BuildOptions(proxy_url=proxy_url, connect_seconds=5, read_seconds=5)
    return get_kind("s3").create({"endpoint": endpoint, "bucket": "docs"}, KEYS, options=options)


async def read(provider: Any, key: str) -> bytes:
    async with provider.open(key) as reader:
        return b"".join([chunk async for chunk in reader])


async def every_call(provider: Any) -> None:
    for call in (read(provider, "x"), provider.head("x"), provider.put("x", b"1"), provider.check()):
        with pytest.raises(ProviderError):
            await call


async def test_without_the_guard_a_redirect_leads_inside(inside: Server) -> None:
    """K6, and the proof that the tests below can fail."""
    evil = Server(says(302, b"", Location=f"{inside.url}/latest/meta-data/iam"))
    provider = s3(evil.url, None)
    assert await read(provider, "x") == b"secret of the host"
    await provider.close()
    evil.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_s36_a_redirect_to_elsewhere_is_refused(inside: Server, status: int) -> None:
    """Even where the operator's list lets the other address through: it is not this store's."""
    body = b"<Error><Code>PermanentRedirect</Code><Endpoint>127.0.0.1:%d</Endpoint></Error>" % inside.port
    evil = Server(says(status, body, Location=f"{inside.url}/latest/meta-data/iam", x_amz_bucket_region="eu-1"))
    guard = guarding(evil, inside)
    provider = s3(evil.url, guard.proxy_url([Destination.of(evil.url)]))
    await every_call(provider)
    assert evil.asked
    assert inside.asked == []
    await provider.close()
    guard.close()
    evil.close()


async def test_s36_a_realm_that_leads_elsewhere_is_refused(inside: Server) -> None:
    other = f'"http://127.0.0.1:{inside.port}"'.encode()
    answer = (
        b'{"accountId":"a","authorizationToken":"t","apiInfo":{"storageApi":{"apiUrl":%s,"downloadUrl":%s,"s3ApiUrl":%s,'
        b'"absoluteMinimumPartSize":5000000,"recommendedPartSize":100000000,"infoType":"storageApi","allowed":'
        b'{"capabilities":["listBuckets"],"buckets":null,"namePrefix":null}}}}' % (other, other, other)
    )
    evil = Server(says(200, answer, Content_Type="application/json"))
    guard = guarding(evil, inside)
    provider = get_kind("b2").create(
        {"realm": evil.url, "bucket": "documents"},
        {"application_key_id": "id", "application_key": "key"},
        options=BuildOptions(proxy_url=guard.proxy_url([Destination.of(evil.url)]), connect_seconds=5, read_seconds=5),
    )
    with pytest.raises(ProviderError):
        await provider.check()
    assert evil.asked
    assert inside.asked == []
    await provider.close()
    guard.close()
    evil.close()


async def test_s34_an_address_of_ours_is_never_connected_to(inside: Server) -> None:
    guard = guarding()
    for host in ("127.0.0.1", "localhost", "127.1", "2130706433", "[::ffff:127.0.0.1]", "[::1]", "0"):
        endpoint = f"http://{host}:{inside.port}"
        destination = Destination("http", urlsplit(endpoint).hostname or "", inside.port)
        provider = s3(endpoint, guard.proxy_url([destination]))
        with pytest.raises(ProviderError):
            await read(provider, "x")
        await provider.close()
    assert inside.asked == []
    guard.close()


async def test_s35_a_name_is_looked_up_once_and_what_was_checked_is_connected_to(inside: Server) -> None:
    """A name that answers with a good address first, and a bad one from then on."""
    good = Server(says(200, b"good"))
    answers = iter([["127.0.0.2"], ["127.0.0.1"], ["127.0.0.1"]])
    listener = socket.create_server(("127.0.0.2", good.port))
    threading.Thread(target=_relay, args=(listener, good.port), daemon=True).start()
    looked_up = 0

    async def resolve(host: str, port: int) -> list[str]:
        nonlocal looked_up
        looked_up += 1
        return next(answers)

    guard = guarding(f"127.0.0.2:{good.port}", resolve=resolve)
    provider = s3(f"http://rebinding.example:{good.port}", guard.proxy_url([_of("rebinding.example", good.port)]))
    assert await read(provider, "x") == b"good"
    assert looked_up == 1
    await provider.close()
    again = s3(f"http://rebinding.example:{good.port}", guard.proxy_url([_of("rebinding.example", good.port)]))
    asked_before = list(good.asked)
    with pytest.raises(ProviderError):
        await read(again, "x")
    assert good.asked == asked_before
    await again.close()
    guard.close()
    listener.close()
    good.close()


async def test_s35_one_bad_address_among_good_ones_refuses_the_name(inside: Server) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1", "169.254.169.254"]

    guard = guarding(inside, resolve=resolve)
    provider = s3(f"http://mixed.example:{inside.port}", guard.proxy_url([_of("mixed.example", inside.port)]))
    with pytest.raises(ProviderError):
        await read(provider, "x")
    assert inside.asked == []
    await provider.close()
    guard.close()


async def test_s34_every_refusal_looks_the_same_and_takes_as_long(inside: Server) -> None:
    """No oracle: not allowed, not there, not listening, not its own, and no ticket are one answer."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = unused.getsockname()[1]

        async def resolve(host: str, port: int) -> list[str]:
            if host == "nowhere.example":
                raise OSError
            return ["127.0.0.1"]

        guard = guarding(f"127.0.0.1:{closed}", resolve=resolve)
        known = [_of(host, port) for host, port in (("a.example", closed), ("nowhere.example", 80), ("10.0.0.1", 80))]
        proxy = urlsplit(guard.proxy_url(known))
        ticket = "Basic " + b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
        answers = set()
        asked = [
            (f"http://a.example:{closed}/", ticket),
            ("http://nowhere.example/", ticket),
            ("http://10.0.0.1/", ticket),
            ("http://other.example/", ticket),
            ("http://a.example/", "Basic eDp4"),
            ("ftp://a.example/", ticket),
        ]
        for url, shown in asked:
            began = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)
            connection.request("GET", url, headers={"Proxy-Authorization": shown, "Host": "x"})
            answer = connection.getresponse()
            answers.add((answer.status, answer.read(), tuple(answer.getheaders())))
            connection.close()
            assert time.monotonic() - began > 0.25
        assert len(answers) == 1
        assert next(iter(answers))[0] == 502
    guard.close()


async def test_s37_the_hosts_own_identity_is_never_used(inside: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """K7: whatever the environment offers to SDKs, a store signs with its own key and asks its own address."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "HOSTSKEY",
        "AWS_SECRET_ACCESS_KEY": "hosts secret",
        "AWS_SESSION_TOKEN": "hosts token",
        "AWS_ENDPOINT_URL": inside.url,
        "AWS_ENDPOINT_URL_S3": inside.url,
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{inside.url}/creds",
        "AWS_METADATA_ENDPOINT": inside.url,
        "AWS_PROXY_URL": inside.url,
        "HTTP_PROXY": inside.url,
        "NO_PROXY": "*",
    }.items():
        monkeypatch.setenv(name, value)
    store = Server(says(404, b"<Error><Code>NoSuchKey</Code></Error>"))
    guard = guarding(store, inside)
    provider = s3(store.url, guard.proxy_url([Destination.of(store.url)]))
    await every_call(provider)
    assert len(store.asked) >= 4
    assert all("Credential=tenants-own/" in asked and "HOSTSKEY" not in asked for asked in store.asked)
    assert inside.asked == []
    await provider.close()
    guard.close()
    store.close()


@pytest.mark.parametrize("field", ["access_key_id", "secret_access_key"])
@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_s37_a_blank_key_is_refused_by_the_form(field: str, blank: str) -> None:
    with pytest.raises(Invalid) as caught:
        get_kind("s3").create({"endpoint": "http://127.0.0.1:9", "bucket": "docs"}, {**KEYS, field: blank})
    assert caught.value.problem_code == "credential_invalid"


async def test_the_check_at_saving_says_no_before_anything_is_asked(inside: Server) -> None:
    guard = guarding()
    for url in (inside.url, "http://169.254.169.254", "https://10.0.0.1", f"http://localhost:{inside.port}"):
        with pytest.raises(Invalid) as caught:
            await guard.check([Destination.of(url)])
        assert caught.value.problem_code == "endpoint_refused"
    assert inside.asked == []
    guard.close()


async def test_chunked_bodies_and_many_requests_pass_as_they_are() -> None:
    came: list[bytes] = []
    body = b"0123456789" * 5000

    def answer(handler: BaseHTTPRequestHandler) -> None:
        got = b""
        while size := int(handler.rfile.readline().split(b";")[0], 16):
            got += handler.rfile.read(size)
            handler.rfile.readline()
        handler.rfile.readline()
        came.append(got)
        says(200, b"done")(handler)

    server = Server(answer)
    guard = guarding(server)
    proxy = urlsplit(guard.proxy_url([Destination.of(server.url)]))
    shown = "Basic " + b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    for _ in range(3):
        pieces = (body[offset : offset + 999] for offset in range(0, len(body), 999))
        connection.request(
            "PUT", f"{server.url}/x", body=pieces, headers={"Proxy-Authorization": shown}, encode_chunked=True
        )
        assert connection.getresponse().read() == b"done"
    assert came == [body] * 3
    connection.close()
    guard.close()
    server.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET http://a@b/ HTTP/1.1\r\n\r\n",
        b"CONNECT x HTTP/1.1\r\n\r\n",
        b"PUT http://b/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"PUT http://b/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PUT http://b/ HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET http://b/ HTTP/1.1\r\nX : y\r\n\r\n",
        b"GET http://b/ HTTP/0.9\r\n\r\n",
        b"\xff\xfe\r\n\r\n",
        b"GET http://b/ HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
    ],
)
async def test_a_request_that_is_not_plain_is_refused(raw: bytes) -> None:
    guard = guarding()
    port = urlsplit(guard.proxy_url([])).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw)
    async with asyncio.timeout(10):
        assert (await reader.read()).startswith(b"HTTP/1.1 502 ")
    writer.close()
    guard.close()


async def test_a_realm_of_backblaze_is_the_only_name_of_one() -> None:
    with pytest.raises(Invalid):
        get_kind("b2").validate_settings({"bucket": "documents", "realm": "dev"})
    with pytest.raises((Invalid, AccessDenied)):
        get_kind("b2").validate_settings({"bucket": "documents", "realm": "https://user@x"})


def _of(host: str, port: int) -> Destination:
    return Destination("http", host, port)


def _relay(listener: socket.socket, port: int) -> None:
    """Every connection to the listener goes on to the port."""
    while True:
        try:
            here, _ = listener.accept()
        except OSError:
            return
        there = socket.create_connection(("127.0.0.1", port))
        for one, other in ((here, there), (there, here)):
            threading.Thread(target=_copy, args=(one, other), daemon=True).start()


def _copy(one: socket.socket, other: socket.socket) -> None:
    try:
        while block := one.recv(65_536):
            other.sendall(block)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        pass
