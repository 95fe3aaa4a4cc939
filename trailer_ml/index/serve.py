"""An index at hand: memory-mapped from a copy on this machine, with what is known of its trailers.

Where it was split into several files, each is asked for as many answers as are wanted, and the best of all are taken.

The copy lies in a folder named after the version, is checked against the manifest whenever it is opened, and appears
there whole or not at all, once it has passed a self-test here. Vectors are read where Annoy keeps them: at the head of
a file, each behind 12 bytes.

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
from trailer_ml.index.selftest import test_files
from trailer_ml.index.stored import (
    IDS_FILE,
    explain_damage,
    files_of,
    read_current_manifest,
    read_pointer,
    split_rows,
)
from trailer_ml.records import EmbeddedTrailer
from trailer_ml.scratch import scratch_folder
from trailer_ml.storage import index_key, sha256_of_file
from trailer_ml.vectors import exact_top_k, top_rows

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
        names = [name for name in files_of(manifest) if name != IDS_FILE]
        self._rows = split_rows(manifest.n, len(names))
        self._annoys = [_load(folder / name, manifest.dim) for name in names]
        n_items = [annoy.get_n_items() for annoy in self._annoys]
        if n_items != [len(rows) for rows in self._rows] or len(self.trailers) != manifest.n:
            raise DataError(
                f"index {manifest.version} is damaged: its manifest says {manifest.n} trailers, its ids"
                f" {len(self.trailers)}, its vectors {sum(n_items)}"
            )
        node = np.dtype([("head", "V12"), ("vector", "<f4", (manifest.dim,))])
        self._parts: list[Vectors] = [
            np.asarray(np.memmap(folder / name, node, mode="r", shape=(len(rows),))["vector"])
            for name, rows in zip(names, self._rows, strict=True)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for annoy in self._annoys:
            annoy.unload()

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
        # In this order, for others ask meanwhile: a row that is found has a name and a film, and one that is asked by
        # its id has a vector.
        self.trailers += tuple(trailers)
        for row, trailer in enumerate(trailers, first):
            self.rows_of_film[trailer.film_id] = [*self.rows_of_film.get(trailer.film_id, ()), row]
        self._rest = np.concatenate([self._rest, vectors])
        self.row_of |= {trailer.trailer_id: row for row, trailer in enumerate(trailers, first)}

    def vector(self, row: int) -> Vectors:
        """The (dim,) float32 vector of one row."""
        vector: Vectors = self.vectors_of([row])[0]
        return vector

    def vectors_of(self, rows: Sequence[int]) -> Vectors:
        """Those of some rows, (len(rows), dim) float32."""
        asked = np.asarray(rows, dtype=np.int64)
        found = np.empty((len(asked), self.manifest.dim), dtype=np.float32)
        for part, own in zip(self._parts, self._rows, strict=True):
            is_here = (asked >= own.start) & (asked < own.stop)
            found[is_here] = part[asked[is_here] - own.start]
        is_rest = asked >= self.manifest.n
        found[is_rest] = self._rest[asked[is_rest] - self.manifest.n]
        return found

    def parts(self) -> Sequence[Vectors]:
        """Those of the index alone, as they lie in its files: (n_i, dim) float32 each, in the order of the rows."""
        return self._parts

    def vectors(self) -> Vectors:
        """Those of the index alone, (manifest.n, dim) float32; of several files they are copied into memory."""
        return self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)

    def scores(self, query: Vectors) -> NDArray[np.floating]:
        """The inner product of a query and every row, (n,)."""
        scores: NDArray[np.floating] = np.concatenate([part @ query for part in (*self._parts, self._rest)])
        return scores

    def nearest_of_all(self, queries: Vectors, n: int) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
        """The `n` nearest of each query, by looking at every row: for many queries at once.

        Args:
            queries: (q, dim) float32.
            n: at most as many as there are are returned.

        Returns:
            (q, n) scores, largest first, and (q, n) rows.
        """
        scores, rows, first = [], [], 0
        for part in (*self._parts, self._rest):
            of_part, places = exact_top_k(queries, part, n)
            scores.append(of_part)
            rows.append(first + places)
            first += len(part)
        all_scores, all_rows = np.concatenate(scores, axis=1), np.concatenate(rows, axis=1)
        order = np.argsort(-all_scores, axis=1, kind="stable")[:, :n]
        return np.take_along_axis(all_scores, order, axis=1), np.take_along_axis(all_rows, order, axis=1)

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
        numbers = query.tolist()  # a list is read four times as fast as an array
        candidates_each = self.manifest.n_trees * self.manifest.search_effort
        rows: list[int] = []
        for annoy, own in zip(self._annoys, self._rows, strict=True):
            n_own = min(n, len(own))
            rows += [
                own.start + row
                for row in annoy.get_nns_by_vector(numbers, n_own, min(n_own * candidates_each, 2**31 - 1))
            ]
        if len(self._annoys) == 1 and not len(rest):
            return rows
        rows += (self.manifest.n + top_rows(rest @ query, n)).tolist()
        order = top_rows(self.vectors_of(rows) @ query, n)
        return [rows[place] for place in order.tolist()]


def _load(path: Path, dim: int) -> AnnoyIndex:
    annoy = AnnoyIndex(dim, "angular")
    annoy.load(str(path))
    return annoy


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
    try:
        return all(sha256_of_file(folder / name) == sha256 for name, sha256 in files_of(manifest).items())
    except FileNotFoundError:
        return False


def _copy(manifest: IndexManifest, store: Store, root: Path) -> None:
    with scratch_folder(".aside-", root) as aside:
        for name in files_of(manifest):
            try:
                store.read_file(index_key(manifest.version, name), aside / name)
            except MissingObjectError as error:
                raise NoIndexError(f"index {manifest.version} is gone from the store") from error
        if not _holds(aside, manifest):
            raise DataError(explain_damage(manifest.version))
        test_files([aside / name for name in files_of(manifest) if name != IDS_FILE], manifest.dim, manifest.version)
        folder = root / manifest.version
        folder.mkdir(exist_ok=True)
        for name in files_of(manifest):  # each is whole, and whoever has an older one open keeps it
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
