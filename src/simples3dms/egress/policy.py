"""What the operator lets out: public addresses on a few ports, and what the allow-list names beside them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from simples3dms.egress.addresses import Address, Network, is_metadata, is_public, normal_host, unwrapped

Scheme = Literal["http", "https"]
_PORTS: Final[dict[str, int]] = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Destination:
    """One place that a store's traffic may go to. A `host` of `*.name` is every host below that name."""

    scheme: Scheme
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """From `http(s)://host[:port]`. ValueError if it is anything else, or its host is written deviously."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.hostname is None or parts.username is not None:
            raise ValueError("must be http(s)://host[:port]")
        wildcard = "*." if parts.hostname.startswith("*.") else ""
        host = normal_host(parts.hostname.removeprefix("*."))
        return cls("http" if parts.scheme == "http" else "https", wildcard + host, parts.port or _PORTS[parts.scheme])

    @property
    def is_wildcard(self) -> bool:
        return self.host.startswith("*.")

    def covers(self, scheme: str, host: str, port: int) -> bool:
        if (scheme, port) != (self.scheme, self.port):
            return False
        return host.endswith(self.host[1:]) if self.is_wildcard else host == self.host


@dataclass(frozen=True, slots=True)
class Allowed:
    """An entry of the operator's list: a network or a host (or `*.name`), on one port or on the general ones."""

    network: Network | None
    host: str | None
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """`10.1.0.0/16`, `10.1.2.3:9000`, `[fd00::/8]:9000`, `minio.internal:9000`, `*.storage.internal`."""
        entry = text.strip().lower()
        port: int | None = None
        if entry.startswith("["):
            entry, closed, tail = entry[1:].partition("]")
            entry = entry if closed else "["
            port = _port(tail.removeprefix(":"), text) if tail else None
        elif entry.count(":") == 1:
            entry, _, tail = entry.partition(":")
            port = _port(tail, text)
        try:
            return cls(ip_network(entry, strict=False), None, port)
        except ValueError:
            pass
        try:
            wildcard = "*." if entry.startswith("*.") else ""
            return cls(None, wildcard + normal_host(entry.removeprefix("*.")), port)
        except ValueError:
            raise ValueError(f"{text!r} is neither a network nor a host, with or without a port") from None

    def covers(self, host: str, port: int, address: Address, ports: frozenset[int]) -> bool:
        if port != self.port and (self.port is not None or port not in ports):
            return False
        if self.network is not None:
            return address.version == self.network.version and address in self.network
        assert self.host is not None
        return host.endswith(self.host[1:]) if self.host.startswith("*.") else host == self.host


def _port(text: str, entry: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise ValueError(f"{entry!r} has no usable port")
    return int(text)


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """Public addresses on `ports`, and what `allowed` names. Metadata services are refused whatever it names."""

    ports: frozenset[int] = frozenset({80, 443})
    allowed: tuple[Allowed, ...] = ()

    @classmethod
    def parse(cls, *, allow: str = "", ports: str = "80,443") -> Self:
        """From comma-separated lists. ValueError names the entry that is wrong."""
        entries = tuple(Allowed.parse(entry) for entry in allow.split(",") if entry.strip())
        return cls(frozenset(_port(port.strip(), ports) for port in ports.split(",") if port.strip()), entries)

    def admits(self, host: str, port: int, addresses: Iterable[Address]) -> bool:
        """Whether a connection may be made. One address that must not be reached refuses them all (S-35)."""
        found = [unwrapped(address) for address in addresses]
        return bool(found) and all(self._admits_one(host, port, address) for address in found)

    def _admits_one(self, host: str, port: int, address: Address) -> bool:
        if is_metadata(address):
            return False
        if any(entry.covers(host, port, address, self.ports) for entry in self.allowed):
            return True
        return port in self.ports and is_public(address)
