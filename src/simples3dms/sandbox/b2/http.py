"""The thin layer between ASGI and the calls: a request that is read as a stream, an answer that may be one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import parse_qsl, quote, unquote_plus

from simples3dms.sandbox.b2.errors import B2Error, ClientGone, bad_request

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_MOST_JSON_BYTES = 4 * 1024 * 1024


def decode_name(text: str) -> str:
    """B2's percent-encoding of names and file info: UTF-8, a plus is a space."""
    try:
        return unquote_plus(text, errors="strict")
    except UnicodeDecodeError as error:
        raise bad_request("The name is not UTF-8.") from error


def encode_name(text: str) -> str:
    return quote(text, safe="/-_.~!$'()*;=:@")


class Request:
    """One HTTP request; its body is read once, as a stream or as JSON."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["raw_path"].decode("latin-1")
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.params: dict[str, Any] = {}
        self._query: bytes = scope["query_string"]
        self._receive = receive
        self._is_read = False

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self._query.decode("latin-1"), keep_blank_values=True))

    @property
    def content_length(self) -> int:
        """The declared length. B2 takes no upload without one."""
        text = self.headers.get("content-length", "")
        if not text.isdecimal():
            raise bad_request("Content-Length is missing.")
        return int(text)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes in. Raises ClientGone if the client leaves before its end."""
        more = not self._is_read
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            more = message.get("more_body", False)
            self._is_read = not more
            if message["body"]:
                yield message["body"]

    async def read_params(self) -> None:
        """The call's parameters: a JSON object, or the query of a GET."""
        if self.method != "POST":
            self.params = dict(self.query)
            return
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > _MOST_JSON_BYTES:
                raise bad_request("The request is too large.")
        try:
            params = json.loads(body or b"{}")
        except ValueError as error:
            raise B2Error(400, "bad_json", "The request is not JSON.") from error
        if not isinstance(params, dict):
            raise B2Error(400, "bad_json", "The request is not a JSON object.")
        self.params = params

    async def wait_until_gone(self) -> NoReturn:
        """Wait for the client to give up."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone

    async def discard(self) -> bool:
        """Read what is left, so that an early answer is not lost. False: the client waits to be asked for it."""
        if not self._is_read and "expect" in self.headers:
            return False
        async for _ in self.chunks():
            pass
        return True

    def text(self, name: str) -> str:
        value = self.params.get(name)
        if not isinstance(value, str):
            raise bad_request(f"required field {name} is missing")
        return value

    def find_text(self, name: str) -> str | None:
        value = self.params.get(name)
        if value is not None and not isinstance(value, str):
            raise bad_request(f"{name} must be a string")
        return value or None

    def number(self, name: str, *, default: int, most: int, least: int = 1) -> int:
        value = self.params.get(name)
        if value is None:
            return default
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        if not isinstance(value, int) or not least <= value <= most:
            raise bad_request(f"{name} must be a number from {least} to {most}")
        return value

    def info(self, name: str = "fileInfo") -> dict[str, str]:
        value = self.params.get(name) or {}
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise bad_request(f"{name} must be an object of strings")
        return value


@dataclass(slots=True)
class Answer:
    """A status, headers, and a body: bytes, or blocks of `length` bytes in all."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    blocks: Iterable[bytes] | None = None
    length: int = 0

    def body_length(self) -> int:
        return len(self.body) if self.blocks is None else self.length

    def iter_body(self) -> Iterator[bytes]:
        if self.blocks is None:
            yield self.body
        else:
            yield from self.blocks


def json_answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    body = json.dumps(value, separators=(",", ":")).encode()
    return Answer(status, {"content-type": "application/json;charset=utf-8", **(headers or {})}, body)


def error_answer(error: B2Error) -> Answer:
    value = {"status": error.status, "code": error.code, "message": error.message}
    return json_answer(value, error.status, error.headers)


async def send_answer(send: Send, answer: Answer, *, is_head: bool = False, at_most: int | None = None) -> None:
    """Send it; with `at_most`, stop short of the promised length and leave the connection to be cut."""
    length = answer.body_length()
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    left = length if at_most is None else at_most
    if not is_head:
        for block in answer.iter_body():
            await send({"type": "http.response.body", "body": block[:left], "more_body": True})
            left -= len(block[:left])
            if left <= 0:
                break
    if at_most is None:
        await send({"type": "http.response.body", "body": b""})
