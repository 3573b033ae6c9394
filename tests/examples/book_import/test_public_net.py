"""Which addresses a cover may come from, however they are spelled."""

from __future__ import annotations

import ipaddress

import pytest

from holdfast.examples.book_import.public_net import ForbiddenAddress, PublicNetwork, is_public

PRIVATE = [
    "127.0.0.1",
    "127.8.9.10",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::10.0.0.1",
    "2002:7f00:1::",
    "64:ff9b::a00:1",
    "2001:0:4136:e378:8000:63bf:f5ff:fffe",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address: str) -> None:
    """Private, local, shared, multicast, and those within an address of IPv6 are not public."""
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses(address: str) -> None:
    """Those of the open internet are, also with loopback allowed."""
    assert is_public(ipaddress.ip_address(address))
    assert is_public(ipaddress.ip_address(address), allow_loopback=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_loopback_where_it_is_allowed(address: str) -> None:
    """The setting for tests opens loopback and nothing else."""
    assert is_public(ipaddress.ip_address(address), allow_loopback=True)
    assert not is_public(ipaddress.ip_address("10.0.0.1"), allow_loopback=True)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "::1", "0"]
)
async def test_spellings(host: str) -> None:
    """It is looked at what a host is resolved to, not at how it is written."""
    with pytest.raises(ForbiddenAddress, match="not a public address"):
        await PublicNetwork().connect_tcp(host, 80, timeout=1)
