"""Requests: sent, repeated where that is safe, and their problems raised."""

from __future__ import annotations

import json
import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Self, TypeVar
from urllib.parse import quote
from uuid import UUID

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from simples3dms.client.errors import ServerUnreachable, to_problem
from simples3dms.kit.secret import Secret
from simples3dms.schemas.base import Page

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
_TRIES = 5
_SAFE_METHODS = frozenset({"GET", "PUT", "DELETE"})


def at(*parts: object) -> str:
    """The path of an operation. A name is somebody else's text, and names one place whatever is in it."""
    return "/api/v1/" + "/".join(quote(str(part), safe="") for part in parts)


def iter_pages(fetch: Callable[[UUID | None], Page[M]]) -> Iterator[M]:
    """All items of a listing, a page at a time."""
    after: UUID | None = None
    while True:
        page = fetch(after)
        yield from page.items
        after = page.next_after
        if after is None:
            return


def is_passing(response: httpx.Response) -> bool:
    """Whether the same request may well succeed in a moment. A 502 of the server's own says that a store refused."""
    if response.status_code == 502:
        return bool(response.headers.get("Content-Type") != "application/problem+json")
    return response.status_code in (503, 504)


@cache
def _authorities() -> ssl.SSLContext:
    """Loading them takes longer than most requests: once for a process. As everything here, not told by variables."""
    return httpx.create_ssl_context(trust_env=False)


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole


class Transport:
    """One connection pool to one server, with one token."""

    def __init__(
        self, base_url: str, *, token: Secret | str | None = None, timeout_seconds: float = 60, tries: int = _TRIES
    ) -> None:
        opened = token.reveal() if isinstance(token, Secret) else token
        headers = {"Authorization": f"Bearer {opened}"} if opened else {}
        self.base_url = base_url.rstrip("/")
        self.tries = tries
        # Nothing is read from the environment: a proxy or a netrc file there would see or send tokens.
        self.http = httpx.Client(
            base_url=self.base_url,
            headers=headers,
            timeout=timeout_seconds,
            verify=_authorities(),
            trust_env=False,
            follow_redirects=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: BaseModel | None = None,
        content: bytes | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Send a JSON request; the answer's body. Repeats what has the same effect twice as once.

        `content` is a body already in JSON: one with a secret, which a model's own JSON would show as stars.
        """
        if body is not None:
            content = body.model_dump_json().encode()
        headers = {"Content-Type": "application/json"} if content is not None else {}
        query = {name: value for name, value in (params or {}).items() if value is not None}
        tries = self.tries if method in _SAFE_METHODS else 1
        for attempt in range(1, tries + 1):
            try:
                response = self.http.request(method, path, content=content, headers=headers, params=query)
            except httpx.TransportError as error:
                if attempt == tries:
                    raise self.unreachable(error) from error
                self.pause(attempt)
                continue
            if is_passing(response) and attempt < tries:
                self.pause(attempt, response)
                continue
            if not response.is_success:
                raise to_problem(response)
            return response.content
        raise AssertionError("unreachable")

    def parse(self, kind: type[T], content: bytes) -> T:
        """The answer as a model. Raises ServerUnreachable where somebody else has answered."""
        try:
            return TypeAdapter(kind).validate_json(content)
        except ValidationError:
            raise ServerUnreachable(
                f"What answers at {self.base_url} is no SimpleS3DMS: is the address right?"
            ) from None

    def get(self, model: type[M], path: str, **params: Any) -> M:
        return self.parse(model, self.call("GET", path, params=params))

    def list_all(self, model: type[M], path: str, **params: Any) -> list[M]:
        return self.parse(list[model], self.call("GET", path, params=params))  # type: ignore[valid-type]

    def send(self, method: str, model: type[M], path: str, body: BaseModel | None = None) -> M:
        return self.parse(model, self.call(method, path, body=body))

    def post_secret(self, path: str, body: Mapping[str, object]) -> bytes:
        """A body with a secret in it, which a model's own JSON would show as stars."""
        return self.call("POST", path, content=json.dumps(body).encode())

    @contextmanager
    def open_lines(self, path: str, **params: Any) -> Iterator[Iterator[bytes]]:
        """A streamed answer's whole lines. A cut raises ServerUnreachable."""
        query = {name: value for name, value in params.items() if value is not None}
        try:
            with self.http.stream("GET", path, params=query) as response:
                if not response.is_success:
                    response.read()
                    raise to_problem(response)
                yield _lines(response.iter_bytes())
        except httpx.TransportError as error:
            raise self.unreachable(error) from error

    def pause(self, attempt: int, response: httpx.Response | None = None) -> None:
        """As long as the server asked for, else a random part of a growing pause."""
        asked = response.headers.get("Retry-After", "") if response is not None else ""
        if asked.isdecimal():
            time.sleep(min(float(asked), 30.0))
            return
        time.sleep(random.uniform(0.05, min(5.0, 0.2 * 2**attempt)))  # noqa: S311 jitter, not a secret

    def unreachable(self, error: httpx.TransportError) -> ServerUnreachable:
        reason = str(error) or type(error).__name__
        return ServerUnreachable(f"No answer from {self.base_url}: {reason}. Is it running (`simples3dms serve`)?")
