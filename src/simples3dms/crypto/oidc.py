"""OpenID Connect: what binds a sign-in to one browser, and whether an ID token is meant for us, here and now."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from simples3dms.kit.secret import Secret

#: Signatures by keys that the issuer alone has; none by a shared secret, and none by nobody.
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_LEEWAY_SECONDS: Final = 60


@dataclass(frozen=True, slots=True, repr=False)
class Flow:
    """What one sign-in is bound by. All of it follows from one secret, which only the browser keeps."""

    browser: Secret
    state: str
    nonce: str
    verifier: Secret
    challenge: str


def new_flow() -> Flow:
    return flow_of(Secret(secrets.token_urlsafe(32)))


def flow_of(browser: Secret) -> Flow:
    """The same flow again, from the secret that the browser brought back."""
    verifier = Secret(_derive(browser, "code_verifier"))
    return Flow(
        browser,
        _derive(browser, "state"),
        _derive(browser, "nonce"),
        verifier,
        create_s256_code_challenge(verifier.reveal()),
    )


def _derive(secret: Secret, purpose: str) -> str:
    key = secret.reveal().encode(errors="surrogatepass")
    return base64.urlsafe_b64encode(hmac.new(key, purpose.encode(), hashlib.sha256).digest()).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class Subject:
    """Who an issuer says it is. `email` only where the issuer has verified it."""

    subject: str
    email: str | None


def names_known_key(keys: Mapping[str, Any], id_token: str) -> bool:
    """Whether the key that the token names is among these; if not, the issuer may have turned to a new one."""
    try:
        jwt.decode(id_token, KeySet.import_key_set(dict(keys)), algorithms=list(ALGORITHMS))  # type: ignore[arg-type]
    except (JoseError, ValueError, TypeError, KeyError):
        return False
    return True


def check_id_token(
    id_token: str, keys: Mapping[str, Any], *, issuer: str, client_id: str, nonce: str, now_seconds: float
) -> Subject | None:
    """Whom the token names; None unless this issuer signed it for us, for this flow, and it is in force."""
    try:
        found = jwt.decode(id_token, KeySet.import_key_set(dict(keys)), algorithms=list(ALGORITHMS))  # type: ignore[arg-type]
        options = {"iss": {"essential": True, "value": issuer}, "aud": {"essential": True, "value": client_id}}
        claims = CodeIDToken(found.claims, found.header, options, {"nonce": nonce, "client_id": client_id})
        claims.validate(now=int(now_seconds), leeway=_LEEWAY_SECONDS)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        return None
    subject, email = claims.get("sub"), claims.get("email")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255:
        return None
    is_verified = claims.get("email_verified") is True and isinstance(email, str)
    return Subject(subject, email.strip().lower() if is_verified else None)
