"""Cutting a day's trailers into batches, and finding what is due for another try.

A batch is immutable. A trailer is in one batch only, unless that batch is done without it and its time to be tried
again has come: then it goes into a new batch of the day it was listed on. So no trailer can end up in two shards.

Does not belong here: trying.
"""

from __future__ import annotations

import datetime as dt
import logging
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, get_args

from trailer_ml.catalog.listing import list_batches, read_batch_ids, read_late, read_taken_down, read_trailers
from trailer_ml.errors import MissingObjectError
from trailer_ml.records import BatchRef, Quarantine, ShardManifest, Stage
from trailer_ml.storage import batch_key, quarantine_key, receipt_key, shard_manifest_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trailer_ml.records import Interval
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)


class _Batch(NamedTuple):
    ref: BatchRef
    trailer_ids: frozenset[str]
    sharded_ids: frozenset[str] | None
    """None: it has no shard yet."""
    rejected_ids: frozenset[str]


def plan_batches(interval: Interval, settings: Settings, store: Store) -> list[BatchRef]:
    """The batches that need work: those of the interval without a shard, and those with a trailer that is due again.

    New trailers of the interval's days, and those of other days that its crawl found late, are put into batches first,
    and so are trailers of any day that had to wait, whose time has come and whose batch is done without them. A second
    call plans nothing more, and once every shard is there it returns nothing.

    Args:
        interval: the listing dates of this run.
        settings: all; `catalog.batch_size` is read.
        store: where catalog, batches, shards and quarantine lie.
    """
    taken_down = read_taken_down(store)
    size = settings.catalog.batch_size
    pending: set[BatchRef] = set()
    for day in interval.days():
        listed = frozenset(trailer.trailer_id for trailer in read_trailers(store, day)) - taken_down
        batches = _create_batches(store, day, size, partial(_new, listed))
        if stranded := _find_stranded(store, batches) - taken_down:
            batches = _create_batches(store, day, size, partial(_left_behind, stranded))
        pending |= {batch.ref for batch in batches if batch.sharded_ids is None}
    for day, late in read_late(store, interval).items():
        batches = _create_batches(store, day, size, partial(_new, late - taken_down))
        pending |= {batch.ref for batch in batches if batch.sharded_ids is None and batch.trailer_ids & late}
    for day, due in _find_due(store, taken_down).items():
        batches = _create_batches(store, day, size, partial(_left_behind, due))
        pending |= {batch.ref for batch in batches if batch.sharded_ids is None and batch.trailer_ids & due}
    return sorted(pending, key=lambda batch: batch.path)


def _create_batches(
    store: Store, day: dt.date, size: int, choose: Callable[[list[_Batch]], frozenset[str]]
) -> list[_Batch]:
    """Batches of the day, once those that `choose` wants are in one; whoever loses a race for a number looks again."""
    while True:
        batches = list(_read_batches(store, day))
        ids = sorted(choose(batches))
        if not ids:
            return batches
        first = 1 + max((batch.ref.number for batch in batches), default=-1)
        for number, start in enumerate(range(0, len(ids), size), first):
            key = batch_key(BatchRef(listed_on=day, number=number))
            if not store.create_json(key, {"trailer_ids": ids[start : start + size]}):
                logger.info("%s was planned by somebody else at the same time", key)
                break


def _read_batches(store: Store, day: dt.date) -> Iterator[_Batch]:
    for ref in list_batches(store, day):
        ids = frozenset(read_batch_ids(store, ref))
        try:
            shard = ShardManifest.model_validate(store.read_json(shard_manifest_key(ref)))
        except (MissingObjectError, ValueError):  # a damaged one has to be made again: making the shard says so
            yield _Batch(ref, ids, None, frozenset())
            continue
        rejected = frozenset(rejected.trailer_id for rejected in shard.rejected)
        yield _Batch(ref, ids, frozenset(shard.trailer_ids), rejected)


def _new(ids: frozenset[str], batches: list[_Batch]) -> frozenset[str]:
    """Those that are in no batch yet."""
    return ids.difference(*(batch.trailer_ids for batch in batches))


def _left_behind(ids: frozenset[str], batches: list[_Batch]) -> frozenset[str]:
    """Those that are in a batch, in no shard, and in no batch that is still to be done."""
    at_work = (batch.trailer_ids if batch.sharded_ids is None else batch.sharded_ids for batch in batches)
    return (ids - _new(ids, batches)).difference(*at_work)


def _find_stranded(store: Store, batches: list[_Batch]) -> frozenset[str]:
    """Those that a second run of their batch downloaded after all, when its shard was already written."""
    done = [batch for batch in batches if batch.sharded_ids is not None]
    ids = frozenset().union(*(batch.trailer_ids for batch in done))
    unsettled = ids.difference(*(batch.sharded_ids or () for batch in done), *(batch.rejected_ids for batch in done))
    return frozenset(trailer_id for trailer_id in unsettled if store.exists(receipt_key(trailer_id)))


def _find_due(store: Store, taken_down: frozenset[str]) -> dict[dt.date, frozenset[str]]:
    """By listing date: the trailers that had to wait and need not any longer."""
    now = dt.datetime.now(dt.UTC)
    due = set()
    for stage in get_args(Stage):
        if stage == "catalog":
            continue
        for value in store.read_all_json(store.list_keys(quarantine_key(stage, "").removesuffix(".json"))):
            entry = Quarantine.model_validate(value)
            if entry.retry_at and entry.retry_at <= now and entry.id not in taken_down:
                due.add(entry.id)
    days: dict[dt.date, set[str]] = {}
    for trailer in read_trailers(store) if due else ():
        if trailer.trailer_id in due:
            days.setdefault(trailer.listed_on, set()).add(trailer.trailer_id)
    return {day: frozenset(ids) for day, ids in days.items()}
