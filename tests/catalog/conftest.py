"""A loopback site in IMDb's shape, made page by page by each test."""

import gzip
import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from trailer_ml.settings import CatalogSettings, Settings

CHART = "/chart/moviemeter/"


def page(next_data: object = None, json_ld: object = None, head: str = "") -> str:
    """HTML with the two kinds of embedded data."""
    scripts = ""
    if next_data is not None:
        text = next_data if isinstance(next_data, str) else json.dumps(next_data)
        scripts += f'<script id="__NEXT_DATA__" type="application/json">{text}</script>'
    if json_ld is not None:
        scripts += f'<script type="application/ld+json">{json.dumps(json_ld)}</script>'
    return f"<!doctype html><html><head>{head}</head><body>{scripts}</body></html>"


def video(number: int, *, title_id: str, date: str = "2026-11-20", kind: str = "Trailer") -> dict[str, Any]:
    """A node of primaryVideos."""
    return {
        "id": f"vi{number}",
        "name": {"value": "Official"},
        "contentType": {"id": "amzn1.imdb.video.contenttype.trailer", "displayName": {"value": kind}},
        "runtime": {"value": 31},
        "createdDate": f"{date}T09:00:00Z",
        "primaryTitle": {"id": title_id},
        "thumbnail": {"url": "http://example.invalid/picture.jpg"},
    }


def title_data(
    title: str, videos: list[dict[str, Any]], *, type_id: str = "movie", genres: object = None
) -> dict[str, Any]:
    """The __NEXT_DATA__ of a title page."""
    above = {
        "titleText": {"text": title},
        "titleType": {"id": type_id},
        "releaseYear": {"year": 2026},
        "plot": {"plotText": {"plainText": "Things happen."}},
        "genres": genres or {"genres": [{"text": "Drama"}]},
        "primaryVideos": {"edges": [{"node": node} for node in videos]},
    }
    return {"props": {"pageProps": {"aboveTheFoldData": above}}}


class FilmSite:
    """Pages by path; `seen` counts the requests for each, `unchanged` those that were answered with 304."""

    chart = CHART
    page = staticmethod(page)
    video = staticmethod(video)
    title_data = staticmethod(title_data)

    def __init__(self) -> None:
        self.pages: dict[str, list[tuple[int, dict[str, str], str]]] = {}
        self.seen: Counter[str] = Counter()
        self.unchanged: Counter[str] = Counter()
        self.agents: set[str] = set()
        self.put("/robots.txt", "User-agent: *\nDisallow: /find\n")
        self.url = ""

    def put(self, path: str, body: str, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """What a path answers (status 0: nothing): given several times, one after the other, the last for ever."""
        self.pages.setdefault(path, []).append((status, headers or {}, body))

    def put_chart(self, *title_ids: str, number: int = 1, next_page: int | None = None) -> None:
        """A chart page."""
        edges = [{"node": {"id": title_id}} for title_id in title_ids]
        data = {"props": {"pageProps": {"pageData": {"chartTitles": {"edges": edges}}}}}
        head = f'<link rel="next" href="{CHART}?page={next_page}">' if next_page else ""
        self.put(CHART if number == 1 else f"{CHART}?page={number}", page(data, head=head))

    def put_title(self, title_id: str, *args: Any, **kwargs: Any) -> None:
        """A title page."""
        self.put(f"/title/{title_id}/", page(title_data(*args, **kwargs)))

    def answer(self, path: str) -> tuple[int, dict[str, str], str]:
        """The next answer of a path."""
        self.seen[path] += 1
        answers = self.pages.get(path, [(404, {}, "nothing here")])
        return answers[min(self.seen[path], len(answers)) - 1]


@pytest.fixture
def site() -> Iterator[FilmSite]:
    """An empty site that allows robots."""
    made = FilmSite()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # it costs 40 ms a page

        def do_GET(self) -> None:
            made.agents.add(self.headers["User-Agent"])
            status, headers, body = made.answer(self.path)
            if not status:
                self.close_connection = True
                return
            if headers.get("ETag", "none") == self.headers["If-None-Match"]:
                made.unchanged[self.path] += 1
                status, body = 304, ""
            data = gzip.compress(body.encode()) if headers.get("Content-Encoding") and body else body.encode()
            self.send_response(status)
            for name, value in {"Content-Type": "text/html; charset=utf-8", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:  # noqa: ARG002
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def crawl_settings(settings: Settings, site: FilmSite) -> Settings:
    """Settings that read the site quickly."""
    catalog = CatalogSettings(
        base_url=site.url,
        accept_terms=("imdb_html",),
        user_agent="test-crawler/1 (+mailto:tests@example.invalid)",
        download_delay_s=0,
        autothrottle_start_delay_s=0.01,
        timeout_s=60,
        batch_size=3,
    )
    return settings.model_copy(update={"catalog": catalog})
