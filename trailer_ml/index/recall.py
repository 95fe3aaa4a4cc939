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


def sample_rows(n: int, n_queries: int) -> NDArray[np.int64]:
    """Rows spread evenly over `n`, all of them where there are no more than `n_queries`."""
    return np.linspace(0, n - 1, min(n, n_queries)).round().astype(np.int64)


def measure_recall(index: ServedIndex, vectors: NDArray[np.float32], n_queries: int) -> Recall:
    """The share of the 10 nearest other trailers that the index finds; an answer as near as the tenth counts.

    Args:
        index: what is measured.
        vectors: (n, dim) float32, unit rows: the truth.
        n_queries: so many of its own trailers are asked for.
    """
    rows = sample_rows(len(vectors), n_queries)
    depth = min(K, len(vectors) - 1)
    if depth == 0:
        return Recall(1.0, len(rows))
    best, _ = exact_top_k(vectors[rows], vectors, depth + 1)  # the trailer itself is among them
    n_found = 0
    for row, scores in zip(rows.tolist(), best, strict=True):
        found = index.nearest(vectors[row], depth + 1, model_version=index.manifest.model_version)
        others = [other for other in found if other != row][:depth]
        n_found += int((vectors[others] @ vectors[row] >= scores[depth] - _SAME_SCORE).sum())
    return Recall(n_found / (depth * len(rows)), len(rows))
