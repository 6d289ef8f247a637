"""A role's keys that can't be had: an outage of the service that gives them out is no refused credential (F47)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from simples3dms.providers.base import StorageProvider
from simples3dms.providers.errors import AccessDenied, BadCredential, ProviderError, StoreUnavailable
from simples3dms.providers.registry import get_kind

pytestmark = pytest.mark.anyio
ROLE = "arn:aws:iam::123456789012:role/documents"


def refusal(code: str) -> bytes:
    error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message></Error>"
    return f"<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>".encode()


class Sts:
    """Answers everything alike."""

    def __init__(self) -> None:
        self.answer = (500, b"")
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, body = outer.answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def sts() -> Iterator[Sts]:
    sts = Sts()
    yield sts
    sts.close()


async def read(store: StorageProvider) -> None:
    async with store.open("x"):
        pass


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((500, b"<html>Internal Server Error</html>"), StoreUnavailable),
        ((503, refusal("ServiceUnavailable")), StoreUnavailable),
        ((200, b"<html>maintenance</html>"), StoreUnavailable),
        ((403, refusal("AccessDenied")), AccessDenied),
        ((403, refusal("InvalidClientTokenId")), BadCredential),
        ((403, refusal("ExpiredToken")), BadCredential),
    ],
    ids=["500", "503", "no sense", "may not", "unknown key", "expired"],
)
async def test_f47_keys_that_can_not_be_had_are_told_from_keys_that_are_refused(
    sts: Sts, answer: tuple[int, bytes], error: type[ProviderError]
) -> None:
    """One stops all work with the store until somebody brings a new key; the other passes by itself."""
    sts.answer = answer
    settings = {"endpoint": sts.url, "bucket": "docs", "role_arn": ROLE, "sts_endpoint": sts.url}
    store = get_kind("s3").create(settings, {"access_key_id": "own", "secret_access_key": "made-up"})
    for act in (store.put("x", b"1"), store.head("x"), read(store), store.check()):
        with pytest.raises(ProviderError) as caught:
            await act
        assert type(caught.value) is error
    await store.close()
