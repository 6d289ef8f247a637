"""What a client of the guard shows: where it may go, signed with a key that lives as long as the process."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable

from simples3dms.egress.policy import Destination


class Tickets:
    """A ticket is a user name (the destinations) and a password (their signature): nothing is kept for it."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def issue(self, destinations: Iterable[Destination]) -> tuple[str, str]:
        """User name and password, both safe in a URL."""
        places = [[one.scheme, one.host, one.port] for one in destinations]
        name = base64.urlsafe_b64encode(json.dumps(places).encode()).decode().rstrip("=")
        return name, self._sign(name)

    def read(self, authorization: str) -> list[Destination] | None:
        """The destinations of a `Proxy-Authorization` header; None if it is not one of ours."""
        scheme, _, encoded = authorization.partition(" ")
        try:
            name, _, password = base64.b64decode(encoded, validate=True).decode("ascii").partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        if scheme.lower() != "basic" or not hmac.compare_digest(self._sign(name), password):
            return None
        places = json.loads(base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)))
        return [Destination(scheme, host, port) for scheme, host, port in places]

    def _sign(self, name: str) -> str:
        return hmac.new(self._key, name.encode(), hashlib.sha256).hexdigest()
