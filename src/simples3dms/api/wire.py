"""The wire below the application: requests that two servers could read in two ways, and heads that never end."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, ClassVar, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from simples3dms.api.problems import PROBLEM_TYPE, encoded_problem

LARGEST_HEAD_BYTES: Final = 64 * 1024
MOST_FIELDS: Final = 100

#: What every answer carries unless a route gave its own.
SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def server_config(app: ASGIApp) -> uvicorn.Config:
    """How the application is served, here and in its tests. Forwarded headers are left to `proxies.py`."""
    return uvicorn.Config(
        app,
        http=WireProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=20,
        timeout_keep_alive=75,
        lifespan="off",
    )


class _Refused(Exception):
    """A head that is not answered by the application."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.answer = (status, code, detail)


def _malformed(detail: str) -> _Refused:
    return _Refused(400, "request_malformed", detail)


class WireProtocol(HttpToolsProtocol):
    """uvicorn's protocol, stricter: one `Host`, one way to tell a body's length, heads that are short and come in time.

    The parser refuses most of what request smuggling is made of (two lengths, bare line feeds); what it lets through is
    refused here (RFC 9112, sections 3.2 and 6.1).
    """

    #: Longest wait for a request's head, from its first byte (of a connection's first request: from the start).
    head_seconds: ClassVar[float] = 20.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refusal: tuple[int, str, str] | None = None
        self._is_in_head = True
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        # asyncio does so only where the listener says that it is TCP's, which a plain `socket.socket()` does not: with
        # Nagle's algorithm an answer's body waits 40 ms, until the client says that it got the head.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
            if self._is_in_head:
                # Not counted before: the same piece may hold the end of the head and the start of a body.
                self._head_bytes += len(data)
                self._bound_head(self._head_bytes)
        except _Refused as refused:
            self._refuse(refused)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True
        self._head_bytes = 0
        self._field_bytes = 0
        self._wait_for_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._field_bytes += len(name) + len(value)
        try:
            self._bound_head(self._field_bytes + len(self.url))
            if len(self.headers) > MOST_FIELDS:
                raise _Refused(431, "header_too_large", f"A request has at most {MOST_FIELDS} header fields.")
        except _Refused as refused:
            self._refusal = refused.answer
            raise

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._stop_waiting()
        try:
            self._check_head()
        except _Refused as refused:
            # The parser passes it on as an error of its own, and uvicorn asks for a 400.
            self._refusal = refused.answer
            raise
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's words are not ours
        """Whatever could not be read, answered as a problem, with the headers of every answer."""
        self._refuse(_Refused(*(self._refusal or (400, "request_malformed", "This is no well-formed HTTP request."))))

    def _unsupported_upgrade_warning(self) -> None:
        """There is nothing to upgrade to, and nobody to be told: the request is answered as it stands."""

    def _check_head(self) -> None:
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise _malformed("This server speaks HTTP/1.1.")
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) > 1 or (not hosts and version == "1.1"):
            raise _malformed("A request has one Host header.")
        codings = [value for name, value in self.headers if name == b"transfer-encoding"]
        if codings and (version == "1.0" or [coding.strip().lower() for coding in codings] != [b"chunked"]):
            raise _malformed("A body comes with a Content-Length, or as Transfer-Encoding: chunked and nothing else.")

    def _bound_head(self, size_bytes: int) -> None:
        if size_bytes > LARGEST_HEAD_BYTES:
            raise _Refused(431, "header_too_large", f"A request's head has at most {LARGEST_HEAD_BYTES} bytes.")

    def _wait_for_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.head_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self._head_bytes == 0:
            self.transport.close()
        else:
            self._refuse(_Refused(408, "request_too_slow", "The request's head did not come in time."))

    def _refuse(self, refused: _Refused) -> None:
        self._stop_waiting()
        if self.transport.is_closing():
            return
        body = encoded_problem(*refused.answer)
        lines = [f"{name}: {value}" for name, value in SECURITY_HEADERS.items()]
        lines += [f"Content-Type: {PROBLEM_TYPE}", f"Content-Length: {len(body)}", "Connection: close", "", ""]
        self.transport.write(STATUS_LINE[refused.answer[0]] + "\r\n".join(lines).encode() + body)
        self.transport.close()
