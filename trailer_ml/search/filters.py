"""Which trailers a person wants to see among the answers.

Does not belong here: finding them (see neighbours.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from trailer_ml.records import EmbeddedTrailer


class Filters(NamedTuple):
    """What an answer has to be; empty: it need not."""

    genres: tuple[str, ...] = ()
    """One of these at least, in any spelling of case."""
    year_from: int | None = None
    year_to: int | None = None
    """Both years are in; a trailer whose year is not known is out where one is asked for."""
    sources: tuple[str, ...] = ()
    """One of these, in any spelling of case, as an id begins: `imdb` of `imdb-vi1`."""

    def take(self, trailer: EmbeddedTrailer) -> bool:
        """Whether a trailer is wanted.

        >>> from trailer_ml.records import EmbeddedTrailer
        >>> rain = EmbeddedTrailer(trailer_id="imdb-vi1", film_id="f", title="Rain", genres=("Drama",), year=1999)
        >>> wanted = (Filters(genres=("drama", "War")), Filters(sources=("IMDb",)), Filters(year_from=2000))
        >>> [each.take(rain) for each in wanted]
        [True, True, False]
        """
        if self.genres and not {genre.casefold() for genre in self.genres} & {g.casefold() for g in trailer.genres}:
            return False
        if self.sources and trailer.trailer_id.split("-")[0] not in {source.casefold() for source in self.sources}:
            return False
        if self.year_from is None and self.year_to is None:
            return True
        return trailer.year is not None and (self.year_from or 0) <= trailer.year <= (self.year_to or trailer.year)


ANY = Filters()
