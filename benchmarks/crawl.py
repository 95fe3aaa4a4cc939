"""5,000 titles of a local site in IMDb's shape, with kill -9 in the middle and a restart: each once, in flat memory."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.downloads import Server
from benchmarks.measure import table
from trailer_ml.catalog.listing import read_trailers
from trailer_ml.demo.services import run_seaweedfs
from trailer_ml.settings import CatalogSettings, Settings, SourcesSettings, as_environment
from trailer_ml.storage import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trailer_ml.settings import StoreSettings

N_TITLES, A_PAGE = 5000, 250
N_CHARTS = N_TITLES // A_PAGE
LOOK_AT = (N_TITLES // 5, N_TITLES)
"""After how many titles the memory of the spider is read."""
DAY = dt.date(2026, 11, 20)
CODE = f"""
import datetime as dt
from trailer_ml.catalog.crawl import crawl_catalog
from trailer_ml.records import Interval
from trailer_ml.settings import load_settings
from trailer_ml.storage import Store
settings = load_settings()
crawl_catalog(Interval.of_day(dt.date.fromisoformat("{DAY}")), settings, Store(settings.store))
"""


class Site:
    """Answers, counts, and remembers how much memory the spider had after how many titles."""

    def __init__(self) -> None:
        self.titles: Counter[str] = Counter()
        self.rss_mb: dict[int, float] = {}
        self.folder = Path()
        """Where the crawl has its job: its spider is known by that."""

    def answer(self, path: str) -> str:
        """The page of a path."""
        if path.startswith("/title/"):
            name = path.split("/")[2]
            self.titles[name] += 1
            if (seen := self.titles.total()) in LOOK_AT:
                self.rss_mb[seen] = spider_rss_mb(self.folder)
            return _title(int(name[2:]))
        if path == "/robots.txt":
            return "User-agent: *\nDisallow: /find\n"
        return _chart(int(path.partition("page=")[2] or 1))


def _page(properties: dict[str, object], head: str = "") -> str:
    data = json.dumps({"props": {"pageProps": properties}})
    script = f'<script id="__NEXT_DATA__" type="application/json">{data}</script>'
    return f"<!doctype html><html><head>{head}</head><body>{script}</body></html>"


def _chart(number: int) -> str:
    first = (number - 1) * A_PAGE + 1
    edges = [{"node": {"id": f"tt{title}"}} for title in range(first, first + A_PAGE)]
    head = f'<link rel="next" href="/chart/moviemeter/?page={number + 1}">' if number < N_CHARTS else ""
    return _page({"pageData": {"chartTitles": {"edges": edges}}}, head)


def _title(number: int) -> str:
    video = {
        "id": f"vi{number}",
        "contentType": {"displayName": {"value": "Trailer"}},
        "createdDate": f"{DAY}T09:00:00Z",
        "primaryTitle": {"id": f"tt{number}"},
    }
    return _page(
        {
            "aboveTheFoldData": {
                "titleText": {"text": f"Film {number}"},
                "titleType": {"id": "movie"},
                "releaseYear": {"year": 2026},
                "plot": {"plotText": {"plainText": "Things happen. " * 100}},
                "genres": {"genres": [{"text": "Drama"}]},
                "primaryVideos": {"edges": [{"node": video}]},
            }
        }
    )


@contextmanager
def serve(site: Site) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            data = site.answer(self.path).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            return

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def spider_rss_mb(folder: Path) -> float:
    """Memory of the process whose job lies in the folder; 0 where there is none."""
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"{folder}/trailer-ml-crawl-".encode() in cmdline.read_bytes():
                fields = dict(
                    line.split(":", 1) for line in (cmdline.parent / "status").read_text().splitlines() if ":" in line
                )
                return int(fields["VmRSS"].split()[0]) / 1024
    return 0.0


def start_crawl(url: str, store: StoreSettings, folder: Path) -> subprocess.Popen[bytes]:
    catalog = CatalogSettings(
        base_url=url, accept_terms=("imdb_html",), download_delay_s=0, autothrottle_start_delay_s=0.01, timeout_s=1800
    )
    settings = Settings(store=store, catalog=catalog, sources=SourcesSettings(cache_folder=folder / "cache"))
    if store.access_key_id is None or store.secret_access_key is None:
        raise RuntimeError("a store on this machine has keys")
    keys = {
        "AWS_ACCESS_KEY_ID": store.access_key_id.get_secret_value(),
        "AWS_SECRET_ACCESS_KEY": store.secret_access_key.get_secret_value(),
        "TMPDIR": str(folder),
    }
    return subprocess.Popen([sys.executable, "-c", CODE], env={**os.environ, **as_environment(settings), **keys})


def run() -> str:
    site = Site()
    with tempfile.TemporaryDirectory() as name, run_seaweedfs(Path(name, "store")) as store, serve(site) as url:
        site.folder = Path(name)
        with start_crawl(url, store, site.folder) as process:
            while site.titles.total() < N_TITLES // 2:
                if process.poll() is not None:
                    raise RuntimeError("the crawl ended before it was killed")
                time.sleep(0.01)
            process.kill()
        while spider_rss_mb(site.folder):
            time.sleep(0.05)
        n_before, n_kept = site.titles.total(), len(list(Store(store).list_keys("")))
        site.titles.clear()
        site.rss_mb.clear()
        start = time.perf_counter()
        with start_crawl(url, store, site.folder) as process:
            returncode = process.wait()
        seconds = time.perf_counter() - start
        films = Counter(trailer.film_id for trailer in read_trailers(Store(store)))
    if returncode:
        raise RuntimeError(f"the crawl ended with {returncode}")
    return table(
        f"Crawl: {N_TITLES:,} titles, kill -9 after {N_TITLES // 2:,}, and again",
        ("", "measured"),
        [
            ["asked for before the kill; in the store then", f"{n_before:,} titles; {n_kept} objects"],
            ["the second run", f"{seconds:.0f} s, {N_TITLES / seconds:.0f} titles/s"],
            ["asked for in it once; more than once", f"{_how_many(site.titles)}"],
            ["listed once; more than once", f"{_how_many(films)}"],
            [f"memory of the spider after {LOOK_AT[0]:,}; after {LOOK_AT[1]:,}",
             "; ".join(f"{site.rss_mb[count]:.0f} MB" for count in LOOK_AT)],
        ],
    )  # fmt: skip


def _how_many(counts: Counter[str]) -> str:
    n_once = sum(count == 1 for count in counts.values())
    return f"{n_once:,}; {len(counts) - n_once:,}"
