"""All vectors of the champion, less what was taken down, to one Annoy file.

The version is a hash of everything that goes in, so the same input is the same index and is built once. The file is
always built fresh, for a built Annoy index cannot grow (Annoy #174); by one thread, for several would make it differ
from run to run (Annoy #603); and on disk, for the gaps of a file are zero, where memory holds what was there before.

Does not belong here: what is served (see publish.py).
"""

from __future__ import annotations

import importlib.metadata
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from annoy import AnnoyIndex

from trailer_ml.catalog.listing import read_taken_down
from trailer_ml.embeddings.stored import list_embedded, read_embedded, read_vectors, require_champion
from trailer_ml.errors import DataError, NoIndexError
from trailer_ml.index.recall import measure_recall
from trailer_ml.index.serve import ServedIndex
from trailer_ml.index.stored import ANNOY_FILE, IDS_FILE, MANIFEST_FILE, read_manifest, summarise
from trailer_ml.records import IndexManifest
from trailer_ml.scratch import scratch_folder
from trailer_ml.storage import encode_json, index_key, sha256_of, sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from trailer_ml.embeddings.stored import Embedded
    from trailer_ml.records import EmbeddedTrailer, IndexSummary
    from trailer_ml.settings import IndexSettings, Settings
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)

_READERS = 8  # objects read at once; the way to the store is most of the time


class Row(NamedTuple):
    """One trailer of the index, and where its vector is."""

    trailer: EmbeddedTrailer
    shard: int
    place: int


def build_index(settings: Settings, store: Store) -> IndexSummary:
    """Build the index of all that the champion has embedded, unless that very index is there.

    Raises:
        NoModelError: no model has been promoted yet.
        DataError: nothing is embedded, or all of it was taken down.
    """
    model_version = require_champion(store)
    batches = list_embedded(store, model_version)
    with ThreadPoolExecutor(_READERS) as readers:
        embedded = list(readers.map(partial(read_embedded, store, model_version), batches))
    found = _collect(embedded)
    taken_down = read_taken_down(store) & found.keys()
    rows = [found[trailer_id] for trailer_id in sorted(found.keys() - taken_down)]
    if not rows:
        raise DataError(f"there is nothing to index: model {model_version} has embedded no trailer that is still up")
    version = name_version(model_version, embedded, taken_down, settings.index)
    built = _read_built(store, version)
    if built:
        logger.info("index %s is there already", version)
        return summarise(built, is_new=False)
    vectors = _gather(store, embedded, rows)
    blank = IndexManifest(
        version=version,
        model_version=model_version,
        n=len(rows),
        dim=vectors.shape[1],
        video_dim=embedded[rows[0].shard].manifest.video_dim,
        n_trees=settings.index.n_trees,
        seed=settings.index.seed,
        search_effort=settings.index.search_effort,
        recall_at_10=0.0,
        n_queries=0,
        index_sha256="",
        ids_sha256="",
        n_taken_down=len(taken_down),
    )
    with scratch_folder(".aside-", settings.index.cache_folder.expanduser()) as folder:
        manifest = _write_files(folder, vectors, [row.trailer for row in rows], blank, settings.index.n_queries)
        store.put_file(index_key(version, ANNOY_FILE), folder / ANNOY_FILE)
        store.put_file(index_key(version, IDS_FILE), folder / IDS_FILE)
    store.create_json(index_key(version, MANIFEST_FILE), manifest.to_json())
    logger.info("index %s: %d trailers, recall@10 %.4f", version, manifest.n, manifest.recall_at_10)
    return summarise(manifest, is_new=True)


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
        "search_effort": settings.search_effort,
        "annoy": importlib.metadata.version("annoy"),
    }
    return f"i-{sha256_of(encode_json(everything))[:12]}"


def write_annoy(path: Path, vectors: NDArray[np.float32], *, n_trees: int, seed: int) -> None:
    """Build the Annoy file of some vectors; the same vectors give the same bytes.

    Args:
        path: of the file; none is there yet.
        vectors: (n, dim) float32.
        n_trees: more are slower, larger and find more.
        seed: of Annoy's own choices.
    """
    annoy = AnnoyIndex(vectors.shape[1], "angular")
    annoy.set_seed(seed)
    annoy.on_disk_build(str(path))
    for row, vector in enumerate(vectors):
        annoy.add_item(row, vector)
    annoy.build(n_trees, n_jobs=1)
    annoy.unload()


def _collect(embedded: Sequence[Embedded]) -> dict[str, Row]:
    """Where each trailer's vector is; of a trailer that was embedded twice the later batch counts."""
    return {
        trailer.trailer_id: Row(trailer, shard, place)
        for shard, each in enumerate(embedded)
        for place, trailer in enumerate(each.manifest.trailers)
    }


def _read_built(store: Store, version: str) -> IndexManifest | None:
    try:
        manifest = read_manifest(store, version)
    except NoIndexError:
        return None
    return manifest if all(store.exists(index_key(version, name)) for name in (ANNOY_FILE, IDS_FILE)) else None


def _gather(store: Store, embedded: Sequence[Embedded], rows: Sequence[Row]) -> NDArray[np.float32]:
    """The vectors of the rows, (n, dim) float32."""
    shapes = {(embedded[row.shard].manifest.dim, embedded[row.shard].manifest.video_dim) for row in rows}
    if len(shapes) > 1:
        raise DataError(f"one model has embedded in different shapes (dim, video_dim): {sorted(shapes)}")
    ((dim, _),) = shapes
    vectors = np.empty((len(rows), dim), dtype=np.float32)
    of_shard: dict[int, list[int]] = {}
    for index_row, row in enumerate(rows):
        of_shard.setdefault(row.shard, []).append(index_row)
    with ThreadPoolExecutor(_READERS) as readers:
        stored = readers.map(partial(read_vectors, store), [embedded[shard].manifest for shard in of_shard])
        for index_rows, of_this in zip(of_shard.values(), stored, strict=True):
            vectors[index_rows] = of_this[[rows[index_row].place for index_row in index_rows]]
    return vectors


def _write_files(
    folder: Path,
    vectors: NDArray[np.float32],
    trailers: Sequence[EmbeddedTrailer],
    blank: IndexManifest,
    n_queries: int,
) -> IndexManifest:
    """Write the two files of an index, and return its manifest with their hashes and what was measured."""
    write_annoy(folder / ANNOY_FILE, vectors, n_trees=blank.n_trees, seed=blank.seed)
    (folder / IDS_FILE).write_bytes(encode_json([trailer.to_json() for trailer in trailers]))
    with ServedIndex(folder, blank) as index:
        recall = measure_recall(index, vectors, n_queries)
    return blank.model_copy(
        update={
            "recall_at_10": recall.value,
            "n_queries": recall.n_queries,
            "index_sha256": sha256_of_file(folder / ANNOY_FILE),
            "ids_sha256": sha256_of_file(folder / IDS_FILE),
        }
    )
