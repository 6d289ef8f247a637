"""What every request and answer passes: a request id, security headers, a bound on bodies that are not documents."""

from __future__ import annotations

import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simples3dms.api.problems import on_unforeseen, problem_response

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_LARGEST_JSON_BYTES = 1024 * 1024
_UPLOAD = re.compile(r"/api/v1/tenants/[^/]+/documents(/[^/]+/versions)?")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class DoorMiddleware:
    """Pure ASGI, so that streams pass through untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id, is_https=scope["scheme"] == "https")
        try:
            bounded = await _bounded(scope, receive)
            if bounded is None:
                detail = "This request takes at most 1 MiB."
                refusal = problem_response(Request(scope), 413, "too_large", "Too large", detail)
                await refusal(scope, receive, answer.send)
            else:
                await self._app(scope, bounded, answer.send)
        except Exception as error:
            # Here and not further out, where the answer would go without its headers. An answer that has begun is
            # broken off by the server, so that nobody takes a part of it for the whole.
            if answer.has_begun:
                raise
            response = await on_unforeseen(Request(scope), error)
            await response(scope, receive, answer.send)


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
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            if self._is_https:
                headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        await self._send(message)


async def _bounded(scope: Scope, receive: Receive) -> Receive | None:
    """The way in; None where a body that is no document is too large. A document's body is never held."""
    if scope["method"] in ("GET", "HEAD", "OPTIONS") or (
        scope["method"] == "POST" and _UPLOAD.fullmatch(scope["path"])
    ):
        return receive
    announced = Headers(scope=scope).get("content-length")
    if announced is None:
        return await _gathered(receive)
    # The server sees to it that no more comes than was announced.
    return receive if announced.isdecimal() and int(announced) <= _LARGEST_JSON_BYTES else None


async def _gathered(receive: Receive) -> Receive | None:
    """A body of no announced length, read up to the bound and given again."""
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
