"""How Scrapy behaves: its settings, waiting when told to wait, and writing items so that they stay written.

Scrapy's own defaults do not check certificates, ignore robots.txt and Retry-After, and open a remote-control server;
each of these is set here.

Does not belong here: what is on the pages.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from scrapy.downloadermiddlewares.retry import RetryMiddleware
from scrapy.http import Response, TextResponse

from trailer_ml.catalog.retry_after import parse_retry_after
from trailer_ml.catalog.spiders import addresses, cache

if TYPE_CHECKING:
    from scrapy import Request
    from scrapy.crawler import Crawler

    from trailer_ml.settings import CatalogSettings

logger = logging.getLogger(__name__)

_PACKAGE = __name__
_WAIT_STATUS = (429, 503)
_FORBID_ALL = b"User-agent: *\nDisallow: /\n"
MAX_PAGE_BYTES = 10 * 2**20


def scrapy_settings(catalog: CatalogSettings, items_path: Path, cache_folder: Path) -> dict[str, Any]:
    """Scrapy's settings for one crawl.

    Args:
        catalog: how politely.
        items_path: where the items go, one JSON object a line.
        cache_folder: has the pages of earlier crawls.
    """
    return {
        **cache.cache_settings(cache_folder),
        **addresses.address_settings(catalog.base_url),
        "USER_AGENT": catalog.user_agent,
        "ROBOTSTXT_OBEY": True,
        "AUTOTHROTTLE_ENABLED": True,
        "AUTOTHROTTLE_START_DELAY": catalog.autothrottle_start_delay_s,
        "AUTOTHROTTLE_MAX_DELAY": 60.0,
        "AUTOTHROTTLE_TARGET_CONCURRENCY": 1.0,
        "CONCURRENT_REQUESTS": 1,  # what is queued in the downloader is sent even after a pause or a stop
        "DOWNLOAD_DELAY": catalog.download_delay_s,
        "DOWNLOAD_TIMEOUT": 30,
        "DOWNLOAD_MAXSIZE": MAX_PAGE_BYTES,
        "DOWNLOAD_WARNSIZE": MAX_PAGE_BYTES // 5,
        "DOWNLOAD_VERIFY_CERTIFICATES": True,
        "DOWNLOAD_HANDLERS": {"file": None, "ftp": None, "s3": None, "data": None},
        "DOWNLOADER_MIDDLEWARES": {
            "scrapy.downloadermiddlewares.retry.RetryMiddleware": None,
            f"{_PACKAGE}.RetryAfterMiddleware": 550,
            **cache.MIDDLEWARES,
            **addresses.MIDDLEWARES,
        },
        "ITEM_PIPELINES": {f"{_PACKAGE}.DurableLines": 300},
        "COOKIES_ENABLED": False,
        "REFERER_ENABLED": False,
        "TELNETCONSOLE_ENABLED": False,
        "REMOTE_CONTROL_ENABLED": False,
        "LOG_LEVEL": "INFO",
        "TRAILER_ML_ITEMS_PATH": str(items_path),
        "TRAILER_ML_MAX_WAIT_S": catalog.max_wait_s,
    }


class RetryAfterMiddleware(RetryMiddleware):
    """Scrapy's retries, and a pause of the whole crawl where the site says for how long.

    Where that is longer than `catalog.max_wait_s`, the crawl ends at once. A robots.txt that does not come because the
    site is overloaded or broken forbids everything (RFC 9309, 2.3.1.4), where Scrapy would read on without one.
    """

    _end: asyncio.Future[None] | None = None

    async def process_response(self, request: Request, response: Response) -> Request | Response:
        """Wait as told, then let Scrapy decide whether to try again."""
        wait_s = parse_retry_after(response.headers.get("Retry-After", b"").decode("latin-1"))
        if response.status not in _WAIT_STATUS:
            wait_s = None
        if wait_s and wait_s > self.crawler.settings.getfloat("TRAILER_ML_MAX_WAIT_S"):
            self._end_crawl(wait_s)
            return self._forbid_all(request, "limited") if _is_robots(request) else response
        if wait_s:
            logger.info("%s answered %d: waiting %.1f s", response.url, response.status, wait_s)
            self.crawler.engine.pause()
            await asyncio.sleep(wait_s)
            self.crawler.engine.unpause()
        answer: Request | Response = super().process_response(request, response)
        if _is_robots(request) and isinstance(answer, Response) and _may_pass(answer.status):
            return self._forbid_all(request, f"HTTP {answer.status}")
        return answer

    def process_exception(self, request: Request, exception: Exception) -> Request | Response | None:
        """As for an answer that is an error."""
        again: Request | Response | None = super().process_exception(request, exception)
        if again is None and _is_robots(request):
            return self._forbid_all(request, type(exception).__name__)
        return again

    def _end_crawl(self, wait_s: float) -> None:
        self.crawler.stats.set_value("trailer_ml/retry_after_s", wait_s)
        # begun here, it comes before the next request; begun by who reads the answer, it would come after it
        self._end = asyncio.ensure_future(self.crawler.engine.close_spider_async(reason="rate_limited"))

    def _forbid_all(self, request: Request, why: str) -> Response:
        self.crawler.stats.set_value("trailer_ml/robots_unavailable", why)
        return TextResponse(request.url, body=_FORBID_ALL, request=request)


def _may_pass(status: int) -> bool:
    return status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _is_robots(request: Request) -> bool:
    return bool(request.meta.get("dont_obey_robotstxt"))  # of all requests here, only Scrapy's own for it says so


class DurableLines:
    """Writes each item as a line and has it on the disk before the next page is read.

    Scrapy's own feeds lose everything when the process is killed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """As Scrapy makes it."""
        return cls(Path(crawler.settings["TRAILER_ML_ITEMS_PATH"]))

    def open_spider(self) -> None:
        """The file is made at once, so that a crawl without items is told from one that never began."""
        self._file = self._path.open("wb")

    def close_spider(self) -> None:
        """Nothing is left to be written."""
        if self._file:
            self._file.close()

    def process_item(self, item: dict[str, Any]) -> dict[str, Any]:
        """One line, on the disk when this returns."""
        if self._file:
            self._file.write(json.dumps(item).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        return item
