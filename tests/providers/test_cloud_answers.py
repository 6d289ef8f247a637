"""What Google's and Azure's storage say, and what a gateway before them says, as our errors: a server with a script."""

from __future__ import annotations

import base64
import json
import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import obstore.exceptions
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from simples3dms.providers import errors as ours
from simples3dms.providers.base import CopySource, ObjectRef, StorageProvider
from simples3dms.providers.errors import (
    AccessDenied,
    BadCredential,
    BucketMissing,
    ObjectNotFound,
    PreconditionFailed,
    ProviderError,
    StoreTimedOut,
    StoreUnavailable,
    Throttled,
)
from simples3dms.providers.kinds.cloud import errors as cloud
from simples3dms.providers.registry import BuildOptions, get_kind
from simples3dms.sandbox.ports import LOOPBACK

pytestmark = pytest.mark.anyio
NOTHING = {
    "azure": b'<?xml version="1.0"?><EnumerationResults><Blobs></Blobs><NextMarker/></EnumerationResults>',
    "gcs": b'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>',
}
#: What each service says of a missing object and of a missing bucket.
OBJECT_GONE = {"azure": "BlobNotFound", "gcs": "NoSuchKey"}
BUCKET_GONE = {"azure": "ContainerNotFound", "gcs": "NoSuchBucket"}
HTML = b"<h1>404 Not Found</h1>"
#: Keys that read like an answer.
KEYS = [
    "x",
    "429",
    "a/status code: 404/SlowDown",
    "<Code>ContainerNotFound</Code>",
    "<Code>NoSuchKey</Code>",
    "a - Server returned non-2xx status code: 404 Not Found: <Code>NoSuchKey</Code>",
    "(code: 404)",
]


def saying(code: str) -> bytes:
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>no</Message></Error>'.encode()


class Script:
    """How the server answers: to listings, to Azure's deletes of many, and to everything else."""

    listing: tuple[int, bytes]
    blob: tuple[int, bytes] = (404, b"")
    of_bulk: int | None = None
    """The status of the one blob in an answer to a bulk delete; None: answered like everything else."""
    stalls = False
    breaks_off = False
    port = 0

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.listing = (200, NOTHING[kind])


