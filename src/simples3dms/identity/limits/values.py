"""Rates, the buckets that they fill, and the network that an address belongs to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv6Address, ip_address


class Door(StrEnum):
    """What attempts are made at."""

    SIGN_IN = "sign_in"
    CONFIRM = "confirm"
    FACTOR = "factor"
    FEDERATION = "federation"
    RESET = "reset"
    INVITATION = "invitation"


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` attempts at once, and one more each `seconds`."""

    burst: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Rates:
    """For one account, one network, and everybody together; and for codes of six digits, which are soon guessed."""

    account: Rate = field(default=Rate(10, 30))
    network: Rate = field(default=Rate(50, 3))
    everybody: Rate = field(default=Rate(1000, 0.05))
    factor: Rate = field(default=Rate(5, 120))


@dataclass(frozen=True, slots=True)
class Bucket:
    """One thing that attempts are counted for. The key is a digest: what people type is not kept."""

    kind: str
    key: bytes
    rate: Rate


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that was counted, where it was, and from which network it came."""

    door: Door
    network: str
    buckets: tuple[Bucket, ...]


def bucket(door: Door, kind: str, rate: Rate, *of: str) -> Bucket:
    """The bucket of these texts; each is preceded by its length, so that no two sets of texts are one."""
    parts = [part.encode(errors="surrogatepass") for part in of]
    text = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return Bucket(f"{door}.{kind}", hashlib.sha256(text).digest(), rate)


def network_of(address: str) -> str:
    """What is counted as one: an IPv4 address, or the /64 of an IPv6 one, which is one customer's at the least.

    What is no address (a Unix socket's peer) is one network with all others like it.
    """
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{IPv6Address(int(found) >> 64 << 64)}/64"
