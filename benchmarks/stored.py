"""A shard that a benchmark has written, put into a store as the pipeline would: with its manifest and a catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trailer_ml.records import ShardManifest
from trailer_ml.shards.schema import SCHEMA_VERSION
from trailer_ml.storage import catalog_key, sha256_of_file, shard_key, shard_manifest_key

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trailer_ml.records import BatchRef, Trailer
    from trailer_ml.settings import FeatureSettings
    from trailer_ml.storage import Store


def put_catalog(trailers: Sequence[Trailer], store: Store) -> None:
    """Trailers that were all listed on one day."""
    lines = "".join(trailer.model_dump_json() + "\n" for trailer in trailers)
    store.put_bytes(catalog_key(trailers[0].listed_on), lines.encode())


def put_shard(
    path: Path, batch: BatchRef, trailers: Sequence[Trailer], features: FeatureSettings, store: Store
) -> None:
    """The file of a batch, which holds a record of each of these trailers, and then its manifest."""
    store.put_file(shard_key(batch), path)
    manifest = ShardManifest(
        key=shard_key(batch),
        sha256=sha256_of_file(path),
        size_bytes=path.stat().st_size,
        count=len(trailers),
        trailer_ids=tuple(trailer.trailer_id for trailer in trailers),
        film_ids=tuple(trailer.film_id for trailer in trailers),
        sampler=features.sampler,
        features=features.model_dump(mode="json"),
        schema_version=SCHEMA_VERSION,
        extractor_version=features.extractor_version,
    )
    store.put_json(shard_manifest_key(batch), manifest.to_json())
