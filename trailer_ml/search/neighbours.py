"""From a vector to answers: the nearest trailers of an index, scored exactly, less those that an answer leaves out.

Does not belong here: where the vector comes from, and anything that handles video.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trailer_ml.catalog.listing import read_taken_down
from trailer_ml.errors import SettingsError
from trailer_ml.records import Neighbour
from trailer_ml.search.filters import ANY
from trailer_ml.vectors import normalise, split_scores, top_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from trailer_ml.index.serve import ServedIndex
    from trailer_ml.records import EmbeddedTrailer
    from trailer_ml.search.filters import Filters
    from trailer_ml.storage import Store

_Scored = tuple[int, float, float]
"""A row, its video share and its audio share."""
_SPARE = 10  # candidates beyond those asked for: the last places are where an approximate search errs
_LEFT_OUT = 30  # more of those left out are not near all at once, and asking for as many would cost each answer
_FIRST_OF_ALL = 4096  # of all, so many are put in order first, then sixteen times as many
_LOOKS = 3  # each four times as wide; what leaves too few answers even then is looked for among all


def find_neighbours(
    index: ServedIndex,
    query: NDArray[np.float32],
    k: int,
    *,
    model_version: str,
    left_out: AbstractSet[int] = frozenset(),
    one_per_film: bool = False,
    wanted: Filters = ANY,
    genres: Collection[str] = (),
) -> list[Neighbour]:
    """The `k` nearest trailers, best first; of equal scores the lower trailer id comes first.

    Args:
        index: where to look.
        query: (dim,) float.
        k: fewer are returned only where there are fewer.
        model_version: the model that made the query.
        left_out: rows of the index that are no answer.
        one_per_film: only the best trailer of each film, which names the others.
        wanted: what an answer has to be.
        genres: of what is asked about; an answer says which it shares.

    Raises:
        ModelMismatchError: the index holds the vectors of another model.
        SettingsError: `k` is less than 1.
    """
    if k < 1:
        raise SettingsError(f"at least 1 answer has to be asked for, got {k}")

    def is_answer(row: int) -> bool:
        return row not in left_out and wanted.take(index.trailers[row])

    best: list[_Scored] = []
    for look in range(_LOOKS):
        asked = (k + min(len(left_out), _LEFT_OUT)) * 4**look + _SPARE
        near = index.nearest(query, asked, model_version=model_version)
        best = _score(index, query, [row for row in near if is_answer(row)])
        if one_per_film:
            best = _take_one_per_film(index, best)
        if len(best) >= k or asked >= index.n:
            break
    else:
        best = _score(index, query, _take_from_all(index, query, k + _SPARE, is_answer, one_per_film=one_per_film))
    answers = []
    for row, video_share, audio_share in best[:k]:
        film = index.rows_of_film[index.trailers[row].film_id] if one_per_film else ()
        also = [index.trailers[other].trailer_id for other in film if other != row and is_answer(other)]
        answers.append(_describe(index.trailers[row], video_share, audio_share, genres, also))
    return answers


def _take_from_all(
    index: ServedIndex, query: NDArray[np.float32], n: int, is_answer: Callable[[int], bool], *, one_per_film: bool
) -> list[int]:
    """The rows of the `n` nearest answers by exact search; with `one_per_film` of the best of as many films."""
    scores = index.scores(query)
    asked = _FIRST_OF_ALL
    while True:
        found: list[int] = []
        films: set[str] = set()
        for row in top_rows(scores, asked).tolist():
            film_id = index.trailers[row].film_id
            if is_answer(row) and not (one_per_film and film_id in films):
                films.add(film_id)
                found.append(row)
                if len(found) == n:
                    return found
        if asked >= len(scores):
            return found
        asked *= 16


def find_rows_taken_down(index: ServedIndex, store: Store) -> frozenset[int]:
    """The rows of trailers that were taken down since the index was built."""
    return frozenset(index.row_of[gone] for gone in read_taken_down(store) if gone in index.row_of)


def _score(index: ServedIndex, query: NDArray[np.float32], rows: list[int]) -> list[_Scored]:
    """Rows with their exact shares, best first, in double precision so that the two add up."""
    if not rows:
        return []
    vectors = normalise(index.vectors_of(rows).astype(np.float64))
    unit = normalise(query.astype(np.float64))
    video, audio = split_scores(unit, vectors, index.manifest.video_dim)
    scored = zip(rows, video.tolist(), audio.tolist(), strict=True)
    return sorted(scored, key=lambda each: (-(each[1] + each[2]), index.trailers[each[0]].trailer_id))


def _take_one_per_film(index: ServedIndex, scored: list[_Scored]) -> list[_Scored]:
    best: dict[str, _Scored] = {}
    for each in scored:
        best.setdefault(index.trailers[each[0]].film_id, each)
    return list(best.values())


def _describe(
    trailer: EmbeddedTrailer, video_share: float, audio_share: float, genres: Collection[str], also: Sequence[str]
) -> Neighbour:
    return Neighbour(
        **trailer.model_dump(),
        score=video_share + audio_share,
        video_share=video_share,
        audio_share=audio_share,
        shared_genres=tuple(genre for genre in trailer.genres if genre in genres),
        also=tuple(also),
    )
