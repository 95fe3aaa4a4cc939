"""Vectors to the Annoy files of an index: one, or as many as it is split into.

A file is always built fresh, for a built Annoy index cannot grow (Annoy #174); by one thread, for several would make it
differ from run to run (Annoy #603); and on disk, for the gaps of a file are zero, where memory holds what was there
before. Of several files each is built by a process of its own, as many at once as there are cores.

Does not belong here: what lies beside the files in the store.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from annoy import AnnoyIndex

from trailer_ml.index.stored import split_rows
from trailer_ml.processes import run_child

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_TIMEOUT_S = 6 * 3600.0


def write_files(paths: Sequence[Path], vectors: NDArray[np.float32], *, n_trees: int, seed: int) -> None:
    """Build the files of an index, each of a run of the rows; the same vectors give the same bytes.

    Args:
        paths: of the files, all in one folder; none is there yet.
        vectors: (n, dim) float32.
        n_trees: of each file.
        seed: of Annoy's own choices.

    Raises:
        ChildFailedError: a process that built one of several ended badly.
        ChildKilledError: a signal ended it: there is too little memory, perhaps.
    """
    if len(paths) == 1:
        write_annoy(paths[0], vectors, n_trees=n_trees, seed=seed)
        return
    whole = paths[0].with_name("vectors.npy")
    np.save(whole, vectors)

    def build(path: Path, rows: range) -> None:
        arguments = [str(whole), str(rows.start), str(rows.stop), str(path), str(n_trees), str(seed)]
        run_child([sys.executable, "-m", "trailer_ml.index.split", *arguments], timeout_s=_TIMEOUT_S)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as builders:
        list(builders.map(build, paths, split_rows(len(vectors), len(paths))))
    whole.unlink()


def write_annoy(path: Path, vectors: NDArray[np.float32], *, n_trees: int, seed: int) -> None:
    """Build one Annoy file; the same vectors give the same bytes.

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
        annoy.add_item(row, vector.tolist())  # a list is read four times as fast as an array
    annoy.build(n_trees, n_jobs=1)
    annoy.unload()


if __name__ == "__main__":
    _, whole_name, start, stop, name, trees, chosen_seed = sys.argv
    rows_of_file = np.load(whole_name, mmap_mode="r")[int(start) : int(stop)]
    write_annoy(Path(name), rows_of_file, n_trees=int(trees), seed=int(chosen_seed))
