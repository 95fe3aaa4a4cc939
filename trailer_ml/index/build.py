"""All vectors of the champion, less what was taken down, to an index.

The version is a hash of everything that goes in (see recipe.py), so the same input is the same index and is built
once.

Does not belong here: what is served (see publish.py).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from trailer_ml.embeddings.stored import require_champion
from trailer_ml.errors import ConflictError, DataError, NoIndexError
from trailer_ml.index.effort import FIRST_EFFORT, choose_effort
from trailer_ml.index.recall import measure_recall
from trailer_ml.index.recipe import gather_vectors, list_batches_of, read_all_embedded, write_recipe
from trailer_ml.index.serve import ServedIndex, open_index
from trailer_ml.index.split import write_files
from trailer_ml.index.stored import (
    BATCHES_FILE,
    MANIFEST_FILE,
    files_of,
    read_manifest,
    read_pointer,
    summarise,
)
from trailer_ml.records import IndexManifest
from trailer_ml.scratch import scratch_folder
from trailer_ml.storage import encode_json, index_key, sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from trailer_ml.index.recipe import Recipe
    from trailer_ml.records import EmbeddedTrailer, IndexSummary
    from trailer_ml.settings import IndexSettings, Settings
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)


def build_index(settings: Settings, store: Store) -> IndexSummary:
    """Build the index of all that the champion has embedded, unless that very index is there and whole.

    Embeddings that are damaged are left out, and named in the summary: `plan_embeddings` has them made again where it
    can, and where the shard is bad as well, the other trailers need not wait for somebody to mend it.

    Raises:
        NoModelError: no model has been promoted yet.
        DataError: nothing is embedded, or all of it was taken down.
        ConflictError: this very index is being deleted; try again.
    """
    model_version = require_champion(store)
    embedded, left_out = read_all_embedded(model_version, store)
    while True:
        recipe = write_recipe(model_version, embedded, settings.index, store)
        built = _read_built(recipe.version, settings.index, store)
        if built:
            logger.info("index %s is there already", recipe.version)
            return summarise(built, is_new=False, left_out=tuple(left_out))
        vectors, damaged = gather_vectors(store, recipe)
        if not damaged:
            manifest = _build(recipe, vectors, settings.index, store)
            return summarise(manifest, is_new=True, left_out=tuple(left_out))
        left_out += [embedded[shard].manifest.key for shard in sorted(damaged)]
        embedded = [each for shard, each in enumerate(embedded) if shard not in damaged]


def _read_built(version: str, settings: IndexSettings, store: Store) -> IndexManifest | None:
    """The manifest of an index that is there and whole.

    The one that is served, and those to go back to, are not read: they are never replaced, and publishing reads them.
    """
    seen = read_pointer(store)
    if seen and version in seen.pointer.doomed:
        raise ConflictError(f"index {version} is being deleted: build it again when that is done")
    try:
        manifest = read_manifest(store, version)
        if seen and version in {seen.pointer.version, *seen.pointer.previous}:
            return manifest if all(store.exists(index_key(version, name)) for name in files_of(manifest)) else None
        with open_index(manifest, store, settings.cache_folder, is_copied_anew=True):
            return manifest
    except NoIndexError:
        return None
    except DataError:
        logger.warning("index %s is damaged in the store: it is built again", version)
        return None


def _build(recipe: Recipe, vectors: NDArray[np.float32], settings: IndexSettings, store: Store) -> IndexManifest:
    """Build the index aside, and store it, its manifest last."""
    blank = IndexManifest(
        version=recipe.version,
        model_version=recipe.model_version,
        n=len(recipe.rows),
        dim=vectors.shape[1],
        video_dim=recipe.embedded[recipe.rows[0].shard].manifest.video_dim,
        n_trees=settings.n_trees,
        seed=settings.seed,
        search_effort=settings.search_effort or FIRST_EFFORT,
        recall_at_10=0.0,
        n_queries=0,
        index_sha256="",
        more_sha256=("",) * (min(settings.shards, len(recipe.rows)) - 1),
        ids_sha256="",
        n_taken_down=recipe.n_taken_down,
    )
    with scratch_folder(".aside-", settings.cache_folder.expanduser()) as folder:
        manifest = write_index(folder, vectors, [row.trailer for row in recipe.rows], blank, settings)
        for name in files_of(manifest):
            store.put_file(index_key(recipe.version, name), folder / name)
    store.put_json(index_key(recipe.version, BATCHES_FILE), list_batches_of(recipe))
    store.put_json(
        index_key(recipe.version, MANIFEST_FILE), manifest.to_json()
    )  # over a damaged one's, if there is any
    logger.info("index %s: %d trailers, recall@10 %.4f", recipe.version, manifest.n, manifest.recall_at_10)
    return manifest


def write_index(
    folder: Path,
    vectors: NDArray[np.float32],
    trailers: Iterable[EmbeddedTrailer],
    blank: IndexManifest,
    settings: IndexSettings,
) -> IndexManifest:
    """Write the files of an index, and return its manifest with their hashes, what was chosen and what was measured.

    Args:
        folder: where; empty.
        vectors: (n, dim) float32, unit rows.
        trailers: what each is the vector of.
        blank: the manifest without those; as many hashes as there are to be files.
        settings: how it is measured.
    """
    *names, ids_name = files_of(blank)
    write_files([folder / name for name in names], vectors, n_trees=blank.n_trees, seed=blank.seed)
    (folder / ids_name).write_bytes(encode_json([trailer.to_json() for trailer in trailers]))
    with ServedIndex(folder, blank) as index:
        effort = choose_effort(index, settings)
        recall = measure_recall(index, settings.n_queries)
    first, *more = (sha256_of_file(folder / name) for name in names)
    return blank.model_copy(
        update={
            "search_effort": effort,
            "recall_at_10": recall.value,
            "n_queries": recall.n_queries,
            "index_sha256": first,
            "more_sha256": tuple(more),
            "ids_sha256": sha256_of_file(folder / ids_name),
        }
    )
