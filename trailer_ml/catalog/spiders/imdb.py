"""The spider for pages in IMDb's shape: charts, page after page, then each title, then one item per trailer.

It yields plain dictionaries: `{"trailer": …}` has the fields of a Trailer, `{"set_aside": …}` says why a title has
none. It counts in Scrapy's stats what its caller judges the crawl by, for Scrapy itself calls a crawl of error pages
finished.

Does not belong here: how politely it goes (polite.py beside it), and what becomes of the items.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import scrapy
from pydantic import ValidationError
from scrapy.exceptions import CloseSpider, IgnoreRequest
from scrapy.spidermiddlewares.httperror import HttpError

from trailer_ml.catalog.spiders import pages
from trailer_ml.records import Trailer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from scrapy.http import Response
    from twisted.python.failure import Failure

    from trailer_ml.settings import CatalogSettings

_CHALLENGE_WORDS = (b"awsWafCookieDomainList", b"gokuProps")
_GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)


class ImdbSpider(scrapy.Spider):
    """Reads one chart and the titles on it.

    Args:
        catalog: which site, and when to stop.
    """

    name = "imdb"

    def __init__(self, catalog: CatalogSettings, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.catalog = catalog
        self.base_url = catalog.base_url.rstrip("/")
        self.allowed_domains = [urlsplit(self.base_url).hostname]
        self.first_blocked_url = ""
        self._challenges_in_a_row = 0

    async def start(self) -> AsyncIterator[Any]:
        """The chart's first page."""
        yield scrapy.Request(self.base_url + self.catalog.chart_path, self.parse_chart, errback=self.chart_failed)

    def parse_chart(self, response: Response) -> Iterator[Any]:
        """The titles of a chart page, and the next page."""
        if self._is_challenge(response):
            self._count("charts_failed")
            return
        title_ids = pages.read_chart(_next_data(response)) or re.findall(
            f"/title/({pages.TITLE_ID})/", " ".join(response.css("a::attr(href)").getall())
        )
        self._count("chart_pages")
        for title_id in title_ids:
            yield scrapy.Request(
                f"{self.base_url}/title/{title_id}/",
                self.parse_title,
                errback=self.title_failed,
                cb_kwargs={"title_id": title_id},
            )
        for link in response.css('link[rel="next"]::attr(href), a[rel="next"]::attr(href)').getall()[:1]:
            yield response.follow(link, self.parse_chart, errback=self.chart_failed)

    def parse_title(self, response: Response, title_id: str) -> Iterator[dict[str, Any]]:
        """The trailers of a title, or why there are none."""
        if self._is_challenge(response):
            self._count("titles_unreachable")
            return
        blocks = response.css('script[type="application/ld+json"]::text').getall()
        page = pages.read_title(_next_data(response), [pages.parse_json(block) for block in blocks])
        if page is None or not page.title_type:
            yield self._set_aside(title_id, "unreadable", "the page has no data that can be read")
        elif page.title_type != "movie":
            yield self._set_aside(title_id, "not_a_movie", f"{page.title} ({page.title_type})")
        elif page.is_undated:
            yield self._set_aside(title_id, "unreadable", f"{page.title}: no trailer of it has a date")
        elif not page.videos:
            yield self._set_aside(title_id, "no_trailer", page.title)
        else:
            yield from self._list_title(title_id, page)

    def chart_failed(self, failure: Failure) -> None:
        """A chart page that did not come: the crawl cannot be whole."""
        self._look_at_failure(failure)
        self._count(
            "charts_forbidden" if failure.check(IgnoreRequest) and not _response_of(failure) else "charts_failed"
        )

    def title_failed(self, failure: Failure) -> Iterator[dict[str, Any]]:
        """A title page that did not come."""
        self._look_at_failure(failure)
        title_id = failure.request.cb_kwargs["title_id"]
        response = _response_of(failure)
        if response is not None and response.status in _GONE:
            yield self._set_aside(title_id, "gone", f"HTTP {int(response.status)}")
        elif failure.check(IgnoreRequest) and response is None:
            yield self._set_aside(title_id, "forbidden_by_robots", "robots.txt, or a redirect to another site")
        else:
            self._count("titles_unreachable")

    def _list_title(self, title_id: str, page: pages.TitlePage) -> Iterator[dict[str, Any]]:
        try:
            items = [self._trailer(title_id, page, video) for video in page.videos]
        except ValidationError as error:
            first = error.errors()[0]
            yield self._set_aside(title_id, "unreadable", f"{page.title}: {first['loc'][0]}: {first['msg']}")
            return
        self._count("titles_listed")
        for item in items:
            self._count("items")
            yield item

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

    def _set_aside(self, title_id: str, reason: str, detail: str) -> dict[str, Any]:
        self._count("items")
        self._count("titles_set_aside")
        return {"set_aside": {"id": f"imdb-{title_id}", "reason": reason, "detail": detail}}

    def _look_at_failure(self, failure: Failure) -> None:
        """End the crawl if the site has had enough of it."""
        if self.crawler.stats.get_value("trailer_ml/retry_after_s"):
            raise CloseSpider("rate_limited")
        response = _response_of(failure)
        if response is not None:
            self._is_challenge(response)

    def _is_challenge(self, response: Response) -> bool:
        """Whether the site asks whom it talks to. It is counted, never answered; too many in a row end the crawl."""
        is_page = response.css('#__NEXT_DATA__, script[type="application/ld+json"]') if _is_html(response) else None
        if not (
            response.status == HTTPStatus.ACCEPTED
            or response.headers.get("x-amzn-waf-action")
            or any(word in response.body for word in _CHALLENGE_WORDS)
            or (response.status == HTTPStatus.OK and not is_page)
        ):
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


def _is_html(response: Response) -> bool:
    return isinstance(response, scrapy.http.TextResponse)


def _next_data(response: Response) -> Any:
    return pages.parse_json(response.css("script#__NEXT_DATA__::text").get())


def _response_of(failure: Failure) -> Response | None:
    return failure.value.response if failure.check(HttpError) else None
