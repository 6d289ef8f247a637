"""What Azure's blob service says, and what a gateway before it says, as our errors: an HTTP server with a script."""

from __future__ import annotations

import base64
import secrets
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from simples3dms.providers.base import ObjectRef, StorageProvider
from simples3dms.providers.errors import (
    BucketMissing,
    ObjectNotFound,
    ProviderError,
    StoreTimedOut,
    StoreUnavailable,
    Throttled,
)
from simples3dms.providers.registry import get_kind
from simples3dms.sandbox.ports import LOOPBACK

pytestmark = pytest.mark.anyio
NOTHING = b'<?xml version="1.0"?><EnumerationResults><Blobs></Blobs><NextMarker/></EnumerationResults>'


def saying(code: str) -> bytes:
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>no</Message></Error>'.encode()


class Script:
    """How the server answers: to listings, and to everything else."""

    listing: tuple[int, bytes] = (200, NOTHING)
    blob: tuple[int, bytes] = (404, b"")
    port = 0


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = script.listing if "comp=list" in self.path else script.blob
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _any

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    server.daemon_threads = True
    script.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield script
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
async def store(script: Script) -> AsyncIterator[StorageProvider]:
    credential = {"account_name": "acme", "account_key": base64.b64encode(secrets.token_bytes(32)).decode()}
    endpoint = f"http://{LOOPBACK}:{script.port}/acme"
    store = get_kind("azure").create({"container": "documents", "endpoint": endpoint}, credential)
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


async def test_a_container_that_is_there_says_which_blob_is_missing(store: StorageProvider, script: Script) -> None:
    for body in (b"", saying("BlobNotFound")):
        script.blob = (404, body)
        assert await failing(store) is ObjectNotFound
        with pytest.raises(ObjectNotFound):
            await store.head("x")


@pytest.mark.parametrize("body", [b"", b"<h1>404 Not Found</h1>", saying("ContainerNotFound")])
async def test_mode_20_a_gateway_or_a_missing_container_has_lost_no_blob(
    store: StorageProvider, script: Script, body: bytes
) -> None:
    script.listing = script.blob = (404, body)
    assert await failing(store) is BucketMissing
    for act in (store.head("x"), store.discard("x"), store.check()):
        with pytest.raises(BucketMissing):
            await act
    [outcome] = await store.delete([ObjectRef("x")])
    assert isinstance(outcome.error, BucketMissing)


@pytest.mark.parametrize("key", ["x", "429", "a/status code: 404/SlowDown", "<Code>ContainerNotFound</Code>"])
async def test_the_key_that_an_error_quotes_says_nothing(store: StorageProvider, script: Script, key: str) -> None:
    script.blob = (500, saying("InternalError"))
    assert await failing(store, key) is StoreUnavailable
    script.blob = (429, b"")
    assert await failing(store, key) is Throttled
    script.blob = (503, saying("ServerBusy"))
    assert await failing(store, key) is Throttled
    script.blob = (500, saying("OperationTimedOut"))
    assert await failing(store, key) is StoreTimedOut
