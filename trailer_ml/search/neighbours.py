"""From a vector to answers: the nearest trailers of an index, scored exactly, less those that an answer leaves out.

Does not belong here: where the vector comes from, and anything that handles video.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trailer_ml.catalog.listing import read_taken_down
from trailer_ml.errors import SettingsError
from trailer_ml.records import Neighbour
from trailer_ml.vectors import normalise, split_scores

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from trailer_ml.index.serve import ServedIndex
    from trailer_ml.storage import Store

_SPARE = 10  # candidates beyond those asked for: the last places are where an approximate search errs


def find_neighbours(
    index: ServedIndex,
    query: NDArray[np.float32],
    k: int,
    *,
    model_version: str,
    left_out: AbstractSet[int] = frozenset(),
    one_per_film: bool = False,
) -> list[Neighbour]:
    """The `k` nearest trailers, best first; of equal scores the lower trailer id comes first.

    Args:
        index: where to look.
        query: (dim,) float.
        k: fewer are returned where there are fewer.
        model_version: the model that made the query.
        left_out: rows of the index that are no answer.
        one_per_film: only the best trailer of each film.

    Raises:
        ModelMismatchError: the index holds the vectors of another model.
        SettingsError: `k` is less than 1.
    """
    if k < 1:
        raise SettingsError(f"at least 1 answer has to be asked for, got {k}")
    n = k
    while True:
        asked = n + len(left_out) + _SPARE
        rows = [row for row in index.nearest(query, asked, model_version=model_version) if row not in left_out]
        found = _score(index, query, rows)
        if one_per_film:
            best: dict[str, Neighbour] = {}
            for answer in found:
                best.setdefault(answer.film_id, answer)
            found = list(best.values())
        if len(found) >= k or asked >= index.manifest.n:
            return found[:k]
        n *= 4


def find_rows_taken_down(index: ServedIndex, store: Store) -> frozenset[int]:
    """The rows of trailers that were taken down since the index was built."""
    return frozenset(index.row_of[gone] for gone in read_taken_down(store) if gone in index.row_of)


def _score(index: ServedIndex, query: NDArray[np.float32], rows: list[int]) -> list[Neighbour]:
    """Exact scores, in double precision so that the two shares add up."""
    if not rows:
        return []
    vectors = normalise(np.array([index.vector(row) for row in rows], dtype=np.float64))
    unit = normalise(query.astype(np.float64))
    shares = zip(*split_scores(unit, vectors, index.manifest.video_dim), strict=True)
    answers = []
    for row, (video_share, audio_share) in zip(rows, shares, strict=True):
        trailer = index.trailers[row]
        answers.append(
            Neighbour(
                **trailer.model_dump(exclude={"year"}),
                score=float(video_share) + float(audio_share),
                video_share=float(video_share),
                audio_share=float(audio_share),
            )
        )
    return sorted(answers, key=_best_first)


def _best_first(answer: Neighbour) -> tuple[float, str]:
    return -answer.score, answer.trailer_id
