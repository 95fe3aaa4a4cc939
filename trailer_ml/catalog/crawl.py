"""Asking the source which trailers there are, and keeping the answer: one file a day, written once.

What a day's file holds depends on what the sources say and on what the catalog had, and on nothing else, so that the
same answer gives the same bytes. What is found when its day is written already goes into a file of its own beside it
(decision 9).

Does not belong here: how a source is read (source.py and the modules it names), and what happens to a trailer later.
"""

from __future__ import annotations

import datetime as dt
import itertools
import logging
from collections import Counter
from typing import TYPE_CHECKING

from trailer_ml.catalog.choose import choose_trailers
from trailer_ml.catalog.films import merge_films
from trailer_ml.catalog.listing import list_crawled_days, read_trailers
from trailer_ml.catalog.review import keep_doubtful, read_accepted, read_accepted_ids
from trailer_ml.catalog.source import list_sources
from trailer_ml.errors import SettingsError
from trailer_ml.records import CatalogSummary, Quarantine, Trailer
from trailer_ml.storage import catalog_key, encode_json, late_key, quarantine_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trailer_ml.records import Interval
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)

_GIVE_UP_AFTER = 10
"""A title that did not come in so many crawls is no longer asked for, unless it is on the chart."""


def crawl_catalog(interval: Interval, settings: Settings, store: Store) -> CatalogSummary:
    """List the trailers of an interval of listing dates, one catalog file a day.

    An interval whose every day has its file is not crawled again; of its summary, the titles seen are then those
    listed. A crawl that ended badly raises and writes nothing, but for a source that does not want us: that is
    kept for people (blocked.py). A trailer that the file of another day has already
    stays there, whatever date it has now; one that no file has, though that of its day is written, is listed late.

    Args:
        interval: the listing dates of this run.
        settings: all; `catalog` and `sources` are read.
        store: where the catalog and the titles set aside go.

    Raises:
        SettingsError: a day is not over yet, there is no bucket, or the terms of the source have to be accepted first.
        SourceBlockedError: the source does not want robots.
        SourceUnavailableError: the source does not answer, or too few of its pages came.
        RateLimitedError: the source asked for a longer wait than is set.
    """
    crawled = list_crawled_days(store)  # all, and not one by one: this notices that there is no bucket
    missing = [day for day in interval.days() if day not in crawled]
    if not missing:
        trailers = _read_interval(interval, store)
        n_titles = len({trailer.film_id for trailer in trailers})
        return _summary(interval, n_listed=len(trailers), n_titles_seen=n_titles, is_new=False)
    _check_is_over(missing[-1])
    known = _read_set_aside(store)
    listing = list_sources(interval, settings, store, _find_due(known.values()))
    found = _choose(listing.trailers, settings, store)
    new = [entry for entry in found if isinstance(entry, Trailer)]
    set_aside = [*listing.set_aside, *(entry for entry in found if isinstance(entry, Quarantine))]
    late = [trailer for trailer in new if trailer.listed_on in crawled]
    _keep_set_aside(set_aside, known, store)
    for day in sorted({trailer.listed_on for trailer in late}):
        tries = (late_key(day, missing[-1], number) for number in itertools.count())
        next(key for key in tries if _create_file(key, day, late, store))
    for day in missing:
        _create_file(catalog_key(day), day, new, store)
    for name in sorted(known.keys() & {name for trailer in new for name in (trailer.film_id, trailer.trailer_id)}):
        store.delete(quarantine_key("catalog", name))
    summary = _summary(
        interval,
        n_listed=len(_read_interval(interval, store)),
        n_late=len(late),
        n_titles_seen=listing.n_titles_seen,
        set_aside=Counter(entry.reason for entry in set_aside),
        is_new=True,
    )
    logger.info("%d trailers listed in [%s, %s), %d late", summary.n_listed, interval.start, interval.end, len(late))
    return summary


def _choose(offered: Iterable[Trailer], settings: Settings, store: Store) -> list[Trailer | Quarantine]:
    """The new ones among what was offered: their films merged with those of the catalog, the best of each kept."""
    catalog = list(read_trailers(store))
    listed = {trailer.trailer_id for trailer in catalog}
    accepted = read_accepted_ids(store) - listed
    known = {trailer.trailer_id: trailer for trailer in (*read_accepted(accepted, store), *offered)}
    new = merge_films((trailer for trailer in known.values() if trailer.trailer_id not in listed), catalog)
    found = list(choose_trailers(new, catalog, accepted, settings))
    keep_doubtful((entry for entry in found if isinstance(entry, Quarantine)), new, store)
    return found


def _check_is_over(day: dt.date) -> None:
    """A day's file is written once, and until midnight more may be listed."""
    today = dt.datetime.now(dt.UTC).date()
    if day >= today:
        raise SettingsError(f"{day} is not over (UTC): a day is crawled once, when all of it is there")


def _read_interval(interval: Interval, store: Store) -> list[Trailer]:
    return [trailer for day in interval.days() for trailer in read_trailers(store, day)]


def _summary(
    interval: Interval,
    *,
    n_listed: int,
    n_titles_seen: int,
    is_new: bool,
    n_late: int = 0,
    set_aside: Mapping[str, int] | None = None,
) -> CatalogSummary:
    return CatalogSummary(
        listed_on=interval.start,
        key=catalog_key(interval.start),
        n_listed=n_listed,
        n_late=n_late,
        n_titles_seen=n_titles_seen,
        set_aside=dict(sorted((set_aside or {}).items())),
        is_new=is_new,
    )


def _create_file(key: str, day: dt.date, trailers: Iterable[Trailer], store: Store) -> bool:
    """Name those of a day in a file; False where that file is there and names others."""
    of_day = sorted((each for each in trailers if each.listed_on == day), key=lambda trailer: trailer.trailer_id)
    data = b"".join(encode_json(trailer.to_json()) for trailer in of_day)
    return store.create_bytes(key, data, "application/jsonl") or store.read_bytes(key) == data


def _read_set_aside(store: Store) -> dict[str, Quarantine]:
    keys = store.list_keys(quarantine_key("catalog", "").removesuffix(".json"))
    entries = (Quarantine.model_validate(value) for value in store.read_all_json(keys))
    return {entry.id: entry for entry in entries}


def _find_due(entries: Iterable[Quarantine]) -> frozenset[str]:
    now = dt.datetime.now(dt.UTC)
    return frozenset(entry.id for entry in entries if entry.retry_at and entry.retry_at <= now)


def _keep_set_aside(entries: Iterable[Quarantine], known: Mapping[str, Quarantine], store: Store) -> None:
    """Why a title is not in, said once for each reason."""
    for entry in entries:
        before = known.get(entry.id)
        kept = entry if before is None or before.reason != entry.reason else _wait_again(before, entry)
        if kept != before:
            store.put_json(quarantine_key("catalog", entry.id), kept.to_json())


def _wait_again(before: Quarantine, now: Quarantine) -> Quarantine:
    """What is kept of a title that is set aside again for the same reason."""
    if not _find_due([before]):  # it is said already, or given up, or has not had to wait long enough
        return before
    attempts = before.attempts + 1
    if attempts < _GIVE_UP_AFTER:
        return now.model_copy(update={"attempts": attempts})
    return now.model_copy(update={"attempts": attempts, "is_permanent": True, "retry_at": None})
