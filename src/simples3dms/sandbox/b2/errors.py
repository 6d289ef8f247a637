"""The answers by which B2 refuses a call: an HTTP status, a stable code and a sentence, as its documentation lists."""

from __future__ import annotations

from collections.abc import Mapping


class B2Error(Exception):
    """Raised by a call, answered as B2's JSON error body."""

    def __init__(self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


def bad_request(message: str, code: str = "bad_request") -> B2Error:
    return B2Error(400, code, message)


def unauthorized(message: str = "not authorized") -> B2Error:
    return B2Error(401, "unauthorized", message)


def access_denied(message: str) -> B2Error:
    return B2Error(403, "access_denied", message)


def not_found(what: str) -> B2Error:
    return B2Error(404, "not_found", f"{what} is not here.")


class ClientGone(Exception):
    """The client hung up before its request was complete."""
