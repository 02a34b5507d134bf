"""Names to addresses, and which of them may be connected to.

A name on a list of servers is trusted, the one who answers for it in the DNS need not be: whoever can change what a
name resolves to could have us talk to machines that only we can reach. So a name is resolved here, once for each
connection, and what is connected to is the address that was checked.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Prefixes of IPv6 addresses that lead to the IPv4 address in their last 32 bits (RFC 6052, RFC 4291).
_CARRIERS = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))


class Unreachable(OSError):
    """A name leads only to addresses that may not be connected to."""


class Resolver:
    """Resolves the names of servers. Safe to use from many threads."""

    def __init__(
        self, networks: Iterable[str] = (), resolve: Callable[..., Iterable[Any]] = socket.getaddrinfo
    ) -> None:
        """Let names lead to public addresses, and to those of these networks (`10.1.0.0/16`) besides.

        Raises ValueError for what is no network.
        """
        self._networks: Final = tuple(ipaddress.ip_network(network) for network in networks)
        self._resolve: Final = resolve

    def addresses(self, host: str, port: int) -> list[str]:
        """The IP addresses of a host that may be connected to, in the order in which the system names them.

        An address leads to itself: it was written into a list of servers as it is. `localhost` leads to loopback
        addresses only. Raises Unreachable, or socket.gaierror if there is no such name.
        """
        literal = _address(host.strip("[]"))
        if literal is not None:
            return [str(literal)]
        found = (_address(entry[4][0]) for entry in self._resolve(host, port, type=socket.SOCK_STREAM))
        here = host.lower() == "localhost"
        allowed = [str(one) for one in found if one and (one.is_loopback if here else self._may_reach(one))]
        if not allowed:
            raise Unreachable
        return list(dict.fromkeys(allowed))

    def _may_reach(self, address: Address) -> bool:
        real = _carried(address)
        if _is_public(address) and _is_public(real):
            return True
        return any(address in network or real in network for network in self._networks)


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _carried(address: Address) -> Address:
    """The IPv4 address that an IPv6 address leads to, if it does; else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if any(address in carrier for carrier in _CARRIERS):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _is_public(address: Address) -> bool:
    """Whether this is an address of one machine in the open Internet."""
    private = not address.is_global or (isinstance(address, ipaddress.IPv6Address) and address.is_site_local)
    return not private and not address.is_multicast
