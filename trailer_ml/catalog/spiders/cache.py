"""Pages as they were read before: what has not changed is not sent again.

Scrapy's own cache, but for what is not for us in it: it takes a page for fresh that was not changed for long, and an
old page for a good answer where the site fails or says nothing. It also keeps pages as pickle, in several files: who
can write into the folder could run code here, and a kill between them leaves half a page.

Does not belong here: how politely pages are asked for (polite.py).
"""

from __future__ import annotations

import base64
import json
import logging
import os
import time
import zlib
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scrapy.downloadermiddlewares.httpcache import HttpCacheMiddleware
from scrapy.extensions.httpcache import RFC2616Policy
from scrapy.http import Headers
from scrapy.responsetypes import responsetypes

from trailer_ml.catalog.spiders.challenge import is_challenge

if TYPE_CHECKING:
    from scrapy import Request, Spider
    from scrapy.http import Response
    from scrapy.settings import BaseSettings

logger = logging.getLogger(__name__)

_KEPT_S = 90 * 86400.0
_VALIDATORS = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}


def cache_settings(folder: Path) -> dict[str, Any]:
    """The part of Scrapy's settings that is about this; the middleware has its place below in `MIDDLEWARES`."""
    return {
        "HTTPCACHE_ENABLED": True,
        "HTTPCACHE_DIR": str(folder),
        "HTTPCACHE_POLICY": f"{__name__}.PagePolicy",
        "HTTPCACHE_STORAGE": f"{__name__}.PageStorage",
    }


class PageCache(HttpCacheMiddleware):
    """Between the retries and the decompression, so that a challenge is known by its words before it could be kept."""

    def process_request(self, request: Request) -> Request | Response | None:
        """Without what a redirect has brought along: that was of another page."""
        request.meta.pop("cached_response", None)
        for name in _VALIDATORS.values():
            request.headers.pop(name, None)
        answer: Request | Response | None = super().process_request(request)
        return answer

    def process_exception(self, request: Request, exception: Exception) -> None:
        """A site that does not answer has not answered."""


MIDDLEWARES = {
    "scrapy.downloadermiddlewares.httpcache.HttpCacheMiddleware": None,
    f"{__name__}.{PageCache.__name__}": 580,
}


class PagePolicy(RFC2616Policy):
    """Only good pages are kept, and each is asked about again unless the site itself says for how long it holds."""

    def should_cache_request(self, request: Request) -> bool:
        """Not robots.txt: what it forbids today is not to be known tomorrow."""
        return not request.meta.get("dont_obey_robotstxt") and bool(super().should_cache_request(request))

    def should_cache_response(self, response: Response, request: Request) -> bool:
        """No error, no challenge."""
        is_good = response.status == HTTPStatus.OK and not is_challenge(response)
        return is_good and bool(super().should_cache_response(response, request))

    def is_cached_response_fresh(self, cachedresponse: Response, request: Request) -> bool:
        """No guess from how long ago it was changed: a title may get a trailer any day."""
        headers = cachedresponse.headers
        is_said = b"max-age" in (headers.get("Cache-Control") or b"").lower() or "Expires" in headers
        if is_said and super().is_cached_response_fresh(cachedresponse, request):
            return True
        for name, question in _VALIDATORS.items():
            if name in headers:
                request.headers[question] = headers[name]
        return False

    def is_cached_response_valid(self, cachedresponse: Response, response: Response, request: Request) -> bool:  # noqa: ARG002 — as Scrapy calls it
        """Where the site says that nothing has changed; not where it fails."""
        return response.status == HTTPStatus.NOT_MODIFIED


class PageStorage:
    """One JSON file a page, there whole or not at all; those not read anew for 90 days are deleted."""

    def __init__(self, settings: BaseSettings) -> None:
        self._folder = Path(settings["HTTPCACHE_DIR"])

    def open_spider(self, spider: Spider) -> None:
        """Make room."""
        self._fingerprinter = spider.crawler.request_fingerprinter
        for path in self._folder.iterdir():
            if path.stat().st_mtime < time.time() - _KEPT_S:
                path.unlink(missing_ok=True)

    def close_spider(self, spider: Spider) -> None:
        """Nothing is open."""

    def retrieve_response(self, spider: Spider, request: Request) -> Response | None:  # noqa: ARG002 — as Scrapy calls it
        """The page as it was kept; None: it was not, or cannot be read."""
        try:
            kept = json.loads(self._path(request).read_bytes())
            headers = Headers(kept["headers"])
            body = zlib.decompress(base64.b64decode(kept["body"]))
        except (OSError, ValueError, LookupError, zlib.error):
            return None
        kind = responsetypes.from_args(headers=headers, url=request.url, body=body)
        return kind(url=request.url, headers=headers, status=int(HTTPStatus.OK), body=body)

    def store_response(self, spider: Spider, request: Request, response: Response) -> None:  # noqa: ARG002 — as Scrapy calls it
        """Keep a page; where that fails, it is read all the same."""
        headers = {
            name.decode("latin-1"): [value.decode("latin-1") for value in values]
            for name, values in response.headers.items()
        }
        kept = {"headers": headers, "body": base64.b64encode(zlib.compress(response.body)).decode()}
        path = self._path(request)
        aside = path.with_suffix(f".{os.getpid()}")
        try:
            aside.write_text(json.dumps(kept), encoding="utf-8")
            aside.replace(path)
        except OSError as error:
            logger.warning("%s is not kept: %s", request.url, error)

    def _path(self, request: Request) -> Path:
        return self._folder / f"{self._fingerprinter.fingerprint(request).hex()}.json"
