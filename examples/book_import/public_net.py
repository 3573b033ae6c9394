"""Connections to public addresses only: who follows an address that a stranger gave must not be led in.

Looked at is not the name in a URL but what it is resolved to, and the connection goes to that very
address.  So no spelling (2130706433, 0x7f.1, a name of one's own), no redirect, and no name that is another
one a moment later gets through.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from typing import Final, cast

import httpcore2

from holdfast import Fatal

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


class ForbiddenAddress(Fatal):
    """A URL leads to an address that is not public."""


class PublicNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to public addresses; with `allow_loopback` also to this machine's own."""

    def __init__(self, *, allow_loopback: bool = False) -> None:
        self._allow_loopback = allow_loopback
        # Also a stand-in without methods, for type checkers: anyio may be missing.
        self._backend = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Raises `ForbiddenAddress` when one of the addresses of a host is not public."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"{host}: {error}") from error
        addresses = [str(one[4][0]) for one in found]
        for address in addresses:
            if not is_public(ipaddress.ip_address(address), allow_loopback=self._allow_loopback):
                raise ForbiddenAddress(f"{host} leads to {address}, which is not a public address")
        return await self._backend.connect_tcp(addresses[0], port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Never."""
        raise ForbiddenAddress(f"{path} is no address")

    async def sleep(self, seconds: float) -> None:
        """As asyncio does."""
        await asyncio.sleep(seconds)


def is_public(address: IpAddress, *, allow_loopback: bool = False) -> bool:
    """Whether an address is one of the open internet, also within one of IPv6 that holds another."""
    inner = _inner(address)
    if inner is not None:
        return is_public(inner, allow_loopback=allow_loopback)
    if address.is_loopback:
        return allow_loopback
    return address.is_global and not address.is_multicast


def _inner(address: IpAddress) -> ipaddress.IPv4Address | None:
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo is not None:
        return address.teredo[1]
    if int(address) >> 32 == 0 and int(address) > 1:  # ::10.0.0.1, long out of use
        return ipaddress.IPv4Address(int(address))
    return address.ipv4_mapped or address.sixtofour
