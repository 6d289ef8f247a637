"""An HTTP proxy in front of a server that changes answers, or gives its own: what providers do on their bad days.

Below HTTP, `faultproxy` cuts and flips bytes; this one lies in the language of HTTP.
"""

from __future__ import annotations

import http.client
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from simples3dms.sandbox.ports import LOOPBACK

_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client gets. A `body` of several pieces may be endless; then nothing announces its length."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes] = b""

    def without(self, *names: str) -> Answer:
        lower = {name.lower() for name in names}
        return replace(self, headers={name: value for name, value in self.headers.items() if name.lower() not in lower})

    def having(self, **headers: str) -> Answer:
        """With these headers (underscores for hyphens) instead of those of the same names."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, headers={**self.without(*named).headers, **named})


#: Gets the server's own answer, and says what the client is told; None: the connection is reset, the answer is lost.
Change = Callable[[Answer], Answer | None]


@dataclass(slots=True)
class Fault:
    """What happens to the requests whose "METHOD path?query" holds `matching`, the first `times` of them."""

    matching: str
    change: Change | None = None
    instead: Answer | None = None
    """Told without asking the server."""
    times: int = 1_000_000


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who hangs up in the middle, on either side, is no news here."""
        if not isinstance(sys.exception(), OSError | http.client.HTTPException):
            super().handle_error(request, client_address)


class HttpFaultProxy:
    """A context manager. `faults` may be changed at any time; the first that matches counts."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.most_at_once = 0
        """The most requests that were under way at a time; may be set back."""
        self._busy = 0
        self._counting = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _any(self) -> None:
                outer._count(1)
                try:
                    outer._serve(self)
                finally:
                    outer._count(-1)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any

            def log_message(self, *_: Any) -> None:
                """Nothing is printed: `requests` has it."""

        self._server = _Server((LOOPBACK, 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="http-faults", daemon=True)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, matching: str, **how: Any) -> Fault:
        """Put a fault on the list; its fields by name."""
        fault = Fault(matching, **how)
        self.faults.append(fault)
        return fault

    def count(self, matching: str) -> int:
        """How many requests were made whose "METHOD path?query" holds this."""
        return sum(matching in request for request in self.requests)

    def _count(self, change: int) -> None:
        with self._counting:
            self._busy += change
            self.most_at_once = max(self.most_at_once, self._busy)

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        request = f"{handler.command} {handler.path}"
        self.requests.append(request)
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        fault = next((one for one in self.faults if one.matching in request and one.times > 0), None)
        if fault is not None:
            fault.times -= 1
        if fault is not None and fault.instead is not None:
            answer: Answer | None = fault.instead
        else:
            answer = self._ask(handler, body)
            if fault is not None and fault.change is not None and answer is not None:
                answer = fault.change(answer)
        if answer is None:
            _reset(handler.connection)
            handler.close_connection = True
            return
        _tell(handler, answer)

    def _ask(self, handler: BaseHTTPRequestHandler, body: bytes) -> Answer:
        connection = http.client.HTTPConnection(LOOPBACK, self._target_port, timeout=_SECONDS)
        try:
            connection.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in handler.headers.items():
                if name.lower() != "expect":
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            found = connection.getresponse()
            return Answer(found.status, dict(found.getheaders()), found.read())
        finally:
            connection.close()


def _tell(handler: BaseHTTPRequestHandler, answer: Answer) -> None:
    """Send it, for as long as the client listens."""
    skipped = {"connection", "transfer-encoding"} | ({"content-length"} if handler.command != "HEAD" else set())
    announced = next((value for name, value in answer.headers.items() if name.lower() == "content-length"), None)
    try:
        handler.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in skipped:
                handler.send_header(name, value)
        if isinstance(answer.body, bytes):
            if handler.command != "HEAD":
                handler.send_header("Content-Length", str(len(answer.body)))
        else:
            if announced is not None:
                handler.send_header("Content-Length", announced)
            handler.send_header("Connection", "close")
            handler.close_connection = True
        handler.end_headers()
        if handler.command == "HEAD":
            return
        for piece in (answer.body,) if isinstance(answer.body, bytes) else answer.body:
            handler.wfile.write(piece)
    except OSError:
        handler.close_connection = True


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
