"""An index at hand: memory-mapped from a copy on this machine, with what is known of its trailers.

The copy lies in a folder named after the version, is checked against the manifest whenever it is opened, and appears
there whole or not at all. Vectors are read where Annoy keeps them: at the head of its file, each behind 12 bytes.

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
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from trailer_ml.records import IndexManifest
    from trailer_ml.storage import Store

    Vectors = NDArray[np.float32]

logger = logging.getLogger(__name__)
_NEW_S = 24 * 3600.0
_TRAILERS = TypeAdapter(tuple[EmbeddedTrailer, ...])


class ServedIndex:
    """An index, memory-mapped while the block runs, and what was taken in since (see rest.py), as rows behind its own.

    Several threads may ask it while one takes something in.

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
        self.batches_seen: frozenset[str] | None = None
        """Whose trailers are in it or were taken in; None: not known yet."""
        self.look_again_at = 0.0
        """Moment of time.monotonic() before which nobody looks for more."""
        self._rest = np.empty((0, manifest.dim), dtype=np.float32)
        self._annoy = AnnoyIndex(manifest.dim, "angular")
        self._annoy.load(str(folder / ANNOY_FILE))
        if not self._annoy.get_n_items() == len(self.trailers) == manifest.n:
            raise DataError(
                f"index {manifest.version} is damaged: its manifest says {manifest.n} trailers, its ids"
                f" {len(self.trailers)}, its vectors {self._annoy.get_n_items()}"
            )
        node = np.dtype([("head", "V12"), ("vector", "<f4", (manifest.dim,))])
        self._vectors: Vectors = np.asarray(
            np.memmap(folder / ANNOY_FILE, node, mode="r", shape=(manifest.n,))["vector"]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._annoy.unload()

    @property
    def n(self) -> int:
        """How many rows there are, with those that were taken in."""
        return len(self.trailers)

    def take_in(self, trailers: Sequence[EmbeddedTrailer], vectors: Vectors) -> None:
        """Answer for more trailers, from memory. By one thread at a time.

        Args:
            trailers: none of them is in it yet.
            vectors: (len(trailers), dim) float32, of the model that the index is of.
        """
        first = self.n
        self.trailers += tuple(trailers)  # before their vectors: a row that is found has a name
        self._rest = np.concatenate([self._rest, vectors])
        for row, trailer in enumerate(trailers, first):
            self.row_of[trailer.trailer_id] = row
            self.rows_of_film[trailer.film_id] = [*self.rows_of_film.get(trailer.film_id, ()), row]

    def vector(self, row: int) -> Vectors:
        """The (dim,) float32 vector of one row."""
        vector: Vectors = self.vectors_of([row])[0]
        return vector

    def vectors_of(self, rows: Sequence[int]) -> Vectors:
        """Those of some rows, (len(rows), dim) float32."""
        asked = np.asarray(rows, dtype=np.int64)
        found = np.empty((len(asked), self.manifest.dim), dtype=np.float32)
        is_own = asked < self.manifest.n
        found[is_own] = self._vectors[asked[is_own]]
        found[~is_own] = self._rest[asked[~is_own] - self.manifest.n]
        return found

    def vectors(self) -> Vectors:
        """Those of the index alone, (manifest.n, dim) float32, as they lie in the file."""
        return self._vectors

    def scores(self, query: Vectors) -> NDArray[np.floating]:
        """The inner product of a query and every row, (n,)."""
        scores: NDArray[np.floating] = np.concatenate([self._vectors @ query, self._rest @ query])
        return scores

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
        rest = self._rest
        n_own = min(n, self.manifest.n)
        search_k = n_own * self.manifest.n_trees * self.manifest.search_effort
        rows: list[int] = self._annoy.get_nns_by_vector(query, n_own, search_k)
        if not len(rest):
            return rows
        rows += (self.manifest.n + np.argsort(-(rest @ query), kind="stable")[:n]).tolist()
        order = np.argsort(-(self.vectors_of(rows) @ query), kind="stable")[:n]
        return [rows[place] for place in order.tolist()]


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
