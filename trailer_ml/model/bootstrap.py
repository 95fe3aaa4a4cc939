"""How sure a mean over queries is: percentile intervals of a bootstrap by film.

Trailers of one film are alike and so are their figures: what is drawn anew is films, each with all of its queries.

Does not belong here: the figures themselves (retrieval.py, near_duplicates.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

N_RESAMPLES = 1000
LEVEL = 0.95
_SEED = 20


def interval_of_mean(values: ArrayLike, films: Sequence[str], n_resamples: int = N_RESAMPLES) -> NDArray[np.float64]:
    """The 95 % interval of the mean of each column; the same values give the same interval.

    Args:
        values: (q, m) float, a row a query.
        films: (q) of which film each query is; of fewer than two no interval can be drawn.
        n_resamples: how often the films are drawn.

    Returns:
        (2, m) lower and upper ends; NaN where there are fewer than two films.

    >>> interval_of_mean([[1.0], [1.0], [1.0]], ["a", "a", "b"]).tolist()
    [[1.0], [1.0]]
    """
    each = np.asarray(values, dtype=np.float64)
    names, film = np.unique(np.asarray(films), return_inverse=True)
    if len(names) < 2:  # noqa: PLR2004 - one film varies with nothing
        return np.full((2, each.shape[1]), np.nan)
    sums = np.zeros((len(names), each.shape[1]))
    np.add.at(sums, film, each)
    counts = np.bincount(film, minlength=len(names))
    drawn = np.random.default_rng(_SEED).multinomial(len(names), np.full(len(names), 1 / len(names)), n_resamples)
    means = (drawn @ sums) / (drawn @ counts)[:, None]
    return np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
