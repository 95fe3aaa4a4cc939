"""The spider for pages in IMDb's shape: charts, page after page, then each title, then one item per trailer.

It yields plain dictionaries: `{"trailer": …}` has the fields of a Trailer, `{"set_aside": …}` says why a title has
none. It counts in Scrapy's stats what its caller judges the crawl by, for Scrapy itself calls a crawl of error pages
finished. What was asked for is noted and crossed out when it is answered: of a request that was redirected to another
site, or to a page read before, Scrapy tells nobody.

Does not belong here: how politely it goes (polite.py beside it), and what becomes of the items.
"""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import scrapy
from pydantic import ValidationError
from scrapy.exceptions import CloseSpider, IgnoreRequest
from scrapy.spidermiddlewares.httperror import HttpError
from scrapy.utils.request import fingerprint

from trailer_ml.catalog.spiders import pages
from trailer_ml.catalog.spiders.challenge import is_challenge, is_html
from trailer_ml.catalog.spiders.opt_out import find_opt_out
from trailer_ml.records import Trailer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Iterator

    from scrapy.http import Response
    from twisted.python.failure import Failure

    from trailer_ml.settings import CatalogSettings

logger = logging.getLogger(__name__)

_GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_NO_WORD = "a redirect to another site, or to a page read before"
"""Why a title did not come, where Scrapy does not say."""


