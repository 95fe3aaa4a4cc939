"""How much of what exact search finds an index finds.

Does not belong here: what happens when it is too little (see publish.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trailer_ml.vectors import exact_top_k

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trailer_ml.index.serve import ServedIndex

K = 10
_SAME_SCORE = 1e-6  # of equal scores either answer is right; float32 sums differ by less than this


class Recall(NamedTuple):
    """Recall at 10, and over how many queries."""

    value: float
    n_queries: int


class Queries(NamedTuple):
    """Trailers that are asked for, and what there is to find."""

    rows: NDArray[np.int64]
    vectors: NDArray[np.float32]
    """(q, dim)."""
    least: NDArray[np.float32]
    """(q,): the score of the last of the `depth` nearest others."""
    depth: int


def sample_rows(n: int, n_queries: int) -> NDArray[np.int64]:
    """Rows spread evenly over `n`, all of them where there are no more than `n_queries`."""
    return np.linspace(0, n - 1, min(n, n_queries)).round().astype(np.int64)


def measure_recall(index: ServedIndex, n_queries: int) -> Recall:
    """The share of the 10 nearest other trailers that the index finds; an answer as near as the tenth counts.

    Args:
        index: what is measured; what was taken in since it was built does not count.
        n_queries: so many of its own trailers are asked for.
    """
    rows = sample_rows(index.manifest.n, n_queries)
    return Recall(recall_of(index, ask_exactly(index, rows)), len(rows))


def ask_exactly(index: ServedIndex, rows: NDArray[np.int64]) -> Queries:
    """What exact search finds for some of an index's own trailers."""
    vectors = index.vectors_of(rows.tolist())
    depth = min(K, index.manifest.n - 1)
    best = np.concatenate([exact_top_k(vectors, part, depth + 1)[0] for part in index.parts()], axis=1)
    return Queries(rows, vectors, -np.sort(-best, axis=1)[:, depth], depth)  # the trailer itself is among them


def recall_of(index: ServedIndex, queries: Queries) -> float:
    """The share of what exact search finds that the index finds, as hard as its manifest says that it looks."""
    if queries.depth == 0:
        return 1.0
    n_found = 0
    for row, vector, least in zip(queries.rows.tolist(), queries.vectors, queries.least, strict=True):
        found = index.nearest(vector, queries.depth + 1, model_version=index.manifest.model_version)
        others = [other for other in found if other != row][: queries.depth]
        n_found += int((index.vectors_of(others) @ vector >= least - _SAME_SCORE).sum())
    return n_found / (queries.depth * len(queries.rows))
