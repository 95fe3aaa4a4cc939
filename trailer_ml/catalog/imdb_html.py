"""The source `imdb_html`: pages in IMDb's shape, read by a spider in a child process and judged by what it counted.

Does not belong here: the pages and the politeness (spiders/), and keeping what was found (crawl.py).
"""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any

from trailer_ml.catalog.source import Listing
from trailer_ml.catalog.spider_child import ITEMS_NAME, RESULT_NAME
from trailer_ml.errors import ChildFailedError, RateLimitedError, SourceBlockedError, SourceUnavailableError
from trailer_ml.processes import clean_environment, run_child
from trailer_ml.records import Interval, Quarantine, Trailer
from trailer_ml.scratch import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trailer_ml.settings import CatalogSettings

logger = logging.getLogger(__name__)

TERMS = (
    "IMDb's conditions of use forbid robots and scraping without its written consent: the spider runs only where you "
    "say that you have it, or that the site is your own."
)
_MAX_UNREAD_SHARE = 0.05
"""A day's catalog is written once: a crawl that could not reach or read more titles than this is made again instead."""


def list_trailers(interval: Interval, settings: CatalogSettings) -> Listing:
    """Crawl the chart. The site cannot be asked for dates, so trailers of any date are returned.

    Args:
        interval: not used: see above.
        settings: which site, and how politely.

    Raises:
        SourceBlockedError: the site answers with challenges, or robots.txt forbids the chart.
        SourceUnavailableError: the chart or too many titles did not come, or say nothing that can be read.
        RateLimitedError: the site asked for a longer wait than is set.
        ChildTimeoutError: the crawl ran past `catalog.timeout_s`.
    """
    del interval
    with scratch_folder("trailer-ml-crawl-") as folder:
        job_path = folder / "job.json"
        job = {"catalog": settings.model_dump(mode="json"), "folder": str(folder)}
        job_path.write_text(json.dumps(job), encoding="utf-8")
        arguments = [sys.executable, "-P", "-m", "trailer_ml.catalog.spider_child", str(job_path)]
        finished = run_child(arguments, timeout_s=settings.timeout_s, env=clean_environment(), cwd=folder)
        if not (folder / RESULT_NAME).exists():
            raise ChildFailedError("the crawl ended without a result", returncode=0, stderr_tail=finished.stderr_tail)
        result = json.loads((folder / RESULT_NAME).read_bytes())
        items = [json.loads(line) for line in (folder / ITEMS_NAME).read_bytes().splitlines()]
    counts = {name.removeprefix("trailer_ml/"): value for name, value in result["stats"].items()}
    _judge(result, counts, items, settings, finished.stderr_tail)
    return _listing(items, counts)


def _judge(
    result: dict[str, Any],
    counts: dict[str, Any],
    items: list[dict[str, Any]],
    settings: CatalogSettings,
    stderr_tail: str,
) -> None:
    """Raise unless the crawl was whole: Scrapy ends well with pages of errors, and with none at all."""
    site = settings.base_url
    if counts.get("retry_after_s"):
        wait_s = float(counts["retry_after_s"])
        raise RateLimitedError(f"{site} asks to wait {wait_s:.0f} s before it is read on", retry_after_s=wait_s)
    if result["finish_reason"] == "blocked" or (counts.get("challenges") and not counts.get("chart_pages")):
        raise SourceBlockedError(
            f"{site} answers robots with a challenge (first at {result['first_blocked_url']}); it is not gone round: "
            "ask the site for access, or set another source"
        )
    if counts.get("charts_forbidden"):
        raise SourceBlockedError(f"robots.txt of {site} forbids {settings.chart_path}, which is obeyed")
    if counts.get("spider_exceptions/count") or len(items) != counts.get("items", 0):
        raise ChildFailedError("the spider failed on a page", returncode=0, stderr_tail=stderr_tail)
    if result["finish_reason"] != "finished" or counts.get("charts_failed"):
        raise SourceUnavailableError(f"{site}{settings.chart_path} could not be read to its end")
    n_unreachable, n_titles = counts.get("titles_unreachable", 0), _n_titles(counts)
    if n_titles == 0:
        raise SourceUnavailableError(f"{site}{settings.chart_path} lists no title")
    n_unreadable = sum(item.get("set_aside", {}).get("reason") == "unreadable" for item in items)
    if n_unreachable + n_unreadable > n_titles * _MAX_UNREAD_SHARE:
        raise SourceUnavailableError(
            f"{n_unreachable + n_unreadable} of {n_titles} titles of {site} could not be read "
            f"({n_unreachable} did not come, {n_unreadable} are not in a shape that is known)"
        )


def _n_titles(counts: dict[str, Any]) -> int:
    return sum(int(counts.get(name, 0)) for name in ("titles_listed", "titles_set_aside", "titles_unreachable"))


def _listing(items: list[dict[str, Any]], counts: dict[str, Any]) -> Listing:
    set_aside = [
        Quarantine(stage="catalog", is_permanent=True, **item["set_aside"]) for item in items if "set_aside" in item
    ]
    if n_unreachable := counts.get("titles_unreachable", 0):
        logger.warning("%d titles could not be read and are left out", n_unreachable)
    return Listing(
        trailers=tuple(_unique(item for item in items if "trailer" in item)),
        set_aside=tuple(sorted(set_aside, key=lambda entry: entry.id)),
        n_titles_seen=_n_titles(counts),
        n_unreachable=n_unreachable,
    )


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
