"""Which trailers are like this one?

Does not belong here: videos that are not in the index (see match.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trailer_ml.index.serve import open_current_index
from trailer_ml.search.neighbours import find_neighbours, find_rows_taken_down
from trailer_ml.search.unknown import explain_missing

if TYPE_CHECKING:
    from trailer_ml.index.serve import ServedIndex
    from trailer_ml.records import Neighbour
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store


def find_similar(
    trailer_id: str, settings: Settings, store: Store, k: int | None = None, *, same_film: bool = False
) -> list[Neighbour]:
    """The trailers nearest to one, best first, from the published index.

    Args:
        trailer_id: of a trailer in the index.
        settings: how many are returned, and where the index is kept on this machine.
        store: where the index is published.
        k: how many; None: `search.k`.
        same_film: other trailers of the same film are answers too.

    Raises:
        UnknownTrailerError: it is not in the index; the message says why, or which ids are close.
        NoIndexError: no index has been published yet.
    """
    with open_current_index(store, settings.index.cache_folder) as index:
        return find_similar_in(index, trailer_id, store, settings.search.k if k is None else k, same_film=same_film)


def find_similar_in(
    index: ServedIndex, trailer_id: str, store: Store, k: int, *, same_film: bool = False
) -> list[Neighbour]:
    """The same, from an index that is open already."""
    taken_down = find_rows_taken_down(index, store)
    row = index.row_of.get(trailer_id)
    if row is None or row in taken_down:
        raise explain_missing(trailer_id, store)
    film = {row} if same_film else {*index.rows_of_film[index.trailers[row].film_id]}
    return find_neighbours(
        index, index.vector(row), k, model_version=index.manifest.model_version, left_out=taken_down | film
    )
