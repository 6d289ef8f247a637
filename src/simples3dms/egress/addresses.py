"""Which addresses are the public internet, and which names are honest about what they are."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Services that tell whoever asks from this machine its secrets. No operator's list opens these.
METADATA: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "169.254.0.0/16",  # link-local: AWS, GCP, Azure, OpenStack, DigitalOcean
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure's wire server, on a public address
        "192.0.0.192/32",  # Oracle
        "fe80::/10",
        "fd00:ec2::/32",  # AWS
        "fd20:ce::/32",  # GCP
    )
)

#: Beyond what Python calls global in every version: addresses that carry another one inside, or reach several hosts.
_NOT_PUBLIC: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "224.0.0.0/3",
        "::/16",  # unspecified, loopback, IPv4-compatible, IPv4-mapped, and NAT64's neighbours
        "64:ff9b::/32",
        "100::/8",
        "2001::/23",  # Teredo, benchmarking, ORCHID
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fec0::/10",
        "ff00::/8",
    )
)
_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
#: What `inet_aton` would read as an address: `127.1`, `0x7f.1`, `2130706433`, `0`.
_NUMBER: Final = re.compile(r"(0x[0-9a-f]*|[0-9]+)")


def unwrapped(address: Address) -> Address:
    """The IPv4 address inside an IPv4-mapped one."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def contains(networks: tuple[Network, ...], address: Address) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def is_metadata(address: Address) -> bool:
    return contains(METADATA, unwrapped(address))


def is_public(address: Address) -> bool:
    """Whether it is a host of the public internet. An address that wraps another one is not."""
    if contains(METADATA, address) or contains(_NOT_PUBLIC, address):
        return False
    return address.is_global and not address.is_multicast


def normal_host(text: str) -> str:
    """A host name in lower case, or an address in its usual form. ValueError for every other way to write one.

    Numbers that a resolver would take for an address are refused, and so is anything that is not ASCII: names in
    other scripts have an ASCII form, and digits in other scripts have no honest use.
    """
    host = text.strip().lower().removeprefix("[").removesuffix("]")
    try:
        return str(ip_address(host)) if "%" not in host else _refuse()
    except ValueError:
        pass
    name = host.removesuffix(".")
    if not host.isascii() or not _NAME.fullmatch(name) or _NUMBER.fullmatch(name.rsplit(".", 1)[-1]):
        _refuse()
    return name


def _refuse() -> str:
    raise ValueError("not a host name or an address")
