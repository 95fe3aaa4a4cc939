"""Which trailers are of one film, whatever their sources call it.

Two names are one film when a trailer carries both (an IMDb and a TMDB id), or when title and year are the same and no
ids say otherwise. The first name that a film got in the catalog stays its name.

Does not belong here: which of a film's trailers are kept (choose.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trailer_ml.catalog.names import comparable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trailer_ml.records import Trailer

_EXACT = ("imdb-", "tmdb-")


class _Film(NamedTuple):
    film_id: str
    names: frozenset[str]


def merge_films(trailers: Iterable[Trailer], known: Iterable[Trailer]) -> list[Trailer]:
    """New trailers, each with the name that its film has in the catalog.

    Args:
        trailers: new ones; their order does not matter.
        known: those of the catalog, which stay as they are.

    Returns:
        In the order of the ids.
    """
    films = _Films()
    for trailer in known:
        films.name(trailer)
    new = sorted(trailers, key=lambda trailer: (-len(trailer.film_aliases), trailer.trailer_id))
    merged = [trailer.model_copy(update={"film_id": films.name(trailer)}) for trailer in new]
    return sorted(merged, key=lambda trailer: trailer.trailer_id)


class _Films:
    def __init__(self) -> None:
        self._by_name: dict[str, _Film] = {}
        self._by_title: dict[tuple[str, int], _Film] = {}

    def name(self, trailer: Trailer) -> str:
        """The name of a trailer's film; from now on it is known by all names of this trailer."""
        names = frozenset((trailer.film_id, *trailer.film_aliases))
        title = (comparable(trailer.title), trailer.year) if trailer.year is not None else None
        film = next((self._by_name[name] for name in sorted(names) if name in self._by_name), None)
        if film is None and title is not None and (namesake := self._by_title.get(title)):
            film = None if _are_told_apart(names, namesake.names) else namesake
        film = _Film(film.film_id, film.names | names) if film else _Film(trailer.film_id, names)
        self._by_name.update(dict.fromkeys(film.names, film))
        if title is not None:
            self._by_title[title] = film
        return film.film_id


def _are_told_apart(names: frozenset[str], others: frozenset[str]) -> bool:
    """Whether both have an id of the same kind, and not the same one."""
    for head in _EXACT:
        mine, theirs = ({name for name in some if name.startswith(head)} for some in (names, others))
        if mine and theirs and not mine & theirs:
            return True
    return False
