"""Keeping a process that follows strangers' URLs away from private addresses.

The check sits where a name becomes an address, so literals, odd spellings, redirects and playlist fragments all pass
it, and the address that was checked is the one that is connected to. For Scrapy that place is in Twisted
(spiders/addresses.py). It covers Python only: a program that this process starts is not held by it. Behind a proxy it
sees the proxy's name only: there check_url refuses what is private as it stands, and what a name leads to is for the
proxy to refuse.

Does not belong here: which URLs are asked for.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection

REFUSED = "is not a public address"
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All that was ever given out for the internet; beside it lie IPv4-compatible and -translated addresses, the local
NAT64 prefix, site-local ones, and whatever comes next."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_PORTS = {"http": 80, "https": 443}


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


def check_url(url: str, allowed_hosts: Collection[str]) -> None:
    """Refuse a URL whose host is a private address as it stands, in whatever spelling, or is called localhost.

    Args:
        url: with a host.
        allowed_hosts: as of guard_addresses.

    Raises:
        RefusedAddressError: it is.
    """
    host = unquote(urlsplit(url).hostname or "").rstrip(".")
    if host_and_port(url) in allowed_hosts:
        return
    address = _literal(host)
    if f".{host}".endswith(".localhost") or (address is not None and not is_public(address)):
        raise RefusedAddressError(f"{host} {REFUSED}")


def host_and_port(url: str) -> str:
    """Of a URL, as `allowed_hosts` have it.

    >>> host_and_port("https://films.example/a"), host_and_port("http://127.0.0.1:8123")
    ('films.example:443', '127.0.0.1:8123')
    """
    parts = urlsplit(url)
    return f"{unquote(parts.hostname or '').rstrip('.')}:{parts.port or _PORTS.get(parts.scheme)}"


def _literal(host: str) -> str | None:
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(host.partition("%")[0]))
    with contextlib.suppress(OSError):
        return socket.inet_ntoa(socket.inet_aton(host))  # 127.1, 0x7f000001, 2130706433
    return None


def is_public(text: str) -> bool:
    """Whether an address, an IPv4 one inside an IPv6 one included, is reachable for everybody.

    >>> is_public("8.8.8.8"), is_public("::ffff:127.0.0.1"), is_public("169.254.169.254")
    (True, False, False)
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if address not in _GLOBAL_UNICAST:
            return False
    return address.is_global and not address.is_multicast
