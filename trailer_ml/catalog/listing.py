"""Reading what the catalog and the batches say.

Does not belong here: writing (crawl.py, batches.py), and what became of a trailer later.
"""

from __future__ import annotations

import datetime as dt
import itertools
from typing import TYPE_CHECKING

from trailer_ml.records import BatchRef, Trailer
from trailer_ml.storage import batch_key, catalog_key, late_key, tombstone_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trailer_ml.records import Interval
    from trailer_ml.storage import Store

_HEAD = "catalog/listed="


def read_trailers(store: Store, listed_on: dt.date | None = None) -> Iterator[Trailer]:
    """The trailers of the catalog, by day and then by id, each once; those taken down are among them.

    Args:
        store: where the catalog lies.
        listed_on: one day only; a day that was never crawled has none.
    """
    for _, keys in _list_files(store, "" if listed_on is None else f"{listed_on.isoformat()}/"):
        found: dict[str, Trailer] = {}
        for key in keys:  # two crawls at the same time may both have found the same one late
            for trailer in _read_file(store, key):
                found.setdefault(trailer.trailer_id, trailer)
        yield from (found[trailer_id] for trailer_id in sorted(found))


def read_late(store: Store, interval: Interval) -> dict[dt.date, frozenset[str]]:
    """By listing date: the ids that the crawl of the interval found, when the files of their days were written."""
    found: dict[dt.date, frozenset[str]] = {}
    for day, keys in _list_files(store):
        heads = tuple(late_key(day, found_on).removesuffix("jsonl") for found_on in interval.days())
        late = [key for key in keys if key.startswith(heads)]
        if late:
            found[day] = frozenset(trailer.trailer_id for key in late for trailer in _read_file(store, key))
    return found


def list_crawled_days(store: Store) -> frozenset[dt.date]:
    """The days whose files are written."""
    return frozenset(day for day, keys in _list_files(store) if catalog_key(day) in keys)


def _list_files(store: Store, tail: str = "") -> Iterator[tuple[dt.date, list[str]]]:
    """Days and the keys of their files."""
    for day, keys in itertools.groupby(store.list_keys(_HEAD + tail), lambda key: key[len(_HEAD) :].split("/")[0]):
        yield dt.date.fromisoformat(day), list(keys)


def _read_file(store: Store, key: str) -> Iterator[Trailer]:
    return (Trailer.model_validate_json(line) for line in store.read_bytes(key).splitlines())


def list_batches(store: Store, listed_on: dt.date | None = None) -> list[BatchRef]:
    """The batches there are, in order; of one day, or of all."""
    prefix = "batches/listed="
    keys = store.list_keys(prefix if listed_on is None else f"{prefix}{listed_on.isoformat()}/")
    return [BatchRef.from_path(key.removeprefix("batches/")) for key in keys]


def read_batch_ids(store: Store, batch: BatchRef) -> tuple[str, ...]:
    """The ids that a batch was planned with, in order.

    Raises:
        MissingObjectError: there is no such batch.
    """
    return tuple(store.read_json(batch_key(batch))["trailer_ids"])


def read_batch(store: Store, batch: BatchRef) -> tuple[Trailer, ...]:
    """The trailers of a batch, in order; those taken down since are left out.

    Raises:
        MissingObjectError: there is no such batch.
    """
    known = {trailer.trailer_id: trailer for trailer in read_trailers(store, batch.listed_on)}
    gone = read_taken_down(store)
    return tuple(known[trailer_id] for trailer_id in read_batch_ids(store, batch) if trailer_id not in gone)


def read_taken_down(store: Store) -> frozenset[str]:
    """The ids of all trailers that were taken down."""
    head, tail = tombstone_key("|").split("|")
    return frozenset(key.removeprefix(head).removesuffix(tail) for key in store.list_keys(head))
