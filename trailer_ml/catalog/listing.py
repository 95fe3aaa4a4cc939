"""Reading what the catalog and the batches say.

Does not belong here: writing (crawl.py, batches.py), and what became of a trailer later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trailer_ml.errors import MissingObjectError
from trailer_ml.records import BatchRef, Trailer
from trailer_ml.storage import batch_key, catalog_key, tombstone_key

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

    from trailer_ml.storage import Store


def read_trailers(store: Store, listed_on: dt.date | None = None) -> Iterator[Trailer]:
    """The trailers of the catalog, by day and then by id; those taken down are among them.

    Args:
        store: where the catalog lies.
        listed_on: one day only; a day that was never crawled has none.
    """
    keys = store.list_keys("catalog/listed=") if listed_on is None else iter([catalog_key(listed_on)])
    for key in keys:
        try:
            lines = store.read_bytes(key).splitlines()
        except MissingObjectError:
            continue
        yield from (Trailer.model_validate_json(line) for line in lines)


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
