"""Which addresses are let out: every way to write one of ours, and the operator's list."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simples3dms.egress import Destination, EgressPolicy
from simples3dms.egress.addresses import is_public, normal_host

DEFAULT = EgressPolicy.parse()
INSIDE = [
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "100.64.0.1",
    "100.127.0.1",
    "169.254.169.254",
    "169.254.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "192.88.99.1",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "fe80::1",
    "fec0::1",
    "fc00::1",
    "fd00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "64:ff9b::7f00:1",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2001:0:1::1",
    "2001:db8::1",
    "ff02::1",
    "100::1",
    "3fff::1",
    "5f00::1",
]
OUTSIDE = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "172.15.255.255",
    "172.32.0.0",
    "2606:4700::1111",
    "2a00:1450:4001::1",
]
#: Ways to write 127.0.0.1 or worse that a resolver understands, and things that are no host at all.
DEVIOUS = [
    "0",
    "0x7f.1",
    "0x7f000001",
    "2130706433",
    "127.1",
    "127.0.1",
    "017700000001",
    "0177.0.0.1",
    "127.0.0.1.",
    "१२७.०.०.१",
    "127。0。0。1",
    "ⓛocalhost",
    "fe80::1%eth0",
    "a b",
    "a/b",
    "a@b",
    "",
    ".",
    "-",
    "a..b",
    "a" * 254,
    "evil.com\r\nX: 1",
    "evil\x00.com",
]


@pytest.mark.parametrize("address", INSIDE)
def test_s34_no_address_of_ours_is_public(address: str) -> None:
    assert not is_public(ip_address(address))
    assert not DEFAULT.admits("name.example", 443, [ip_address(address)])


@pytest.mark.parametrize("address", OUTSIDE)
def test_public_addresses_are_let_out_on_the_general_ports(address: str) -> None:
    found = [ip_address(address)]
    assert DEFAULT.admits("s3.example", 443, found)
    for port in (22, 25, 5432, 6379, 8080):
        assert not DEFAULT.admits("s3.example", port, found)


@pytest.mark.parametrize("host", DEVIOUS)
def test_s34_a_host_is_written_in_one_way(host: str) -> None:
    with pytest.raises(ValueError, match="not a host name"):
        normal_host(host)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://x",
        "unix:/run/x",
        "ftp://x",
        "http://a@127.0.0.1",
        "http://",
        "http://0x7f.1/",
        "x",
    ],
)
def test_s34_a_destination_is_a_plain_url(url: str) -> None:
    with pytest.raises(ValueError, match=r"must be http|not a host name"):
        Destination.of(url)


def test_s35_one_bad_address_of_several_refuses_the_name() -> None:
    assert not DEFAULT.admits("mixed.example", 443, [ip_address("1.1.1.1"), ip_address("127.0.0.1")])
    assert not DEFAULT.admits("nothing.example", 443, [])


def test_the_operators_list_opens_what_it_names_and_no_more() -> None:
    policy = EgressPolicy.parse(
        allow="10.1.0.0/16:9000, minio.internal:9000, *.s3.internal, [fd12::/16]:9000, 10.2.0.1"
    )
    inside, other = ip_address("10.1.2.3"), ip_address("10.3.0.1")
    assert policy.admits("x", 9000, [inside])
    assert not policy.admits("x", 443, [inside])
    assert policy.admits("minio.internal", 9000, [other])
    assert not policy.admits("other.internal", 9000, [other])
    assert policy.admits("a.s3.internal", 443, [other])
    assert not policy.admits("a.s3.internal", 9000, [other])
    assert not policy.admits("s3.internal", 443, [other])
    assert policy.admits("x", 9000, [ip_address("fd12::7")])
    assert policy.admits("x", 80, [ip_address("10.2.0.1")])
    assert policy.admits("x", 9000, [ip_address("::ffff:10.1.2.3")])


def test_s34_no_list_opens_a_metadata_service() -> None:
    policy = EgressPolicy.parse(allow="0.0.0.0/0,::/0,metadata.google.internal,169.254.169.254")
    for address in ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "::ffff:169.254.169.254"):
        assert not policy.admits("metadata.google.internal", 80, [ip_address(address)])


@pytest.mark.parametrize("text", ["10.0.0.0/99", "host:0", "host:x", "http://host", "a b", "[::1", "127.1", "*."])
def test_a_wrong_entry_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"neither a network nor a host|no usable port"):
        EgressPolicy.parse(allow=text)


@given(st.ip_addresses(v=4))
def test_wrapping_an_address_never_opens_it(address: object) -> None:
    plain = ip_address(str(address))
    mapped = ip_address(f"::ffff:{plain}")
    assert DEFAULT.admits("x", 443, [mapped]) == DEFAULT.admits("x", 443, [plain])
    assert not DEFAULT.admits("x", 443, [ip_address(f"::{plain}")])
    assert not DEFAULT.admits("x", 443, [ip_address(f"64:ff9b::{plain}")])


@given(st.text(max_size=40))
def test_any_text_is_a_host_or_refused(text: str) -> None:
    try:
        host = normal_host(text)
    except ValueError:
        return
    assert normal_host(host) == host
    assert host.isascii()
    assert not set(host) & set("/@#?\\ \r\n%")
