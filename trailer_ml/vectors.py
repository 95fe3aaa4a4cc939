"""The maths of embeddings: unit vectors, exact search, the two shares of a score, and retrieval metrics. numpy only.

A metric takes a relevance matrix: row q holds, for query q, whether the answer at each rank is relevant, best first.
What makes an answer relevant is the caller's business, and so is how many relevant ones there were to find.

Does not belong here: models, files, Annoy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.floating]
    Ints = NDArray[np.int64]

_BLOCK = 256  # queries scored at once by exact search,
_ROWS = 32_768  # against so many rows: 256 x 32,768 scores are 34 MB, whatever the size of the gallery


def normalise(vectors: Floats) -> Floats:
    """Rows of length one; a zero row stays zero.

    Args:
        vectors: (n, d) float.
    """
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(vectors.dtype)


def exact_top_k(queries: Floats, gallery: Floats, k: int) -> tuple[Floats, Ints]:
    """The `k` rows of the gallery with the largest inner product, by looking at all of them.

    Args:
        queries: (q, d) float, unit rows when the score is to be the cosine.
        gallery: (n, d) float.
        k: at most n are returned.

    Returns:
        (q, k) scores, largest first, and (q, k) rows of the gallery; of equal scores the lower row comes first.
    """
    k = min(k, len(gallery))
    scores = np.empty((len(queries), k), dtype=np.result_type(queries, gallery))
    rows = np.empty((len(queries), k), dtype=np.int64)
    nothing: tuple[Floats, Ints] = (np.empty(0, scores.dtype), np.empty(0, rows.dtype))
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        best = [nothing] * len(block)
        for first in range(0, len(gallery), _ROWS):
            of_block = block @ gallery[first : first + _ROWS].T
            best = [_merge(*each, some, first, k) for each, some in zip(best, of_block, strict=True)]
        for query, (best_scores, best_rows) in enumerate(best, start):
            scores[query], rows[query] = best_scores, best_rows
    return scores, rows


def top_rows(scores: Floats, k: int) -> Ints:
    """Where the `k` largest scores are, largest first; of equal scores the lower row comes first.

    Not all are sorted: of a million scores that takes 80 ms, and this 8.

    Args:
        scores: (n,) float.
        k: at most n are returned.
    """
    rows = np.arange(len(scores))
    if k < len(scores):
        rows = np.flatnonzero(scores >= np.partition(scores, -k)[-k]) if k > 0 else rows[:0]
    return rows[np.argsort(-scores[rows], kind="stable")[:k]]


def _merge(best_scores: Floats, best_rows: Ints, scores: Floats, first: int, k: int) -> tuple[Floats, Ints]:
    """The best so far, and of a block of later rows what is better than the last of them."""
    # of equal scores those that were there are better
    new = top_rows(scores, k) if len(best_rows) < k else np.flatnonzero(scores > best_scores[-1])
    if not len(new):
        return best_scores, best_rows
    both, both_rows = np.concatenate([best_scores, scores[new]]), np.concatenate([best_rows, first + new])
    order = top_rows(both, k)
    return both[order], both_rows[order]


def split_scores(query: Floats, vectors: Floats, video_dim: int) -> tuple[Floats, Floats]:
    """How much of each cosine comes from the picture and how much from the sound; the two add up to it.

    Args:
        query: (d,) float, unit length.
        vectors: (n, d) float, unit rows.
        video_dim: the first `video_dim` numbers of a vector are its video part.

    Returns:
        (n,) video shares and (n,) audio shares.
    """
    return vectors[:, :video_dim] @ query[:video_dim], vectors[:, video_dim:] @ query[video_dim:]


def average_precision_at_k(relevance: ArrayLike, n_relevant: ArrayLike, k: int) -> Floats:
    """AP@k per query: the mean of the precisions at the relevant ranks, over min(k, R).

    Args:
        relevance: (q, at least k) bool, or fewer columns where there were fewer answers.
        n_relevant: (q,) how many relevant answers there were to find, R; where it is 0, AP is 0.
        k: depth.

    >>> round(float(average_precision_at_k([[True, False, True]], [2], k=3)[0]), 4)
    0.8333
    """
    hits = np.asarray(relevance, dtype=bool)[:, :k]
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    best = np.minimum(k, np.asarray(n_relevant))
    return np.asarray((precision * hits).sum(axis=1) / np.maximum(best, 1))


def recall_at_k(relevance: ArrayLike, n_relevant: ArrayLike, k: int) -> Floats:
    """Per query, the share of what there was to find that is among the first `k`; arguments as above."""
    hits = np.asarray(relevance, dtype=bool)[:, :k]
    return np.asarray(hits.sum(axis=1) / np.maximum(np.asarray(n_relevant), 1))


def precision_at_k(relevance: ArrayLike, k: int) -> Floats:
    """Per query, the share of the first `k` answers that is relevant; a missing answer counts as a wrong one."""
    return np.asarray(np.asarray(relevance, dtype=bool)[:, :k].sum(axis=1) / k)


def chance_average_precision_at_k(n_relevant: ArrayLike, n_gallery: ArrayLike, k: int) -> Floats:
    """The expected AP@k of a random order, exactly.

    At rank i an answer is relevant with probability R/n, and each of the i - 1 before it then with (R - 1)/(n - 1).

    Args:
        n_relevant: (q,) relevant answers in the gallery, R.
        n_gallery: (q,) size of the gallery, n.
        k: depth.
    """
    found, size = np.asarray(n_relevant, dtype=float)[:, None], np.asarray(n_gallery, dtype=float)[:, None]
    rank = np.arange(1, k + 1)[None, :]
    others = (rank - 1) * (found - 1) / np.maximum(size - 1, 1)
    expected = found / np.maximum(size, 1) * (1 + others) / rank * (rank <= size)
    best = np.maximum(np.minimum(k, found), 1)[:, 0]
    return np.where(found[:, 0] > 0, expected.sum(axis=1) / best, 0.0)


def discounted_gain_at_k(gains: ArrayLike, k: int) -> Floats:
    """DCG@k per query: each gain over the binary logarithm of its rank + 1.

    Args:
        gains: (q, at least k) float, or fewer columns where there were fewer answers.
        k: depth.
    """
    first = np.asarray(gains, dtype=float)[:, :k]
    return np.asarray((first / np.log2(np.arange(2, first.shape[1] + 2))).sum(axis=1))


def ndcg_at_k(gains: ArrayLike, best_gains: ArrayLike, k: int) -> Floats:
    """nDCG@k per query: the discounted gain of the answers, over that of the best answers there are.

    Args:
        gains: (q, at least k) float, of the answers, best answer first.
        best_gains: (q, at least k) float, of all there was to find, largest first; where all are 0, nDCG is 0.
        k: depth.

    >>> round(float(ndcg_at_k([[1, 0, 2]], [[2, 1, 0]], k=3)[0]), 4)
    0.7602
    """
    best = discounted_gain_at_k(best_gains, k)
    return np.asarray(discounted_gain_at_k(gains, k) / np.where(best > 0, best, 1.0))
