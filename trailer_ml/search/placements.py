"""For each film the ads that suit it best, where no ad may take all films.

Pairs are given out best first, over all films and ads at once, and an ad may have at most so many films: one that suits
everything leaves the films that it suits least to others. No film gets a second ad before every film has its first.

Does not belong here: where the scores come from (see ads.py).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from trailer_ml.records import FilmAds, PlacedAd
from trailer_ml.search.calibration import percentile_of, sample_pair_scores
from trailer_ml.vectors import normalise, split_scores

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from trailer_ml.index.serve import ServedIndex
    from trailer_ml.settings import SearchSettings


class RankedFilms:
    """The films of an index, and how much each ad is like them.

    Args:
        index: open for as long as this is used.
        taken_down: rows that are no trailers any more.
    """

    def __init__(self, index: ServedIndex, taken_down: AbstractSet[int]) -> None:
        self._index = index
        self._films = {
            film_id: up
            for film_id, rows in sorted(index.rows_of_film.items())
            if (up := [row for row in rows if row not in taken_down])
        }
        self._ads: dict[str, NDArray[np.float32]] = {}
        self.pair_scores = sample_pair_scores(index, taken_down)
        """Of pairs of films, in ascending order."""

    def add(self, name: str, vector: NDArray[np.float32]) -> None:
        """Take in an ad by its (dim,) vector."""
        self._ads[name] = vector

    def place(self, settings: SearchSettings) -> list[FilmAds]:
        """The ads of each film, in the order of the film ids; a film is as like an ad as its closest trailer."""
        if not self._ads or not self._films:
            return []
        names, vectors = list(self._ads), normalise(np.stack(list(self._ads.values())))
        rows = np.concatenate([*self._films.values()])
        starts = np.cumsum([0, *map(len, self._films.values())])[:-1]
        scores = np.stack([np.maximum.reduceat(self._index.scores(each)[rows], starts) for each in vectors])
        placed = place_ads(scores, settings.ads_per_film, settings.max_ad_share)
        return [
            FilmAds(
                film_id=film_id,
                title=self._index.trailers[rows_of_film[0]].title,
                genres=self._index.trailers[rows_of_film[0]].genres,
                ads=tuple(self._describe(names[ad], vectors[ad], rows_of_film) for ad in ads),
            )
            for (film_id, rows_of_film), ads in zip(self._films.items(), placed, strict=True)
        ]

    def _describe(self, name: str, vector: NDArray[np.float32], rows: list[int]) -> PlacedAd:
        trailers = normalise(self._index.vectors_of(rows).astype(np.float64))
        unit = normalise(vector.astype(np.float64))
        shares = zip(*split_scores(unit, trailers, self._index.manifest.video_dim), strict=True)
        video, audio = max(((float(video), float(audio)) for video, audio in shares), key=sum)
        percentile = percentile_of(video + audio, self.pair_scores)
        return PlacedAd(ad=name, score=video + audio, percentile=percentile, video_share=video, audio_share=audio)


def place_ads(scores: NDArray[np.floating], ads_per_film: int, max_share: float) -> list[list[int]]:
    """The ads of each film, best first.

    Args:
        scores: (n_ads, n_films).
        ads_per_film: at most so many.
        max_share: of the films, how many one ad may have; more where otherwise some film could have none.

    Returns:
        For each film the rows of its ads; of equal scores the lower one comes first.

    >>> place_ads(np.array([[0.9, 0.8], [0.5, 0.4]]), ads_per_film=1, max_share=0.5)
    [[0], [1]]
    """
    n_ads, n_films = scores.shape
    limit = math.ceil(max(max_share * n_films, n_films / n_ads))  # at the least, every film can have one
    left = np.array(scores, np.float32)  # of what can still be given; the rest is -inf
    room = np.full(n_ads, limit)
    placed: list[list[int]] = [[] for _ in range(n_films)]
    for _ in range(min(ads_per_film, n_ads)):
        given = _give_one_each(left, room)
        for film in np.flatnonzero(given >= 0).tolist():
            placed[film].append(int(given[film]))
    return placed


def _give_one_each(left: NDArray[np.float32], room: NDArray[np.int64]) -> NDArray[np.int64]:
    """One ad at most for each film, pairs best first.

    As the films stand in the order of their best ads, nothing changes until an ad has no room: so what comes before is
    given at once, and only then the films that are left look for their best ad again.

    Args:
        left: (n_ads, n_films), -inf where an ad cannot be given; what is given becomes so.
        room: (n_ads) films that each ad can still have; becomes less by what is given.

    Returns:
        (n_films) rows of ads, -1 where there is none.
    """
    given = np.full(left.shape[1], -1)
    waiting = np.arange(left.shape[1])
    while True:
        left[room == 0] = -np.inf
        best = left.argmax(axis=0)[waiting]
        scores = left[best, waiting]
        order = np.lexsort((waiting, best, -scores))
        order = order[: np.isfinite(scores).sum()]
        if not len(order):
            return given
        ends = [places[n - 1] for ad, n in enumerate(room) if len(places := np.flatnonzero(best[order] == ad)) >= n > 0]
        now = order[: min(ends, default=len(order)) + 1]
        films, ads = waiting[now], best[now]
        given[films], left[ads, films] = ads, -np.inf
        room -= np.bincount(ads, minlength=len(room))
        waiting = np.delete(waiting, now)
