"""What every request and answer passes: a request id, security headers, a bound on bodies that are not documents."""

from __future__ import annotations

import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_LARGEST_JSON_BYTES = 1024 * 1024
_UPLOAD = re.compile(r"/api/v1/tenants/[^/]+/documents(/[^/]+/versions)?/?")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class DoorMiddleware:
    """Pure ASGI, so that streams pass through untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_headers = Headers(scope=scope)
        given = request_headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if scope["method"] == "POST" and _UPLOAD.fullmatch(scope["path"]):
            await self._app(scope, receive, send_with_headers)
            return
        announced = request_headers.get("content-length", "0")
        if announced.isdigit() and int(announced) > _LARGEST_JSON_BYTES:
            await _refuse(send_with_headers)
            return
        await self._app(scope, _bounded(receive), send_with_headers)


def _bounded(receive: Receive) -> Receive:
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > _LARGEST_JSON_BYTES:
                # As if the client had gone: the route's own parsing ends, and nothing was done.
                return {"type": "http.disconnect"}
        return message

    return bounded


async def _refuse(send: Send) -> None:
    body = (
        b'{"type":"urn:simples3dms:problem:too_large","title":"Too large","status":413,'
        b'"detail":"This request takes at most 1 MiB.","code":"too_large"}'
    )
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