class ImdbSpider(scrapy.Spider):
    """Reads one chart and the titles on it.

    Args:
        catalog: which site, and when to stop.
        waiting: ids (`tt…`) of titles that are read too, whether they are still on the chart or not.
    """

    name = "imdb"

    def __init__(self, catalog: CatalogSettings, waiting: Collection[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.catalog = catalog
        self.base_url = catalog.base_url.rstrip("/")
        self.allowed_domains = [urlsplit(self.base_url).hostname]
        self.first_blocked_url = ""
        self.chart_opt_out = ""
        """In which words the chart says that it is not for us."""
        self.unanswered: dict[str, str] = {}
        """Titles that were asked for and did not come, and why, by their ids."""
        self._waiting = waiting
        self._asked_charts: set[bytes] = set()
        self._asked_titles: set[str] = set()
        self._challenges_in_a_row = 0

    async def start(self) -> AsyncIterator[Any]:
        """The chart's first page."""
        for request in self._ask_chart(scrapy.Request(self.base_url + self.catalog.chart_path)):
            yield request

    def parse_chart(self, response: Response) -> Iterator[Any]:
        """The titles of a chart page, and the next page; after the last one, the titles that wait."""
        self._asked_charts.add(fingerprint(response.request))  # a redirect may have led to it
        if self._is_challenge(response) or not is_html(response):
            return
        title_ids = pages.read_chart(_next_data(response)) or re.findall(
            f"/title/({pages.TITLE_ID})/", " ".join(response.css("a::attr(href)").getall())
        )
        if found := find_opt_out(response, self.catalog.user_agent):
            self.chart_opt_out = found
            raise CloseSpider("opted_out")
        self._count("chart_pages")
        for request in self._ask_titles(title_ids):
            self._count("chart_titles")
            yield request
        links = response.css('link[rel="next"]::attr(href), a[rel="next"]::attr(href)').getall()[:1]
        next_page = [request for link in links for request in self._ask_chart(response.follow(link))]
        yield from next_page or self._ask_titles(self._waiting)

    def parse_title(self, response: Response, title_id: str) -> Iterator[dict[str, Any]]:
        """The trailers of a title, or why there are none."""
        if self._is_challenge(response):
            self.unanswered[title_id] = "a challenge"
            return
        try:
            found = find_opt_out(response, self.catalog.user_agent)
            items = [_set_aside(title_id, "opted_out", found)] if found else self._read_title(response, title_id)
        except Exception as error:
            logger.exception("%s cannot be read", response.url)
            items = [_set_aside(title_id, "unreadable", f"{type(error).__name__}: {error}")]
        yield from self._answer(title_id, items)

    def chart_failed(self, failure: Failure) -> None:
        """A chart page that did not come: the crawl cannot be whole."""
        self._look_at_failure(failure)
        if _is_forbidden(failure):
            self._count("charts_forbidden")

    def title_failed(self, failure: Failure) -> Iterator[dict[str, Any]]:
        """A title page that did not come."""
        self._look_at_failure(failure)
        title_id = failure.request.cb_kwargs["title_id"]
        response = _response_of(failure)
        if response is not None and response.status in _GONE:
            yield from self._answer(title_id, [_set_aside(title_id, "gone", f"HTTP {int(response.status)}")])
        elif _is_forbidden(failure) and not self.crawler.stats.get_value("trailer_ml/robots_unavailable"):
            yield from self._answer(title_id, [_set_aside(title_id, "forbidden_by_robots", "robots.txt")])
        else:
            why = f"HTTP {int(response.status)}" if response is not None else failure.getErrorMessage()
            self.unanswered[title_id] = why or failure.type.__name__

    def _ask_chart(self, request: scrapy.Request) -> Iterator[scrapy.Request]:
        """A chart page, unless it was asked for before."""
        if fingerprint(request) not in self._asked_charts:
            self._asked_charts.add(fingerprint(request))
            self._count("charts_asked")
            yield request.replace(callback=self.parse_chart, errback=self.chart_failed)

    def _ask_titles(self, title_ids: Iterable[str]) -> Iterator[scrapy.Request]:
        """Each title that was not asked for before."""
        for title_id in title_ids:
            if title_id in self._asked_titles:
                continue
            self._asked_titles.add(title_id)
            self.unanswered[title_id] = _NO_WORD
            yield scrapy.Request(
                f"{self.base_url}/title/{title_id}/",
                self.parse_title,
                errback=self.title_failed,
                cb_kwargs={"title_id": title_id},
            )

    def _answer(self, title_id: str, items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        self.unanswered.pop(title_id, None)
        for item in items:
            self._count("items")
            yield item

    def _read_title(self, response: Response, title_id: str) -> list[dict[str, Any]]:
        blocks = response.css('script[type="application/ld+json"]::text').getall()
        page = pages.read_title(_next_data(response), [pages.parse_json(block) for block in blocks])
        if page is None or not page.title_type:
            return [_set_aside(title_id, "unreadable", "the page has no data that can be read")]
        if page.title_type != "movie":
            return [_set_aside(title_id, "not_a_movie", f"{page.title} ({page.title_type})")]
        if page.is_undated:
            return [_set_aside(title_id, "unreadable", f"{page.title}: no trailer of it has a date")]
        if not page.videos:
            return [_set_aside(title_id, "no_trailer", page.title)]
        try:
            return [self._trailer(title_id, page, video) for video in page.videos]
        except ValidationError as error:
            first = error.errors()[0]
            return [_set_aside(title_id, "unreadable", f"{page.title}: {first['loc'][0]}: {first['msg']}")]

    def _trailer(self, title_id: str, page: pages.TitlePage, video: pages.Video) -> dict[str, Any]:
        trailer = Trailer.model_validate(
            {
                "trailer_id": f"imdb-{video.video_id}",
                "film_id": f"imdb-{title_id}",
                "title": page.title,
                "kind": video.kind,
                "genres": page.genres,
                "year": page.year,
                "plot": page.plot,
                "source": "imdb",
                "source_url": f"{self.base_url}/video/{video.video_id}/",
                "page_url": f"{self.base_url}/title/{title_id}/",
                "listed_on": video.listed_on,
                "duration_s": video.duration_s,
            }
        )
        return {"trailer": trailer.to_json(), "is_primary": video.film_id in {None, title_id}}

    def _look_at_failure(self, failure: Failure) -> None:
        """An error may be a challenge too."""
        response = _response_of(failure)
        if response is not None:
            self._is_challenge(response)

    def _is_challenge(self, response: Response) -> bool:
        """Whether the site asks whom it talks to. It is counted, never answered; too many in a row end the crawl."""
        if not is_challenge(response):
            self._challenges_in_a_row = 0
            return False
        self.first_blocked_url = self.first_blocked_url or response.url
        self._count("challenges")
        self._challenges_in_a_row += 1
        if self._challenges_in_a_row >= self.catalog.max_challenges:
            raise CloseSpider("blocked")
        return True

    def _count(self, name: str) -> None:
        self.crawler.stats.inc_value(f"trailer_ml/{name}")


def _set_aside(title_id: str, reason: str, detail: str) -> dict[str, Any]:
    return {"set_aside": {"id": f"imdb-{title_id}", "reason": reason, "detail": detail}}


def _is_forbidden(failure: Failure) -> bool:
    """Whether robots.txt forbids the page; Scrapy says so in words only."""
    return bool(failure.check(IgnoreRequest)) and failure.getErrorMessage() == "Forbidden by robots.txt"


def _next_data(response: Response) -> Any:
    return pages.parse_json(response.css("script#__NEXT_DATA__::text").get())


def _response_of(failure: Failure) -> Response | None:
    return failure.value.response if failure.check(HttpError) else None
