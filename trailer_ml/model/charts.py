"""Where things go in the drawings of a model's page: numbers in, coordinates out.

Does not belong here: how they look (templates/card.html.j2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from trailer_ml.model.card import PhaseHistory
    from trailer_ml.model.dataset import DatasetTrailer
    from trailer_ml.records import Estimate

WIDTH, HEIGHT = 260, 96
"""Of a curve, in the units of its drawing."""
MAP_WIDTH, MAP_HEIGHT = 720, 540
_MAP_EDGE = 16
_TOPS = {"accuracy": 1.0, "share": 1.0, "distance": 1.5}
"""How high the drawing of a figure whose name ends so goes at least; unit vectors at random are 1.41 apart."""
_ORDER = ("loss", "active_share", "pair_distance", "video_genre_accuracy", "audio_genre_accuracy")
"""Shown first, and then the others by name."""


class Curve(NamedTuple):
    """One figure over the epochs of one phase."""

    name: str
    points: tuple[tuple[float, float], ...]
    """The lowest value that is drawn, 0 or less, is at the bottom."""
    first: float
    last: float
    bottom: float
    top: float


class Bar(NamedTuple):
    """A figure between 0 and 1 with its interval, as percentages."""

    name: str
    estimate: Estimate
    percent: float
    low_percent: float | None
    high_percent: float | None


def choose_colours(genres: Sequence[str]) -> dict[str, str]:
    """A colour for each genre, all round the circle; neighbours differ in lightness as well."""
    return {
        genre: f"oklch({(66, 76, 58)[i % 3]}% 0.15 {round(25 + 360 * i / len(genres)) % 360})"
        for i, genre in enumerate(genres)
    }


def draw_curves(phase: PhaseHistory) -> list[Curve]:
    """A curve for each figure of a phase that is a number in all of its epochs."""
    names = phase.epochs[0] if phase.epochs else {}
    curves = []
    for name in sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)):
        values = np.array([epoch.get(name, np.nan) for epoch in phase.epochs])
        if np.isfinite(values).all():
            curves.append(_draw_curve(name, values))
    return curves


def _draw_curve(name: str, values: NDArray[np.float64]) -> Curve:
    bottom = min(0.0, float(values.min()))
    top = max(float(values.max()), _TOPS.get(name.rpartition("_")[2], 0.0))
    x = np.linspace(0, WIDTH, len(values)) if len(values) > 1 else np.array([WIDTH / 2])
    y = HEIGHT * (1 - (values - bottom) / ((top - bottom) or 1.0))
    points = tuple((round(a, 1), round(b, 1)) for a, b in zip(x.tolist(), y.tolist(), strict=True))
    return Curve(name, points, float(values[0]), float(values[-1]), bottom, top)


def draw_bars(estimates: Mapping[str, Estimate]) -> list[Bar]:
    """A bar for each figure, in order."""
    return [
        Bar(
            name,
            found,
            round(100 * found.value, 1),
            None if found.low is None else round(100 * found.low, 1),
            None if found.high is None else round(100 * found.high, 1),
        )
        for name, found in estimates.items()
    ]


def find_nearest(
    vectors: NDArray[np.float32], trailers: Sequence[DatasetTrailer], queries: Iterable[int], k: int
) -> dict[int, list[int]]:
    """For each query the k nearest trailers of other films, the nearest first; fewer where there are not so many."""
    _, films = np.unique([trailer.film_id for trailer in trailers], return_inverse=True)
    nearest = {}
    for query in queries:
        is_other = films != films[query]
        scores = np.where(is_other, vectors @ vectors[query], -np.inf)
        order = np.argsort(-scores, kind="stable")[: min(k, np.count_nonzero(is_other))]
        nearest[query] = order.tolist()
    return nearest


def count_confusion(
    nearest: Mapping[int, Sequence[int]], trailers: Sequence[DatasetTrailer], genres: Sequence[str]
) -> list[tuple[str, int, list[float]]]:
    """Of the queries of each genre, in which share the nearest trailer has which genre.

    A query of several genres counts in each of their rows, and an answer of several is shared out among its columns.

    Returns:
        For each genre with a query: its name, how many queries it has, and a share for each genre, in order.
    """
    shares, counts = np.zeros((len(genres), len(genres))), np.zeros(len(genres), np.int64)
    for query, found in nearest.items():
        if not found:
            continue
        for genre in trailers[query].genres:
            row = genres.index(genre)
            counts[row] += 1
            for other in trailers[found[0]].genres:
                shares[row, genres.index(other)] += 1 / len(trailers[found[0]].genres)
    return [
        (genre, int(counts[row]), (shares[row] / counts[row]).tolist())
        for row, genre in enumerate(genres)
        if counts[row]
    ]


def draw_map(vectors: NDArray[np.float32]) -> list[tuple[float, float]]:
    """(n, d) -> a place for each on the map: the two directions in which they differ most (PCA)."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:2] * np.where(directions[:2].sum(axis=1, keepdims=True) < 0, -1, 1)  # either way is right
    places = np.zeros((len(vectors), 2))
    places[:, : len(directions)] = centred @ directions.T
    low, high = places.min(axis=0), places.max(axis=0)
    room = np.array([MAP_WIDTH, MAP_HEIGHT]) - 2 * _MAP_EDGE
    scale = (room / np.maximum(high - low, 1e-9)).min()  # one for both, so that distances look as they are
    centre = np.array([MAP_WIDTH, MAP_HEIGHT]) / 2
    return [(round(x, 1), round(y, 1)) for x, y in (centre + (places - (low + high) / 2) * scale).tolist()]
