"""Whether every shard is what its manifest says: hash, CRC of every record, count, ids, and that each record parses.

Does not belong here: mending. A shard is made again by deleting its manifest and running its task.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trailer_ml.errors import CorruptShardError, MissingObjectError
from trailer_ml.records import BadShard, VerifySummary
from trailer_ml.scratch import scratch_folder
from trailer_ml.shards.manifests import list_shards, read_manifest
from trailer_ml.shards.read import parse_record
from trailer_ml.shards.schema import read_trailer_id
from trailer_ml.shards.tfrecord import read_raw_records
from trailer_ml.storage import sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trailer_ml.records import ShardManifest
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store


def verify_shards(settings: Settings, store: Store) -> VerifySummary:  # noqa: ARG001 — all stages are called alike
    """Read every shard of the store, and name what is wrong with the bad ones."""
    bad: list[BadShard] = []
    shards = list_shards(store, bad=bad)
    n_shards, n_records = len(shards) + len(bad), 0
    with scratch_folder("trailer-ml-verify-") as folder:
        for batch, listed in shards:
            manifest, path = listed, folder / "shard.tfrecord"
            problems = tuple(_find_problems(manifest, path, store))
            now = read_manifest(batch, store) if problems else None
            if now and now != manifest:  # a trailer of it was taken down since it was listed
                manifest = now
                problems = tuple(_find_problems(manifest, path, store))
            n_records += manifest.count
            if problems:
                bad.append(BadShard(key=manifest.key, problems=problems))
    return VerifySummary(n_shards=n_shards, n_records=n_records, bad=tuple(bad))


def _find_problems(manifest: ShardManifest, path: Path, store: Store) -> Iterator[str]:
    try:
        store.read_file(manifest.key, path)
    except MissingObjectError:
        yield "the manifest is there, the records are not"
        return
    if sha256_of_file(path) != manifest.sha256:
        yield "its bytes are not those of its manifest (sha256)"
    trailer_ids = []
    try:
        for raw in read_raw_records(path):
            whose = read_trailer_id(raw.data)
            trailer_ids.append(whose)
            try:
                parse_record(raw)
            except CorruptShardError as error:
                yield f"record {raw.number} ({whose}): {error}"
    except CorruptShardError as error:
        yield str(error)
    if len(trailer_ids) != manifest.count:
        yield f"{len(trailer_ids)} records, {manifest.count} in the manifest"
    elif tuple(trailer_ids) != manifest.trailer_ids:
        yield "its records are of other trailers than the manifest says"
