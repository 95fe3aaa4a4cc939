"""What a score is worth: how many pairs of films of the catalogue are less alike.

A cosine of 0.9 is much with one model and little with another; the share of pairs below it can be compared.

Does not belong here: finding what is scored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trailer_ml.index.recall import sample_rows

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from trailer_ml.index.serve import ServedIndex

_ROWS, _COLUMNS = 300, 3000  # 900,000 pairs say a percentile to a tenth of one in a thousand, in a fraction of a second


def sample_pair_scores(index: ServedIndex, left_out: AbstractSet[int] = frozenset()) -> NDArray[np.floating]:
    """Cosines of pairs of trailers of different films, spread evenly over the catalogue, in ascending order."""
    up = np.array([row for row in range(index.n) if row not in left_out], dtype=np.int64)
    if not len(up):
        return np.empty(0)
    some, others = up[sample_rows(len(up), _ROWS)].tolist(), up[sample_rows(len(up), _COLUMNS)].tolist()
    scores = index.vectors_of(some) @ index.vectors_of(others).T
    films = [np.array([index.trailers[row].film_id for row in rows]) for rows in (some, others)]
    pairs: NDArray[np.floating] = np.sort(scores[films[0][:, None] != films[1][None, :]])
    return pairs


def percentile_of(score: float, pair_scores: NDArray[np.floating]) -> float:
    """How many in a hundred of the pairs are less alike; 0 where there are none.

    >>> percentile_of(0.5, np.array([0.1, 0.2, 0.3, 0.9]))
    75.0
    """
    below = int(np.searchsorted(pair_scores, score))
    return 100 * below / len(pair_scores) if len(pair_scores) else 0.0
