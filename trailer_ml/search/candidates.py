"""Pairs of trailers that are worth a closer look: of one film, or with vectors that are near.

Does not belong here: the closer look (see screen.py and evidence.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trailer_ml.index.recall import sample_rows
from trailer_ml.vectors import normalise

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from trailer_ml.index.serve import ServedIndex

    Ints = NDArray[np.int64]

_FIRST_LOOK = 10
ALWAYS = 5
"""The nearest that are looked at whatever their cosine, for what a copy has is the model's own: of a frozen
EfficientNet-Lite0 0.85 to 0.999, and films that have nothing in common up to 0.989."""
_MOST = 64  # candidates of one trailer: where training has drawn a genre together, thousands are as near as a copy
_BLOCK = 1024  # trailers at a time


class Pairs(NamedTuple):
    """Pairs of rows of an index, each once."""

    rows: Ints
    """(n, 2), the lower first, in ascending order."""
    scores: NDArray[np.float64]
    """(n,) the cosine of each."""


def find_near_pairs(index: ServedIndex, least: float, left_out: AbstractSet[int], *, n_always: int) -> Pairs:
    """Pairs whose cosine is at least `least`, or of whom one is among the other's `n_always` nearest.

    Of a trailer whose 10 nearest are all that near, the 64 nearest are looked for among all: exact search of many at
    once takes 0.2 ms each among 25,000, where Annoy, asked for so many, takes 1 to 2.
    """
    up = np.array([row for row in range(index.n) if row not in left_out], dtype=np.int64)
    found = []
    for start in range(0, len(up), _BLOCK):
        rows = up[start : start + _BLOCK]
        vectors = index.vectors_of(rows.tolist())
        near = np.array(
            [index.nearest(query, _FIRST_LOOK, model_version=index.manifest.model_version) for query in vectors]
        )
        scores = _cosines(index, np.repeat(rows, near.shape[1]), near.ravel()).reshape(near.shape)
        is_dense = scores[:, -1] >= least
        found.append(_choose(rows, near, scores, least, left_out, n_always))
        if is_dense.any():
            _, more = index.nearest_of_all(vectors[is_dense], _MOST)
            dense = rows[is_dense]
            scores = _cosines(index, np.repeat(dense, more.shape[1]), more.ravel()).reshape(more.shape)
            found.append(_choose(dense, more, scores, least, left_out, n_always))
    return join_pairs(*found)


def find_pairs_of_films(index: ServedIndex, left_out: AbstractSet[int]) -> Pairs:
    """Pairs of one film, of a film with very many trailers those of the first 64."""
    pairs = []
    for rows in index.rows_of_film.values():
        up = sorted(row for row in rows if row not in left_out)[:_MOST]
        pairs += [(row, other) for place, row in enumerate(up) for other in up[place + 1 :]]
    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return join_pairs(Pairs(ends, _cosines(index, ends[:, 0], ends[:, 1])))


def join_pairs(*parts: Pairs) -> Pairs:
    """All pairs of several, each once."""
    rows = np.concatenate([np.empty((0, 2), np.int64), *(part.rows for part in parts)])
    scores = np.concatenate([np.empty(0), *(part.scores for part in parts)])
    _, first = np.unique((rows[:, 0] << 32) + rows[:, 1], return_index=True)
    return Pairs(rows[first], scores[first])


def order_by_place(index: ServedIndex, rows: Ints) -> Ints:
    """Rows in an order in which those whose vectors are near mostly follow each other."""
    if not len(rows):
        return rows
    anchors = index.vectors_of(rows[sample_rows(len(rows), 1 + int(len(rows) ** 0.5))].tolist())
    nearest = [
        (index.vectors_of(rows[start : start + _BLOCK].tolist()) @ anchors.T).argmax(axis=1)
        for start in range(0, len(rows), _BLOCK)
    ]
    return rows[np.lexsort((rows, np.concatenate(nearest)))]


def _choose(
    rows: Ints, near: Ints, scores: NDArray[np.float64], least: float, left_out: AbstractSet[int], n_always: int
) -> Pairs:
    """Of the (n, k) rows near to n rows, best first, with their cosines: those near enough or among the first."""
    is_other = near != rows[:, None]
    if left_out:
        is_other &= ~np.isin(near, list(left_out))
    place = is_other.cumsum(axis=1)  # from 1
    is_chosen = is_other & ((scores >= least) | (place <= n_always))
    which, where = np.nonzero(is_chosen)
    ends = np.stack([rows[which], near[which, where]], axis=1)
    return Pairs(np.sort(ends, axis=1), scores[which, where])


def _cosines(index: ServedIndex, ones: Ints, others: Ints) -> NDArray[np.float64]:
    """Of each pair, in double precision."""
    scores = np.empty(len(ones))
    for start in range(0, len(ones), 4 * _BLOCK):
        some = slice(start, start + 4 * _BLOCK)
        one, other = (normalise(index.vectors_of(rows[some].tolist()).astype(np.float64)) for rows in (ones, others))
        scores[some] = np.einsum("ij,ij->i", one, other)
    return scores
