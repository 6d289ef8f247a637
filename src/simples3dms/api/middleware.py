"""What every request and answer passes: who is asking, a request id, security headers, bounds on bodies and time."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simples3dms.api.problems import on_failure, on_unforeseen, problem_response
from simples3dms.api.proxies import TrustedProxies
from simples3dms.api.wire import SECURITY_HEADERS
from simples3dms.errors import Failure, Invalid

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_LARGEST_JSON_BYTES = 1024 * 1024
_UPLOAD = re.compile(r"/api/v1/tenants/[^/]+/documents(/[^/]+/versions)?")
_BODILESS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_HEALTH: Final = frozenset({"/livez", "/readyz"})


@dataclass(frozen=True, slots=True)
class DoorOptions:
    """What the operator says of the door.

    A body may keep us waiting for `idle_seconds` at a time, and in all for those and what `least_bytes_per_second`
    would have taken: only the client's time counts, not a store's.
    """

    proxies: TrustedProxies = field(default_factory=TrustedProxies)
    most_requests: int = 1000
    idle_seconds: float = 30.0
    least_bytes_per_second: float = 1024.0


class DoorMiddleware:
    """Pure ASGI, so that streams pass through untouched."""

    def __init__(self, app: ASGIApp, options: DoorOptions | None = None) -> None:
        self._app = app
        self._options = options or DoorOptions()
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._options.proxies.resolve(scope)
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id, is_https=scope["scheme"] == "https")
        self._count += 1
        try:
            await self._serve(scope, receive, answer)
        except Exception as error:
            # Here and not further out, where the answer would go without its headers. An answer that has begun is
            # broken off by the server, so that nobody takes a part of it for the whole.
            if answer.has_begun:
                raise
            refuse = on_failure if isinstance(error, Failure) else on_unforeseen
            response = await refuse(Request(scope), error)
            await response(scope, receive, answer.send)
        finally:
            self._count -= 1

    async def _serve(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        if self._count > self._options.most_requests and scope["path"] not in _HEALTH:
            busy = problem_response(
                Request(scope),
                503,
                "too_busy",
                "Not available now",
                "This server has as many requests as it takes at a time; try again shortly.",
                headers={"Retry-After": "1"},
            )
            await busy(scope, receive, answer.send)
            return
        if scope["method"] in _BODILESS:
            await self._app(scope, receive, answer.send)
            return
        paced = _Paced(receive, self._options)
        if scope["method"] == "POST" and _UPLOAD.fullmatch(scope["path"]):
            # A document's body is never held.
            await self._app(scope, paced.receive, answer.send)
            return
        bounded = await _gathered(scope, paced.receive)
        if bounded is None:
            detail = "This request takes at most 1 MiB."
            refusal = problem_response(Request(scope), 413, "too_large", "Too large", detail)
            await refusal(scope, receive, answer.send)
            return
        await self._app(scope, bounded, answer.send)


class _Answer:
    """The way out, with the headers that every answer has unless a route gave its own."""

    def __init__(self, send: Send, request_id: str, *, is_https: bool) -> None:
        self._send = send
        self._request_id = request_id
        self._is_https = is_https
        self.has_begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._request_id
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            if self._is_https:
                headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        await self._send(message)


class _Paced:
    """The way in, for clients that send: one that lets us wait for too long is not waited for any more."""

    def __init__(self, receive: Receive, options: DoorOptions) -> None:
        self._receive = receive
        self._options = options
        self._waited_seconds = 0.0
        self._received_bytes = 0
        self._is_whole = False

    async def receive(self) -> Message:
        """Raises Invalid (`request_too_slow`)."""
        if self._is_whole:
            return await self._receive()
        options = self._options
        allowed = options.idle_seconds + self._received_bytes / options.least_bytes_per_second
        begun = time.monotonic()
        try:
            async with asyncio.timeout(min(options.idle_seconds, allowed - self._waited_seconds)):
                message = await self._receive()
        except TimeoutError:
            raise Invalid("The body came too slowly; send it again.", code="request_too_slow") from None
        self._waited_seconds += time.monotonic() - begun
        self._received_bytes += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        return message


async def _gathered(scope: Scope, receive: Receive) -> Receive | None:
    """A body that is no document, read up to the bound and given again; None where it is larger."""
    announced = Headers(scope=scope).get("content-length")
    if announced is not None and not (announced.isdecimal() and int(announced) <= _LARGEST_JSON_BYTES):
        return None
    body = bytearray()
    message: Message = {"more_body": True}
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
        if len(body) > _LARGEST_JSON_BYTES:
            return None
    messages = [{**message, "body": bytes(body)}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again
