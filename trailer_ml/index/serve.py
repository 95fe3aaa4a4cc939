"""An index at hand: memory-mapped from a copy on this machine, with what is known of its trailers.

The copy lies in a folder named after the version, is checked against the manifest whenever it is opened, and appears
there whole or not at all.

Does not belong here: which trailers an answer leaves out, and what an answer looks like (see search/).
"""

from __future__ import annotations

import logging
import shutil
import time
from typing import TYPE_CHECKING, Self

import numpy as np
from annoy import AnnoyIndex
from pydantic import TypeAdapter

from trailer_ml.errors import DataError, MissingObjectError, ModelMismatchError, NoIndexError
from trailer_ml.index.stored import ANNOY_FILE, IDS_FILE, explain_damage, read_current_manifest, read_pointer
from trailer_ml.records import EmbeddedTrailer
from trailer_ml.scratch import scratch_folder
from trailer_ml.storage import index_key, sha256_of_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from trailer_ml.records import IndexManifest
    from trailer_ml.storage import Store

    Vectors = NDArray[np.float32]

logger = logging.getLogger(__name__)
_NEW_S = 24 * 3600.0
_TRAILERS = TypeAdapter(tuple[EmbeddedTrailer, ...])


class ServedIndex:
    """An index, memory-mapped while the block runs.

    Args:
        folder: holds its files.
        manifest: what they are.
    """

    def __init__(self, folder: Path, manifest: IndexManifest) -> None:
        self.manifest = manifest
        self.trailers = _TRAILERS.validate_json((folder / IDS_FILE).read_bytes())
        """What each row is a vector of, in the order of the rows."""
        self.row_of = {trailer.trailer_id: row for row, trailer in enumerate(self.trailers)}
        self.rows_of_film: dict[str, list[int]] = {}
        for row, trailer in enumerate(self.trailers):
            self.rows_of_film.setdefault(trailer.film_id, []).append(row)
        self._annoy = AnnoyIndex(manifest.dim, "angular")
        self._annoy.load(str(folder / ANNOY_FILE))
        if not self._annoy.get_n_items() == len(self.trailers) == manifest.n:
            raise DataError(
                f"index {manifest.version} is damaged: its manifest says {manifest.n} trailers, its ids"
                f" {len(self.trailers)}, its vectors {self._annoy.get_n_items()}"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._annoy.unload()

    def vector(self, row: int) -> Vectors:
        """The (dim,) float32 vector of one row."""
        return np.array(self._annoy.get_item_vector(row), dtype=np.float32)

    def vectors(self) -> Vectors:
        """All of them, (n, dim) float32, in memory."""
        every = np.empty((self.manifest.n, self.manifest.dim), dtype=np.float32)
        for row in range(self.manifest.n):
            every[row] = self._annoy.get_item_vector(row)
        return every

    def nearest(self, query: Vectors, n: int, *, model_version: str) -> list[int]:
        """The rows of about the `n` nearest, nearest first.

        Args:
            query: (dim,) float.
            n: as many as there are where there are fewer.
            model_version: the model that made the query.

        Raises:
            ModelMismatchError: the index holds the vectors of another model, whose numbers mean something else.
        """
        if model_version != self.manifest.model_version:
            raise ModelMismatchError(
                f"index {self.manifest.version} holds vectors of model {self.manifest.model_version}, not of"
                f" {model_version}: build and publish an index for that model"
            )
        n = min(n, self.manifest.n)
        search_k = n * self.manifest.n_trees * self.manifest.search_effort
        rows: list[int] = self._annoy.get_nns_by_vector(query, n, search_k)
        return rows


def open_current_index(store: Store, cache_folder: Path) -> ServedIndex:
    """The published index, copied to this machine if it is not there yet.

    Args:
        store: where it is published.
        cache_folder: keeps the copies; those that can no longer be served are removed.

    Raises:
        NoIndexError: none has been published.
        DataError: what the store holds is not what its manifest says.
    """
    try:
        return open_index(read_current_manifest(store), store, cache_folder)
    except NoIndexError:  # published over and deleted while we were on the way: then there is a newer one
        return open_index(read_current_manifest(store), store, cache_folder)


def open_index(
    manifest: IndexManifest, store: Store, cache_folder: Path, *, is_copied_anew: bool = False
) -> ServedIndex:
    """One index of the store, copied to this machine if it is not there yet. See open_current_index.

    With `is_copied_anew` it is copied in any case: a copy that holds says nothing of the bytes in the store.
    """
    root = cache_folder.expanduser()
    folder = root / manifest.version
    if is_copied_anew or not _holds(folder, manifest):
        _copy(manifest, store, root)
        _forget_others(root, store)
    return ServedIndex(folder, manifest)


def _holds(folder: Path, manifest: IndexManifest) -> bool:
    hashes = {ANNOY_FILE: manifest.index_sha256, IDS_FILE: manifest.ids_sha256}
    try:
        return all(sha256_of_file(folder / name) == sha256 for name, sha256 in hashes.items())
    except FileNotFoundError:
        return False


def _copy(manifest: IndexManifest, store: Store, root: Path) -> None:
    with scratch_folder(".aside-", root) as aside:
        for name in (ANNOY_FILE, IDS_FILE):
            try:
                store.read_file(index_key(manifest.version, name), aside / name)
            except MissingObjectError as error:
                raise NoIndexError(f"index {manifest.version} is gone from the store") from error
        if not _holds(aside, manifest):
            raise DataError(explain_damage(manifest.version))
        folder = root / manifest.version
        folder.mkdir(exist_ok=True)
        for name in (ANNOY_FILE, IDS_FILE):  # each is whole, and whoever has an older one open keeps it
            (aside / name).replace(folder / name)


def _forget_others(root: Path, store: Store) -> None:
    """Remove the copies of what can no longer be served; a process that has one open keeps its memory map.

    A copy of less than a day may be one that is being verified, and stays.
    """
    seen = read_pointer(store)
    served = {seen.pointer.version, *seen.pointer.previous} if seen else set()
    for folder in root.glob("i-*/"):
        if folder.name not in served and folder.stat().st_mtime < time.time() - _NEW_S:
            logger.info("index %s is no longer served: its copy is removed", folder.name)
            shutil.rmtree(folder, ignore_errors=True)
