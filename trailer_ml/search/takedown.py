"""Taking a trailer down: out of every answer at once, and what was made of it deleted.

The tombstone comes first: from then on nothing new is made of the trailer, answers leave it out, and whatever line this
ends at, calling it again deletes the rest. What stays is said in decision 12.

Does not belong here: how a record is taken out of a shard (shards/purge.py), and building an index without it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, get_args

from trailer_ml.catalog.listing import read_trailers
from trailer_ml.embeddings.stored import find_champion, find_served_model
from trailer_ml.errors import CorruptShardError
from trailer_ml.model.pictures import forget_picture
from trailer_ml.records import BadShard, BatchRef, EmbeddingsManifest, Stage, Takedown
from trailer_ml.search.report import forget_reports
from trailer_ml.search.unknown import explain_unknown
from trailer_ml.shards.manifests import list_shards
from trailer_ml.shards.purge import purge_shard
from trailer_ml.storage import (
    accepted_key,
    doubtful_key,
    embeddings_key,
    embeddings_manifest_key,
    media_key,
    quarantine_key,
    receipt_key,
    thumb_key,
    tombstone_key,
)

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Iterator

    from trailer_ml.storage import Store


def take_down(trailer_id: str, store: Store) -> Takedown:
    """Take one trailer down, for good. Calling it again deletes what a batch at work on it has stored since.

    Raises:
        UnknownTrailerError: the catalog lists no such trailer; the message names those that are close.
        CorruptShardError: a shard of its day is damaged, so that it cannot be said whether the trailer is in it; all
            but records and vectors is deleted by then. Make the shard again, which leaves the trailer out.
    """
    trailers = {trailer.trailer_id: trailer for trailer in read_trailers(store)}
    if trailer_id not in trailers:
        raise explain_unknown(trailer_id, trailers.values())
    listed_on = trailers[trailer_id].listed_on
    is_new = store.create_json(tombstone_key(trailer_id), {"trailer_id": trailer_id})
    deleted = _delete(_list_own(trailer_id), store)
    deleted["pictures"] = forget_picture(trailer_id, store)
    deleted["ads"] = forget_reports(trailer_id, store)
    bad: list[BadShard] = []
    deleted["records"] = sum(purge_shard(batch, store) for batch, _ in list_shards(store, listed_on, bad))
    if bad:
        raise CorruptShardError("; ".join(problem for shard in bad for problem in shard.problems))
    deleted += _delete(list(_list_vectors(trailer_id, listed_on, store)), store)
    return Takedown(trailer_id=trailer_id, is_new=is_new, deleted=dict(sorted((+deleted).items())))


def _list_own(trailer_id: str) -> list[str]:
    """Keys of what is this trailer's alone; the receipt before the bytes that it speaks of."""
    return [
        receipt_key(trailer_id),
        media_key(trailer_id),
        thumb_key(trailer_id),
        *(quarantine_key(stage, trailer_id) for stage in get_args(Stage)),
        accepted_key(trailer_id),
        doubtful_key(trailer_id),
    ]


def _list_vectors(trailer_id: str, listed_on: dt.date, store: Store) -> Iterator[str]:
    """Keys of vectors of its shard by models that are not in use, each manifest last: by it they are found again.

    Those by the champion and by the model of the served index are stale with the shard's hash: the next index run makes
    them again. Until then the other trailers of the shard need them, and every build leaves out what is taken down.
    """
    in_use = {find_champion(store), find_served_model(store)}
    for key in store.list_keys("embeddings/"):
        _, model_version, path = key.split("/", 2)
        if model_version in in_use or not path.startswith(f"listed={listed_on}/") or not path.endswith(".json"):
            continue
        manifest = EmbeddingsManifest.model_validate(store.read_json(key))
        if any(trailer.trailer_id == trailer_id for trailer in manifest.trailers):
            batch = BatchRef.from_path(path)
            yield from (embeddings_key(model_version, batch), embeddings_manifest_key(model_version, batch))


def _delete(keys: Iterable[str], store: Store) -> Counter[str]:
    """Delete what there is of some objects; how many there were, by the first part of their keys."""
    deleted: Counter[str] = Counter()
    for key in keys:
        if store.exists(key):
            store.delete(key)
            deleted[key.split("/")[0]] += 1
    return deleted
