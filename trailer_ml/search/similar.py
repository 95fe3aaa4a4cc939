"""Which trailers are like this one?

Does not belong here: videos that are not in the index (see match.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trailer_ml.index.rest import take_in_rest
from trailer_ml.index.serve import open_current_index
from trailer_ml.search.filters import ANY
from trailer_ml.search.neighbours import find_neighbours, find_rows_taken_down
from trailer_ml.search.unknown import explain_missing

if TYPE_CHECKING:
    from trailer_ml.index.serve import ServedIndex
    from trailer_ml.records import Neighbour
    from trailer_ml.search.filters import Filters
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store


def find_similar(
    trailer_id: str,
    settings: Settings,
    store: Store,
    k: int | None = None,
    *,
    same_film: bool = False,
    collapse: bool = True,
    wanted: Filters = ANY,
) -> list[Neighbour]:
    """The trailers nearest to one, best first, from the published index and what came since.

    Args:
        trailer_id: of a trailer in the index, or that was embedded since.
        settings: how many are returned, and where the index is kept on this machine.
        store: where the index is published.
        k: how many; None: `search.k`.
        same_film: other trailers of the same film are answers too, and no film is collapsed.
        collapse: of a film only the best trailer is an answer; it names the others.
        wanted: what an answer has to be.

    Raises:
        UnknownTrailerError: it is not in the index; the message says why, or which ids are close.
        NoIndexError: no index has been published yet.
    """
    n_asked = settings.search.k if k is None else k
    with open_current_index(store, settings.index.cache_folder) as index:
        return find_similar_in(index, trailer_id, store, n_asked, same_film=same_film, collapse=collapse, wanted=wanted)


def find_similar_in(
    index: ServedIndex,
    trailer_id: str,
    store: Store,
    k: int,
    *,
    same_film: bool = False,
    collapse: bool = True,
    wanted: Filters = ANY,
) -> list[Neighbour]:
    """The same, from an index that is open already."""
    take_in_rest(index, store)
    taken_down = find_rows_taken_down(index, store)
    row = index.row_of.get(trailer_id)
    if row is None or row in taken_down:
        raise explain_missing(trailer_id, store)
    trailer = index.trailers[row]
    film = {row} if same_film else {*index.rows_of_film[trailer.film_id]}
    return find_neighbours(
        index,
        index.vector(row),
        k,
        model_version=index.manifest.model_version,
        left_out=taken_down | film,
        one_per_film=collapse and not same_film,
        wanted=wanted,
        genres=trailer.genres,
    )
