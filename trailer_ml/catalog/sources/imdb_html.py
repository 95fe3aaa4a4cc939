"""The source `imdb_html`: pages in IMDb's shape, read by a spider in a child process and judged by what it counted.

Does not belong here: the pages and the politeness (spiders/), and keeping what was found (crawl.py).
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from trailer_ml.catalog.spider_child import ITEMS_NAME, RESULT_NAME
from trailer_ml.errors import (
    ChildFailedError,
    LocalFaultError,
    RateLimitedError,
    SourceBlockedError,
    SourceUnavailableError,
)
from trailer_ml.processes import clean_environment, run_child
from trailer_ml.records import Interval, Quarantine, Trailer
from trailer_ml.scratch import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from trailer_ml.catalog.source import Found
    from trailer_ml.settings import CatalogSettings, Settings

TERMS = (
    "IMDb's conditions of use forbid robots and scraping without its written consent: the spider runs only where you "
    "say that you have it, or that the site is your own."
)
NEEDS_CONSENT = True
HAS_DATES = True

_MAX_UNREAD_SHARE = 0.05
"""A day's catalog is written once: a crawl that could not reach or read more titles than this is made again instead."""
_RETRY_LATER = dt.timedelta(hours=1)
"""A title that did not come is asked for again by the first crawl after this, be it on the chart or not."""


def list_trailers(interval: Interval, settings: Settings, waiting: Collection[str] = ()) -> Iterator[Found]:
    """Crawl the chart. The site cannot be asked for dates, so trailers of any date are returned.

    Args:
        interval: not used: see above.
        settings: all; `catalog` says which site, and how politely.
        waiting: ids of films whose pages did not come before: they are asked for again.

    Raises:
        SourceBlockedError: the site answers with challenges, or robots.txt or the chart itself says no.
        SourceUnavailableError: the chart or too many titles did not come, or say nothing that can be read.
        RateLimitedError: the site asked for a longer wait than is set.
        LocalFaultError: there can be no folder for the pages of earlier crawls.
        ChildTimeoutError: the crawl ran past `catalog.timeout_s`.
        ChildKilledError: a signal ended it.
    """
    del interval
    catalog = settings.catalog
    with scratch_folder("trailer-ml-crawl-") as folder:
        job_path = folder / "job.json"
        title_ids = [film_id.removeprefix("imdb-") for film_id in sorted(waiting) if film_id.startswith("imdb-tt")]
        job = {
            "catalog": catalog.model_dump(mode="json"),
            "waiting": title_ids,
            "folder": str(folder),
            "cache_folder": str(_make_cache_folder(settings)),
        }
        job_path.write_text(json.dumps(job), encoding="utf-8")
        arguments = [sys.executable, "-P", "-m", "trailer_ml.catalog.spider_child", str(job_path)]
        finished = run_child(arguments, timeout_s=catalog.timeout_s, env=clean_environment(), cwd=folder)
        if not (folder / RESULT_NAME).exists():
            raise ChildFailedError("the crawl ended without a result", returncode=0, stderr_tail=finished.stderr_tail)
        result = json.loads((folder / RESULT_NAME).read_bytes())
        items = [json.loads(line) for line in (folder / ITEMS_NAME).read_bytes().splitlines()]
    counts = {name.removeprefix("trailer_ml/"): value for name, value in result["stats"].items()}
    _judge_end(result, counts, len(items), catalog, finished.stderr_tail)
    set_aside = [*_set_aside(items), *_wait(result["unanswered"])]
    _judge_titles([entry for entry in set_aside if entry.id not in waiting], counts.get("chart_titles", 0), catalog)
    yield from _unique(item for item in items if "trailer" in item)
    yield from set_aside


def _make_cache_folder(settings: Settings) -> Path:
    folder = settings.sources.cache_folder.expanduser().absolute() / "imdb_html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LocalFaultError(f"the cache in {folder} cannot be used ({error}): make room, or delete it") from error
    return folder


