"""Retrieval by genre: how well the trailers of held-out films find trailers of other films that share a genre.

Does not belong here: the metrics of one query (vectors.py), near-duplicates (near_duplicates.py), and which models are
measured (evaluate.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trailer_ml.errors import DataError
from trailer_ml.model.bootstrap import interval_of_mean
from trailer_ml.records import Estimate
from trailer_ml.vectors import (
    average_precision_at_k,
    chance_average_precision_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trailer_ml.model.dataset import DatasetTrailer

K = 10
METRICS = ("map", "recall", "precision", "ndcg")
"""Each at K. The gain of an answer, for nDCG, is how many genres it shares."""


class Retrieval(NamedTuple):
    """What one model answered to each query."""

    numbers: NDArray[np.int64]
    """(q,) which trailers asked."""
    films: tuple[str, ...]
    """(q,) of which films they are."""
    values: NDArray[np.float64]
    """(q, 4) float, in the order of METRICS."""
    chance: NDArray[np.float64]
    """(q, 4) float: what a random order gives on average, exactly."""
    of_genre: dict[str, NDArray[np.bool_]]
    """(q,) bool for each genre: the queries that have it."""

    @property
    def map_at_k(self) -> float:
        """The mean AP@K."""
        return float(self.values[:, METRICS.index("map")].mean())

    def overall(self) -> dict[str, Estimate]:
        """The mean of each metric."""
        return estimate_means(self.values, self.films, METRICS)

    def per_genre(self) -> dict[str, dict[str, Estimate]]:
        """The mean of each metric over the queries of each genre."""
        return {
            genre: estimate_means(self.values[mine], [self.films[i] for i in np.flatnonzero(mine)], METRICS)
            for genre, mine in self.of_genre.items()
        }


def measure_retrieval(
    vectors: NDArray[np.float32], trailers: Sequence[DatasetTrailer], *, only_held_out: bool = False, k: int = K
) -> Retrieval:
    """Put every query to one model.

    A query is a trailer of a test film; its gallery is every trailer of another film; what shares a genre with it is
    relevant. One without any relevant answer is not asked.

    Args:
        vectors: (n, d) unit rows, one a trailer.
        trailers: (n) what they are of.
        only_held_out: whether the gallery is held out as well; otherwise it is every trailer.
        k: depth.

    Raises:
        DataError: there is no query.
    """
    is_test = np.array([trailer.split == "test" for trailer in trailers])
    gallery = np.flatnonzero(is_test) if only_held_out else np.arange(len(trailers))
    films = np.array([trailer.film_id for trailer in trailers])
    genres = sorted({genre for trailer in trailers for genre in trailer.genres})
    has_genre = np.array([[genre in trailer.genres for genre in genres] for trailer in trailers], np.int64)
    numbers, values, chance = [], [], []
    for query in np.flatnonzero(is_test):
        others = gallery[films[gallery] != films[query]]
        gains = has_genre[others] @ has_genre[query]
        if not gains.any():
            continue
        order = np.argsort(-(vectors[others] @ vectors[query]), kind="stable")[:k]
        numbers.append(query)
        values.append(_measure_query(gains[order], gains, k))
        chance.append(_chance_of_query(gains, k))
    if not numbers:
        raise DataError(
            "no held-out trailer shares a genre with a trailer of another film: there is nothing to measure"
        )
    of_queries = has_genre[numbers].astype(bool)
    return Retrieval(
        numbers=np.array(numbers),
        films=tuple(films[numbers].tolist()),
        values=np.array(values),
        chance=np.array(chance),
        of_genre={genre: of_queries[:, i] for i, genre in enumerate(genres) if of_queries[:, i].any()},
    )


def estimate_means(values: NDArray[np.float64], films: Sequence[str], names: Sequence[str]) -> dict[str, Estimate]:
    """(q, m) float -> the mean of each of the m columns by its name, with its interval."""
    low, high = interval_of_mean(values, films)
    return {
        name: Estimate(value=float(mean), low=_known(low[i]), high=_known(high[i]))
        for i, (name, mean) in enumerate(zip(names, values.mean(axis=0), strict=True))
    }


def _known(number: float) -> float | None:
    return None if np.isnan(number) else float(number)


def _measure_query(found: NDArray[np.int64], gains: NDArray[np.int64], k: int) -> list[float]:
    """Of the gains that were found, best answer first, and of all there were."""
    hits, n_relevant, best = [found > 0], [np.count_nonzero(gains)], [np.sort(gains)[::-1]]
    metrics = (
        average_precision_at_k(hits, n_relevant, k),
        recall_at_k(hits, n_relevant, k),
        precision_at_k(hits, k),
        ndcg_at_k([found], best, k),
    )
    return [float(metric[0]) for metric in metrics]


def _chance_of_query(gains: NDArray[np.int64], k: int) -> list[float]:
    """At each rank any answer is as likely as any other."""
    n, n_relevant, n_seen = len(gains), np.count_nonzero(gains), min(k, len(gains))
    best = np.sort(gains)[::-1]
    return [
        float(chance_average_precision_at_k([n_relevant], [n], k)[0]),
        n_seen / n,
        n_relevant / n * n_seen / k,
        float(ndcg_at_k([np.full(n_seen, gains.mean())], [best], k)[0]),
    ]
