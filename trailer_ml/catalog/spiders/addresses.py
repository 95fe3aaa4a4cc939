"""The spider keeps to public addresses, by the checks of guard.py: what a page or a redirect names may lead anywhere.

Each request is looked at as it stands, redirects and robots.txt included, and each name where it becomes an address,
which then is the one that is connected to. Private may be what a person has set: the site itself and a proxy.

Does not belong here: which sites the spider keeps to; that is Scrapy's own check.
"""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING, Any, Self

from scrapy.exceptions import IgnoreRequest

from trailer_ml.catalog.guard import check_url, host_and_port, is_public

if TYPE_CHECKING:
    from collections.abc import Collection

    from scrapy import Request
    from scrapy.crawler import Crawler

_SETTING = "TRAILER_ML_ALLOWED_HOSTS"


def address_settings(base_url: str) -> dict[str, Any]:
    """The part of Scrapy's settings that is about this; the middleware has its place in `MIDDLEWARES`.

    Args:
        base_url: of the site, as a person has set it.
    """
    proxies = (url if "://" in url else f"http://{url}" for url in urllib.request.getproxies().values())
    return {
        "TWISTED_DNS_RESOLVER": f"{__name__}.{PublicResolver.__name__}",
        _SETTING: [host_and_port(base_url), *map(host_and_port, proxies)],
    }


class PublicRequests:
    """A request for a private address as it stands is not made."""

    def __init__(self, allowed_hosts: Collection[str]) -> None:
        self._allowed_hosts = allowed_hosts

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """As Scrapy makes it."""
        return cls(crawler.settings[_SETTING])

    def process_request(self, request: Request) -> None:
        """Let pass or refuse."""
        try:
            check_url(request.url, self._allowed_hosts)
        except (OSError, ValueError) as error:  # RefusedAddressError, or no port that there could be
            raise IgnoreRequest(f"{error}") from error


MIDDLEWARES = {f"{__name__}.{PublicRequests.__name__}": 50}
"""Before robots.txt is asked for."""


class PublicResolver:
    """Twisted's own resolver, without the answers that are private."""

    def __init__(self, reactor: Any, allowed_hosts: Collection[str]) -> None:
        self._reactor = reactor
        self._allowed_hosts = allowed_hosts
        self._resolver = reactor.nameResolver

    @classmethod
    def from_crawler(cls, crawler: Crawler, reactor: Any) -> Self:
        """As Scrapy makes it."""
        return cls(reactor, crawler.settings[_SETTING])

    def install_on_reactor(self) -> None:
        """As Scrapy asks for."""
        self._reactor.installNameResolver(self)

    def resolveHostName(self, receiver: Any, host: str, portNumber: int = 0, *args: Any, **kwargs: Any) -> Any:  # noqa: N802, N803 - Twisted's names
        """Twisted's; literal addresses come here, too."""
        if f"{host}:{portNumber}" not in self._allowed_hosts:
            receiver = _PublicOnly(receiver)
        return self._resolver.resolveHostName(receiver, host, portNumber, *args, **kwargs)


class _PublicOnly:
    """Hands on what a name leads to, if all of it is public: else nothing, which is a name that is not found."""

    def __init__(self, receiver: Any) -> None:
        self._receiver = receiver
        self._addresses: list[Any] = []

    def resolutionBegan(self, resolution: Any) -> None:  # noqa: N802 - Twisted's name, as the next two
        self._receiver.resolutionBegan(resolution)

    def addressResolved(self, address: Any) -> None:  # noqa: N802
        self._addresses.append(address)

    def resolutionComplete(self) -> None:  # noqa: N802
        if all(is_public(address.host) for address in self._addresses):
            for address in self._addresses:
                self._receiver.addressResolved(address)
        self._receiver.resolutionComplete()
