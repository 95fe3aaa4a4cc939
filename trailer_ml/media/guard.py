"""Keeping a process that follows strangers' URLs away from private addresses.

The check sits where a name becomes an address, so literals, odd spellings, redirects and playlist fragments all pass
it, and the address that was checked is the one that is connected to. It covers Python only: a program that this
process starts is not held by it.

Does not belong here: which URLs are asked for.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

REFUSED = "is not a public address"


class RefusedAddressError(OSError):
    """An address that must not be connected to."""


def guard_addresses(allowed_hosts: Collection[str]) -> None:
    """Make this process refuse to resolve anything to an address that is not public, from now on.

    Args:
        allowed_hosts: `host:port`, as the URL has it, that may be private all the same.
    """
    resolve = socket.getaddrinfo

    def guarded(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        answers = resolve(host, port, *args, **kwargs)
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        if f"{name}:{port}" not in allowed_hosts:
            for *_, address in answers:
                if not is_public(str(address[0])):
                    raise RefusedAddressError(f"{name}:{port} {REFUSED}")
        return answers

    socket.getaddrinfo = guarded


def is_public(text: str) -> bool:
    """Whether an address, an IPv4 one inside an IPv6 one included, is reachable for everybody.

    >>> is_public("8.8.8.8"), is_public("::ffff:127.0.0.1"), is_public("169.254.169.254")
    (True, False, False)
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return address.is_global and not address.is_multicast
