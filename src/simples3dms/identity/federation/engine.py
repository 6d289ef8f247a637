"""Talk to issuers: discovery, keys, codes for tokens. Bounded in time and size; a tenant's issuers by the guard."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx

from simples3dms.crypto.oidc import Flow, names_known_key
from simples3dms.egress import Destination, EgressGuard
from simples3dms.errors import Unavailable
from simples3dms.identity.federation.values import Endpoints, IdentityProvider
from simples3dms.kit.secret import Secret

_TIMEOUT_SECONDS: Final = 15.0
_LARGEST_BYTES: Final = 512 * 1024
#: How long a process believes what an issuer said of itself.
_KEPT_SECONDS: Final = 600.0
#: Keys are fetched anew for a token that names an unknown one, and no more often than this.
_ANEW_SECONDS: Final = 10.0
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class IssuerFailed(Unavailable):
    """The issuer did not answer, or not as OpenID Connect asks it to. What it said is not passed on."""

    code = "issuer_failed"


def is_usable_url(url: str) -> bool:
    """Whether secrets may go there: https, or a server on this very machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        return (
            (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK))
            and bool(host)
            and (parts.username is None and not parts.fragment)
        )
    except ValueError:
        return False


@dataclass(slots=True)
class _Kept:
    at: float
    value: dict[str, Any]


class Issuers:
    """For one process. With a guard, what a tenant has chosen is reached through it; the operator's own directly."""

    def __init__(self, guard: EgressGuard | None) -> None:
        self._guard = guard
        self._kept: dict[tuple[bool, str], _Kept] = {}

    async def check(self, issuer: str, *, is_tenants: bool) -> Endpoints:
        """What the issuer says of itself, asked anew. Raises IssuerFailed, Invalid (`endpoint_refused`)."""
        if is_tenants and self._guard is not None:
            await self._guard.check([Destination.of(_origin(issuer))])
        self._kept.pop((is_tenants, _discovery(issuer)), None)
        return await self.discover(issuer, is_tenants=is_tenants)

    async def discover(self, issuer: str, *, is_tenants: bool) -> Endpoints:
        document = await self._get(_discovery(issuer), is_tenants=is_tenants)
        methods = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        try:
            found = Endpoints(
                issuer=str(document["issuer"]),
                authorization=str(document["authorization_endpoint"]),
                token=str(document["token_endpoint"]),
                keys=str(document["jwks_uri"]),
                names_issuer_in_answer=document.get("authorization_response_iss_parameter_supported") is True,
                takes_basic=isinstance(methods, list) and "client_secret_basic" in methods,
            )
        except KeyError:
            raise _failed("its discovery document is incomplete") from None
        if found.issuer != issuer:
            raise _failed("it calls itself by another name")
        if not all(is_usable_url(url) for url in (found.authorization, found.token, found.keys)):
            raise _failed("its endpoints are not https")
        return found

    async def get_keys(self, endpoints: Endpoints, id_token: str, *, is_tenants: bool) -> dict[str, Any]:
        """The issuer's keys; asked anew if the token is of none of those that are kept."""
        keys = await self._get(endpoints.keys, is_tenants=is_tenants)
        kept = self._kept[is_tenants, endpoints.keys]
        if not names_known_key(keys, id_token) and time.monotonic() - kept.at > _ANEW_SECONDS:
            del self._kept[is_tenants, endpoints.keys]
            keys = await self._get(endpoints.keys, is_tenants=is_tenants)
        return keys

    async def redeem(
        self,
        provider: IdentityProvider,
        endpoints: Endpoints,
        flow: Flow,
        *,
        code: str,
        client_secret: Secret | None,
        redirect_uri: str,
    ) -> str:
        """The ID token for a code. Raises IssuerFailed."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "client_id": provider.client_id,
            "code_verifier": flow.verifier.reveal(),
        }
        auth = None
        if client_secret is not None and endpoints.takes_basic:
            # Both are form-encoded before they are joined: RFC 6749, section 2.3.1.
            auth = httpx.BasicAuth(quote(provider.client_id, safe=""), quote(client_secret.reveal(), safe=""))
            del form["client_id"]
        elif client_secret is not None:
            form["client_secret"] = client_secret.reveal()
        is_tenants = provider.of_tenant_id is not None
        answer = await self._ask("POST", endpoints.token, is_tenants=is_tenants, data=form, auth=auth)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise _failed("it gave no ID token")
        return token

    async def _get(self, url: str, *, is_tenants: bool) -> dict[str, Any]:
        kept = self._kept.get((is_tenants, url))
        if kept is None or time.monotonic() - kept.at > _KEPT_SECONDS:
            if len(self._kept) > 1000:
                self._kept.clear()
            kept = _Kept(time.monotonic(), await self._ask("GET", url, is_tenants=is_tenants))
            self._kept[is_tenants, url] = kept
        return kept.value

    async def _ask(self, method: str, url: str, *, is_tenants: bool, **given: Any) -> dict[str, Any]:
        """A JSON object. Redirects are not followed: they could lead a secret elsewhere."""
        proxy = None
        if is_tenants and self._guard is not None:
            proxy = await asyncio.to_thread(self._guard.proxy_url, [Destination.of(_origin(url))])
        try:
            async with (
                asyncio.timeout(_TIMEOUT_SECONDS),
                httpx.AsyncClient(proxy=proxy, trust_env=False, timeout=_TIMEOUT_SECONDS) as http,
                http.stream(method, url, headers={"Accept": "application/json"}, **given) as response,
            ):
                if response.status_code != 200:
                    raise _failed(f"it answers {response.status_code}")
                body = bytearray()
                async for block in response.aiter_bytes():
                    body += block
                    if len(body) > _LARGEST_BYTES:
                        raise _failed("its answer is too large")
            found = json.loads(body)
        except (httpx.HTTPError, TimeoutError, ValueError, RecursionError, httpx.InvalidURL):
            raise _failed("it can't be reached, or answers no JSON") from None
        if not isinstance(found, dict):
            raise _failed("it answers no JSON object")
        return found


def _failed(why: str) -> IssuerFailed:
    return IssuerFailed(f"The identity provider can't be used: {why}.")


def _discovery(issuer: str) -> str:
    return f"{issuer.rstrip('/')}/.well-known/openid-configuration"


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
