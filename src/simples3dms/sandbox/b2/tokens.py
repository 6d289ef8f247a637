"""Authorisation tokens: signed claims, so that they outlive a restart and can all be made to expire at once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from simples3dms.sandbox.b2.errors import B2Error

Kind = Literal["account", "upload", "part", "download"]


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says: whose key, until when, and the bucket, file or prefix that it is for."""

    kind: Kind
    key_id: str
    generation: int
    expires_at: float
    scope: str = ""
    prefix: str = ""
    nonce: str = ""


class Tokens:
    """Makes and reads tokens. `generation` is raised to let all of them expire."""

    def __init__(self, secret: bytes, generation: int) -> None:
        self.generation = generation
        self._secret = secret
        self._decode = lru_cache(maxsize=4096)(self._decode_uncached)

    def mint(
        self, kind: Kind, key_id: str, *, seconds: float, scope: str = "", prefix: str = "", nonce: str = ""
    ) -> str:
        claims = [kind, key_id, self.generation, time.time() + seconds, scope, prefix, nonce]
        text = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()
        return f"4_{text}_{self._sign(text)}"

    def read(self, token: str, *kinds: Kind) -> Claims:
        """Raises bad_auth_token or expired_auth_token, the two that make a client authorise again."""
        claims = self._decode(token)
        if claims is None or claims.kind not in kinds:
            raise B2Error(401, "bad_auth_token", "Invalid authorization token")
        if claims.generation != self.generation or claims.expires_at <= time.time():
            raise B2Error(401, "expired_auth_token", "Authorization token has expired")
        return claims

    def _decode_uncached(self, token: str) -> Claims | None:
        # The text may hold underscores itself; the signature is hexadecimal.
        text, _, signature = token.removeprefix("4_").rpartition("_")
        if not hmac.compare_digest(signature.encode(), self._sign(text).encode()):
            return None
        return Claims(*json.loads(base64.urlsafe_b64decode(text)))

    def _sign(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()[:32]
