"""For each film the ads that suit it best, where no ad may take all films.

Pairs are given out best first, over all films and ads at once: a film has at most so many ads, an ad at most so many
films. So an ad that suits everything leaves the films that it suits least to others.

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
        scores = np.stack([self._index.scores(vector) for vector in vectors])  # (ads, rows)
        best_rows = [[rows[place] for place in scores[:, rows].argmax(axis=1)] for rows in self._films.values()]
        of_film = np.take_along_axis(scores, np.array(best_rows).T, axis=1)  # (ads, films)
        placed = place_ads(of_film, settings.ads_per_film, settings.max_ad_share)
        return [
            FilmAds(
                film_id=film_id,
                title=self._index.trailers[rows[0]].title,
                genres=self._index.trailers[rows[0]].genres,
                ads=tuple(self._describe(names[ad], vectors[ad], best[ad]) for ad in ads),
            )
            for (film_id, rows), best, ads in zip(self._films.items(), best_rows, placed, strict=True)
        ]

    def _describe(self, name: str, vector: NDArray[np.float32], row: int) -> PlacedAd:
        trailer = normalise(self._index.vectors_of([row]).astype(np.float64))
        unit = normalise(vector.astype(np.float64))
        video, audio = (float(share[0]) for share in split_scores(unit, trailer, self._index.manifest.video_dim))
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
    placed: list[list[int]] = [[] for _ in range(n_films)]
    n_films_of = [0] * n_ads
    n_left = n_films * ads_per_film
    for place in np.argsort(-scores, axis=None, kind="stable").tolist():
        ad, film = divmod(place, n_films)
        if n_films_of[ad] < limit and len(placed[film]) < ads_per_film:
            placed[film].append(ad)
            n_films_of[ad] += 1
            n_left -= 1
            if not n_left:
                break
    return placed