@pytest.fixture(params=["azure", "gcs"])
def script(request: pytest.FixtureRequest) -> Iterator[Script]:
    script = Script(request.param)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if script.stalls:
                time.sleep(1)
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if "comp=batch" in self.path and script.of_bulk is not None:
                self._answer(202, bulk_answer(script.of_bulk), "multipart/mixed; boundary=batch_1")
                return
            self._answer(*(script.listing if "list" in self.path else script.blob), "application/xml")

        def _answer(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", "Tue, 24 Nov 2026 14:00:00 GMT")
            self.send_header("ETag", '"1"')
            self.end_headers()
            if self.command == "HEAD":
                return
            self.wfile.write(body[: len(body) // 2] if script.breaks_off else body)
            if script.breaks_off:
                time.sleep(1)
                self.close_connection = True

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _any

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    server.daemon_threads = True
    script.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield script
    server.shutdown()
    server.server_close()
    thread.join()


def bulk_answer(status: int) -> bytes:
    lines = ["--batch_1", "Content-Type: application/http", "Content-ID: 0", "", f"HTTP/1.1 {status} (code: 404)"]
    return "\r\n".join([*lines, "x-ms-version: 2021-12-02", "", "--batch_1--", ""]).encode()


@cache
def private_key() -> str:
    made = rsa.generate_private_key(65537, 2048)
    plain = serialization.NoEncryption()
    return made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


def make(script: Script) -> StorageProvider:
    url, options = f"http://{LOOPBACK}:{script.port}", BuildOptions(connect_seconds=0.5, read_seconds=0.5)
    if script.kind == "azure":
        credential = {"account_name": "acme", "account_key": base64.b64encode(secrets.token_bytes(32)).decode()}
        settings = {"container": "documents", "prefix": "docs", "endpoint": f"{url}/acme"}
        return get_kind("azure").create(settings, credential, options=options)
    key = {"client_email": "a@b", "private_key": private_key(), "private_key_id": "1"}
    settings = {"bucket": "documents", "prefix": "docs", "endpoint": url}
    return get_kind("gcs").create(settings, {"service_account_key": json.dumps(key)}, options=options)


@pytest.fixture
async def store(script: Script) -> AsyncIterator[StorageProvider]:
    store = make(script)
    yield store
    await store.close()


async def read(store: StorageProvider, key: str) -> None:
    async with store.open(key) as reader:
        async for _ in reader:
            pass


async def failing(store: StorageProvider, key: str = "x") -> type[ProviderError]:
    with pytest.raises(ProviderError) as caught:
        await read(store, key)
    return caught.type


async def test_a_bucket_that_is_there_says_which_object_is_missing(store: StorageProvider, script: Script) -> None:
    for body in (b"", HTML, saying(OBJECT_GONE[script.kind])):
        script.blob = (404, body)
        assert await failing(store) is ObjectNotFound
        with pytest.raises(ObjectNotFound):
            await store.head("x")
        script.of_bulk = 404
        await store.discard("x")
        [outcome] = await store.delete([ObjectRef("x")])
        assert outcome.error is None


@pytest.mark.parametrize("said", ["", "html", "code"])
async def test_mode_20_a_gateway_or_a_missing_bucket_has_lost_no_object(
    store: StorageProvider, script: Script, said: str
) -> None:
    body = {"": b"", "html": HTML, "code": saying(BUCKET_GONE[script.kind])}[said]
    script.listing = script.blob = (404, body)
    assert await failing(store) is BucketMissing
    source = CopySource(store.location, "y", 1)
    for act in (store.head("x"), store.put("x", b""), store.copy(source, "x"), store.check(), store.list_page()):
        with pytest.raises(BucketMissing):
            await act
    for of_bulk in (None, 404):
        script.of_bulk = of_bulk
        with pytest.raises(BucketMissing):
            await store.discard("x")
        [outcome] = await store.delete([ObjectRef("x")])
        assert isinstance(outcome.error, BucketMissing)


async def test_a_bucket_that_can_not_be_asked_tells_why_and_no_object_is_called_gone(
    store: StorageProvider, script: Script
) -> None:
    """The answer that names nothing is of a service that is not there, or of a credential that is wrong."""
    of_listing: dict[tuple[int, bytes], type[ProviderError]] = {
        (502, b"<h1>Bad gateway</h1>"): StoreUnavailable,
        (403, saying("AuthenticationFailed")): BadCredential,
        (401, b""): BadCredential,
        (403, b""): AccessDenied,
    }
    for script.listing, kind in of_listing.items():
        for script.blob in ((404, b""), (403, b"")):
            script.of_bulk = script.blob[0]
            for act in (store.head("x"), store.discard("x"), store.check(), store.list_page()):
                with pytest.raises(ProviderError) as caught:
                    await act
                assert caught.type is kind


@pytest.mark.parametrize("key", KEYS)
async def test_the_key_that_an_error_quotes_says_nothing(store: StorageProvider, script: Script, key: str) -> None:
    answers: dict[tuple[int, bytes], type[ProviderError]] = {
        (500, saying("InternalError")): StoreUnavailable,
        (429, b""): Throttled,
        (503, saying("ServerBusy")): Throttled,
        (500, saying("OperationTimedOut")): StoreTimedOut,
        (403, b""): AccessDenied,
        (401, b""): BadCredential,
        (409, b""): PreconditionFailed,
        (412, b""): PreconditionFailed,
        (404, saying(BUCKET_GONE[script.kind])): BucketMissing,
    }
    for script.blob, kind in answers.items():
        assert await failing(store, key) is kind
        with pytest.raises(kind):
            await store.discard(key)
        for source in (key, "y"):
            with pytest.raises(kind):
                await store.copy(CopySource(store.location, source, 1), key if source == "y" else "y")
    for script.of_bulk, kind in {403: AccessDenied, 409: PreconditionFailed, 503: StoreUnavailable}.items():
        if script.kind == "azure":
            with pytest.raises(kind):
                await store.discard(key)


@pytest.mark.parametrize("key", ["x", "TimedOut"])
async def test_a_line_that_fails_is_told_from_one_that_is_silent(
    store: StorageProvider, script: Script, key: str
) -> None:
    script.stalls = True
    assert await failing(store, key) is StoreTimedOut
    with pytest.raises(StoreTimedOut):
        await store.check()
    script.port = 9
    nobody = make(script)
    assert await failing(nobody, key) is StoreUnavailable
    await nobody.close()


async def test_a_body_that_stops_coming_is_an_error_and_no_end(store: StorageProvider, script: Script) -> None:
    script.blob, script.breaks_off = (200, secrets.token_bytes(100_000)), True
    with pytest.raises(ProviderError) as caught:
        await read(store, "x")
    assert caught.value.retryable


async def test_what_is_wrong_with_the_request_is_not_sent_again(store: StorageProvider, script: Script) -> None:
    for status in (400, 402, 405, 411, 413, 416, 501, 507):
        script.blob = script.listing = (status, saying("Whatever"))
        for act in (read(store, "x"), store.list_page(), store.discard("x")):
            with pytest.raises(ProviderError) as caught:
                await act
            assert (status, caught.value.retryable, caught.value.vendor_code) == (status, False, str(status))


def test_every_class_of_obstore_and_every_status_has_its_error() -> None:
    theirs = [one for one in vars(obstore.exceptions).values() if isinstance(one, type)]
    classes = [one for one in theirs if issubclass(one, Exception) and one.__module__.startswith("obstore")]
    assert len(classes) > 10
    assert [one.__name__ for one in classes if one.__name__ not in cloud.BY_CLASS] == []
    assert set(cloud.BY_STATUS) == set(range(300, 600))
    assert {one.kind for one in cloud.BY_STATUS.values() if one.retryable} == {
        ours.Throttled.kind,
        ours.StoreUnavailable.kind,
        ours.StoreTimedOut.kind,
    }
