"""Who is really asking: what a reverse proxy says of its client is believed of the proxies that the operator names."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

from starlette.types import Scope

_SCHEMES: Final = frozenset({"http", "https"})
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class TrustedProxies:
    """The operator's proxies. Without any, no header changes who is asking or how."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._networks = tuple(networks)

    @classmethod
    def parse(cls, text: str) -> TrustedProxies:
        """From addresses and networks, by commas. Raises ValueError with the word that is neither."""
        found = []
        for word in (part.strip() for part in text.split(",")):
            if word:
                try:
                    found.append(ipaddress.ip_network(word))
                except ValueError:
                    raise ValueError(f"{word!r} is no address and no network") from None
        return cls(found)

    def resolve(self, scope: Scope) -> None:
        """Put the client and the scheme that the nearest trusted proxies vouch for into the scope.

        `X-Forwarded-For` is read from its end: the last address that is no trusted proxy's own is the client. What
        stands before it, anybody may have written. `X-Forwarded-Proto` counts as the nearest proxy gives it.
        """
        peer = scope.get("client")
        if not self._networks or peer is None or not self._trusts(_address(peer[0])):
            return
        client: Address | None = None
        for word in reversed(_values(scope, b"x-forwarded-for")):
            client = _address(word)
            if not self._trusts(client):
                break
        if client is not None:
            scope["client"] = (str(client), 0)
        scheme = _values(scope, b"x-forwarded-proto")[-1:]
        if scheme and scheme[0].lower() in _SCHEMES:
            scope["scheme"] = scheme[0].lower()

    def _trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def _values(scope: Scope, name: bytes) -> list[str]:
    """The members of a list header, over all of its lines."""
    lines = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
    return [word.strip() for line in lines for word in line.split(",") if word.strip()]


def _address(text: str) -> Address | None:
    """An address as proxies write it, `[v6]` and `v4:port` among them. An IPv4 one in IPv6's clothes is IPv4."""
    bare = text.strip()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        address = ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
