"""Asking the source which trailers there are, and keeping the answer: one file a day, written once.

What a day's file holds depends on what the source says and on nothing else, so that the same answer gives the same
bytes.

Does not belong here: how a source is read (source.py and the modules it names), and what happens to a trailer later.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections import Counter
from typing import TYPE_CHECKING

from trailer_ml.catalog.listing import read_trailers
from trailer_ml.catalog.source import list_source
from trailer_ml.errors import SettingsError
from trailer_ml.records import CatalogSummary
from trailer_ml.storage import catalog_key, encode_json, quarantine_key

if TYPE_CHECKING:
    from trailer_ml.catalog.source import Listing
    from trailer_ml.records import Interval, Trailer
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)


def crawl_catalog(interval: Interval, settings: Settings, store: Store) -> CatalogSummary:
    """List the trailers of an interval of listing dates, one catalog file a day.

    An interval whose every day has its file is not crawled again; of its summary, the titles seen are then those
    listed. A crawl that ended badly raises and writes nothing. A trailer that the file of another day has already
    stays there, whatever date it has now.

    Args:
        interval: the listing dates of this run.
        settings: all; `catalog` is read.
        store: where the catalog and the titles set aside go.

    Raises:
        SettingsError: a day is not over yet, there is no bucket, or the terms of the source have to be accepted first.
        SourceBlockedError: the source does not want robots.
        SourceUnavailableError: the source does not answer, or too few of its pages came.
        RateLimitedError: the source asked for a longer wait than is set.
    """
    there = set(store.list_keys("catalog/listed="))  # and not one by one: this notices that there is no bucket
    missing = [day for day in interval.days() if catalog_key(day) not in there]
    if not missing:
        trailers = _read_interval(interval, store)
        n_titles = len({trailer.film_id for trailer in trailers})
        return _summary(interval, n_listed=len(trailers), n_titles_seen=n_titles, set_aside={}, is_new=False)
    _check_is_over(missing[-1])
    listing = list_source(interval, settings.catalog)
    _keep_set_aside(listing, store)
    listed = {trailer.trailer_id for trailer in read_trailers(store)}
    new = [trailer for trailer in listing.trailers if trailer.trailer_id not in listed]
    for day in missing:
        _create_day(day, [trailer for trailer in new if trailer.listed_on == day], store)
    reasons = Counter(entry.reason for entry in listing.set_aside)
    if listing.n_unreachable:
        reasons["unreachable"] = listing.n_unreachable
    n_listed = len(_read_interval(interval, store))
    summary = _summary(
        interval,
        n_listed=n_listed,
        n_titles_seen=listing.n_titles_seen,
        set_aside=dict(sorted(reasons.items())),
        is_new=True,
    )
    logger.info("%d trailers listed in [%s, %s)", n_listed, interval.start, interval.end)
    return summary


def _check_is_over(day: dt.date) -> None:
    """A day's file is written once, and until midnight more may be listed."""
    today = dt.datetime.now(dt.UTC).date()
    if day >= today:
        raise SettingsError(f"{day} is not over (UTC): a day is crawled once, when all of it is there")


def _read_interval(interval: Interval, store: Store) -> list[Trailer]:
    return [trailer for day in interval.days() for trailer in read_trailers(store, day)]


def _summary(
    interval: Interval, *, n_listed: int, n_titles_seen: int, set_aside: dict[str, int], is_new: bool
) -> CatalogSummary:
    return CatalogSummary(
        listed_on=interval.start,
        key=catalog_key(interval.start),
        n_listed=n_listed,
        n_titles_seen=n_titles_seen,
        set_aside=set_aside,
        is_new=is_new,
    )


def _create_day(day: dt.date, trailers: list[Trailer], store: Store) -> None:
    lines = (encode_json(trailer.to_json()) for trailer in sorted(trailers, key=lambda trailer: trailer.trailer_id))
    store.create_bytes(catalog_key(day), b"".join(lines), "application/jsonl")


def _keep_set_aside(listing: Listing, store: Store) -> None:
    """Why a title is not in, said once; a title that has got a trailer since is no longer set aside."""
    head = quarantine_key("catalog", "").removesuffix(".json")
    known = {key.removeprefix(head).removesuffix(".json") for key in store.list_keys(head)}
    for film_id in sorted(known & {trailer.film_id for trailer in listing.trailers}):
        store.delete(quarantine_key("catalog", film_id))
    for entry in listing.set_aside:
        if entry.id not in known:
            store.create_json(quarantine_key("catalog", entry.id), entry.to_json())