def _judge_end(
    result: dict[str, Any], counts: dict[str, Any], n_items: int, settings: CatalogSettings, stderr_tail: str
) -> None:
    """Raise unless the chart was read to its end: Scrapy ends well with pages of errors, and with none at all."""
    site = settings.base_url
    if counts.get("retry_after_s"):
        wait_s = float(counts["retry_after_s"])
        raise RateLimitedError(f"{site} asks to wait {wait_s:.0f} s before it is read on", retry_after_s=wait_s)
    if result["finish_reason"] == "blocked" or (counts.get("challenges") and not counts.get("chart_pages")):
        raise SourceBlockedError(
            f"{site} answers robots with a challenge (first at {result['first_blocked_url']}); it is not gone round: "
            "ask the site for access, or set another source"
        )
    if result["finish_reason"] == "opted_out":
        raise SourceBlockedError(
            f"{site}{settings.chart_path} says that it is not for machines that learn ({result['chart_opt_out']}), "
            "which is obeyed: ask the site for access, or set another source"
        )
    if counts.get("charts_forbidden") and (why := counts.get("robots_unavailable")):
        raise SourceUnavailableError(f"robots.txt of {site} does not come ({why}), and without it nothing is read")
    if counts.get("charts_forbidden"):
        raise SourceBlockedError(f"robots.txt of {site} forbids {settings.chart_path}, which is obeyed")
    if counts.get("spider_exceptions/count") or n_items != counts.get("items", 0):
        raise ChildFailedError("the spider failed on a page", returncode=0, stderr_tail=stderr_tail)
    if result["finish_reason"] != "finished" or counts.get("chart_pages", 0) != counts["charts_asked"]:
        raise SourceUnavailableError(f"{site}{settings.chart_path} could not be read to its end")


def _judge_titles(set_aside: Iterable[Quarantine], n_titles: int, settings: CatalogSettings) -> None:
    """Raise when the chart lists nothing, or so many of its titles cannot be read that the day would not be whole."""
    if n_titles == 0:
        raise SourceUnavailableError(f"{settings.base_url}{settings.chart_path} lists no title")
    reasons = Counter(entry.reason for entry in set_aside)
    n_unread = reasons["unreachable"] + reasons["unreadable"]
    if n_unread > n_titles * _MAX_UNREAD_SHARE:
        raise SourceUnavailableError(
            f"{n_unread} of {n_titles} titles of {settings.base_url} could not be read "
            f"({reasons['unreachable']} did not come, {reasons['unreadable']} are not in a shape that is known)"
        )


def _set_aside(items: Iterable[dict[str, Any]]) -> list[Quarantine]:
    return [
        Quarantine(stage="catalog", is_permanent=True, **item["set_aside"]) for item in items if "set_aside" in item
    ]


def _wait(unanswered: dict[str, str]) -> list[Quarantine]:
    retry_at = dt.datetime.now(dt.UTC) + _RETRY_LATER
    return [
        Quarantine(
            id=f"imdb-{title_id}",
            stage="catalog",
            reason="unreachable",
            detail=why,
            is_permanent=False,
            retry_at=retry_at,
        )
        for title_id, why in unanswered.items()
    ]


def _unique(items: Iterable[dict[str, Any]]) -> list[Trailer]:
    """Each trailer once, in the order of the ids: as its own film lists it, or else the film with the smallest id.

    The order in which pages came does not matter.
    """
    best: dict[str, tuple[bool, Trailer]] = {}
    for item in items:
        trailer = Trailer.model_validate(item["trailer"])
        candidate = (not item["is_primary"], trailer)
        held = best.get(trailer.trailer_id, candidate)
        best[trailer.trailer_id] = min(held, candidate, key=lambda entry: (entry[0], entry[1].film_id))
    return [trailer for _, (_, trailer) in sorted(best.items())]
