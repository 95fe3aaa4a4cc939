"""Leaving what was taken down out of a shard that is written.

A shard's records are never overwritten: those that stay go to a key of their own, the manifest is swapped for one that
names it, and the old records are deleted last. So the manifest's hash holds at every moment, and a call that ends
anywhere is mended by the next (decision 12).

Does not belong here: deciding what is taken down (search), and what else was made of it.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from trailer_ml.catalog.listing import read_taken_down
from trailer_ml.errors import ConflictError, CorruptShardError, MissingObjectError
from trailer_ml.records import Rejected, ShardManifest
from trailer_ml.scratch import scratch_folder
from trailer_ml.shards.read import cached_shard
from trailer_ml.shards.schema import read_trailer_id
from trailer_ml.shards.tfrecord import read_raw_records, write_record
from trailer_ml.storage import purged_shard_key, sha256_of_file, shard_manifest_key, thumb_key

if TYPE_CHECKING:
    from collections.abc import Collection

    from trailer_ml.records import BatchRef
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)

_TAKEN_DOWN = "taken_down"


def purge_shard(batch: BatchRef, store: Store) -> int:
    """Take the records of trailers that were taken down out of a shard, and delete what is left of them beside it.

    Returns:
        How many records the shard lost; 0 where there is no shard yet.

    Raises:
        CorruptShardError: the shard is not what its manifest says, so that nothing can be said of its records.
    """
    n_purged = 0
    while (gone := read_taken_down(store)) and (seen := store.read_pointer(shard_manifest_key(batch))):
        manifest = ShardManifest.model_validate(seen.value)
        if gone.isdisjoint(manifest.trailer_ids):
            _delete_left_over(batch, manifest, gone, store)
            break
        with scratch_folder("trailer-ml-purge-") as folder:
            try:
                purged = _write_aside(batch, manifest, gone, folder, store)
                store.swap_pointer(shard_manifest_key(batch), purged.to_json(), seen)
            except ConflictError:  # another trailer of it was taken down at the same moment
                continue
            except CorruptShardError as error:
                if not isinstance(error.__cause__, MissingObjectError):
                    raise
                logger.warning("%s: there are no records to take anything out of", manifest.key)
                break
        for trailer_id in gone.intersection(manifest.trailer_ids):
            store.delete(thumb_key(trailer_id))
        n_purged += manifest.count - purged.count
        logger.info("%s: %d records were taken down", batch.path, manifest.count - purged.count)
    return n_purged


def _write_aside(
    batch: BatchRef, manifest: ShardManifest, gone: Collection[str], folder: Path, store: Store
) -> ShardManifest:
    """Store the records that stay; returns the manifest that is to name them."""
    path = folder / "records.tfrecord"
    with path.open("wb") as file:
        for raw in read_raw_records(cached_shard(store, batch, manifest, folder / "before")):
            if read_trailer_id(raw.data) not in gone:
                write_record(file, raw.data)
    sha256 = sha256_of_file(path)
    key = purged_shard_key(batch, sha256)
    store.put_file(key, path)
    films = dict(zip(manifest.trailer_ids, manifest.film_ids, strict=True))
    kept = {trailer_id: film_id for trailer_id, film_id in films.items() if trailer_id not in gone}
    taken = [Rejected(trailer_id=trailer_id, reason=_TAKEN_DOWN) for trailer_id in films if trailer_id in gone]
    rejected = sorted([*manifest.rejected, *taken], key=lambda each: each.trailer_id)
    return ShardManifest.model_validate(
        manifest.to_json()
        | {
            "key": key,
            "sha256": sha256,
            "size_bytes": path.stat().st_size,
            "count": len(kept),
            "trailer_ids": tuple(kept),
            "film_ids": tuple(kept.values()),
            "short": tuple(trailer_id for trailer_id in manifest.short if trailer_id in kept),
            "silent": tuple(trailer_id for trailer_id in manifest.silent if trailer_id in kept),
            "damaged": tuple(trailer_id for trailer_id in manifest.damaged if trailer_id in kept),
            "rejected": tuple(each.to_json() for each in rejected),
        }
    )


def _delete_left_over(batch: BatchRef, manifest: ShardManifest, gone: Collection[str], store: Store) -> None:
    """Delete records beside the shard, where some of them are of a trailer that was taken down.

    Nobody can be about to name these: whoever read the manifest before it was without that trailer fails to swap it.
    Records without any such trailer may just be about to be named, and stay.
    """
    for key in list(store.list_keys(f"shards/{batch.path}.")):
        if not key.endswith(".tfrecord") or key == manifest.key:
            continue
        with scratch_folder("trailer-ml-purge-") as folder:
            path = folder / "records.tfrecord"
            with suppress(MissingObjectError):  # another call was faster
                store.read_file(key, path)
                if _holds_any(path, gone):
                    store.delete(key)


def _holds_any(path: Path, trailer_ids: Collection[str]) -> bool:
    try:
        return any(read_trailer_id(raw.data) in trailer_ids for raw in read_raw_records(path))
    except CorruptShardError:
        return True  # nothing can be said of it, and no manifest names it
