"""What an index is made of: which vectors, of which trailers, and the name that follows from them.

Does not belong here: building it.
"""

from __future__ import annotations

import importlib.metadata
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trailer_ml.catalog.listing import read_taken_down
from trailer_ml.embeddings.stored import list_embedded, read_embedded, read_vectors
from trailer_ml.errors import DataError
from trailer_ml.storage import embeddings_manifest_key, encode_json, sha256_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trailer_ml.embeddings.stored import Embedded
    from trailer_ml.records import BatchRef, EmbeddedTrailer
    from trailer_ml.settings import IndexSettings
    from trailer_ml.storage import Store

    Vectors = NDArray[np.float32]

logger = logging.getLogger(__name__)

_READERS = 8  # objects read at once; the way to the store is most of the time


class Row(NamedTuple):
    """One trailer of the index, and where its vector is."""

    trailer: EmbeddedTrailer
    shard: int
    place: int


class Recipe(NamedTuple):
    """What an index is made of."""

    version: str
    model_version: str
    embedded: Sequence[Embedded]
    rows: Sequence[Row]
    n_taken_down: int


def read_all_embedded(model_version: str, store: Store) -> tuple[list[Embedded], list[str]]:
    """What is embedded, and the keys of the manifests that are damaged."""

    def read(batch: BatchRef) -> Embedded | None:
        try:
            return read_embedded(store, model_version, batch)
        except DataError as error:
            logger.warning("left out: %s", error)
            return None

    batches = list_embedded(store, model_version)
    with ThreadPoolExecutor(_READERS) as readers:
        found = list(readers.map(read, batches))
    damaged = [
        embeddings_manifest_key(model_version, batch)
        for batch, each in zip(batches, found, strict=True)
        if each is None
    ]
    return [each for each in found if each is not None], damaged


def write_recipe(model_version: str, embedded: Sequence[Embedded], settings: IndexSettings, store: Store) -> Recipe:
    """What goes in, and the name that this gives the index; of a trailer embedded twice the later batch counts."""
    found = {
        trailer.trailer_id: Row(trailer, shard, place)
        for shard, each in enumerate(embedded)
        for place, trailer in enumerate(each.manifest.trailers)
    }
    taken_down = read_taken_down(store) & found.keys()
    rows = [found[trailer_id] for trailer_id in sorted(found.keys() - taken_down)]
    if not rows:
        raise DataError(f"there is nothing to index: model {model_version} has embedded no trailer that is still up")
    version = name_version(model_version, embedded, taken_down, settings)
    return Recipe(version, model_version, embedded, rows, len(taken_down))


def name_version(
    model_version: str, embedded: Sequence[Embedded], taken_down: frozenset[str], settings: IndexSettings
) -> str:
    """The name of the index that this input gives."""
    everything = {
        "model_version": model_version,
        "embeddings": sorted(each.sha256 for each in embedded),
        "taken_down": sorted(taken_down),
        "n_trees": settings.n_trees,
        "seed": settings.seed,
        "search_effort": settings.search_effort or [settings.min_recall_at_10, settings.n_queries],
        "shards": settings.shards,
        "annoy": importlib.metadata.version("annoy"),
    }
    return f"i-{sha256_of(encode_json(everything))[:12]}"


def list_batches_of(recipe: Recipe) -> list[str]:
    """The paths of the batches whose trailers are in the index, but for those taken down, in order."""
    head, tail = f"embeddings/{recipe.model_version}/", ".npz"
    return sorted(each.manifest.key.removeprefix(head).removesuffix(tail) for each in recipe.embedded)


def gather_vectors(store: Store, recipe: Recipe) -> tuple[Vectors, set[int]]:
    """The vectors of the rows, (n, dim) float32, and the shards whose vectors are damaged: those rows mean nothing."""
    manifests = [each.manifest for each in recipe.embedded]
    shapes = {(manifests[row.shard].dim, manifests[row.shard].video_dim) for row in recipe.rows}
    if len(shapes) > 1:
        raise DataError(f"one model has embedded in different shapes (dim, video_dim): {sorted(shapes)}")
    ((dim, _),) = shapes
    vectors = np.empty((len(recipe.rows), dim), dtype=np.float32)
    damaged = set()
    of_shard: dict[int, list[int]] = {}
    for index_row, row in enumerate(recipe.rows):
        of_shard.setdefault(row.shard, []).append(index_row)

    def read(shard: int) -> Vectors | None:
        try:
            return read_vectors(store, manifests[shard])
        except DataError as error:
            logger.warning("left out: %s", error)
            return None

    with ThreadPoolExecutor(_READERS) as readers:
        for (shard, index_rows), of_this in zip(of_shard.items(), readers.map(read, of_shard), strict=True):
            if of_this is None:
                damaged.add(shard)
            else:
                vectors[index_rows] = of_this[[recipe.rows[index_row].place for index_row in index_rows]]
    return vectors, damaged
