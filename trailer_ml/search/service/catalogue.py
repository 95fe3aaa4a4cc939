"""The trailers of one index in the order in which people see them, and finding some by their words.

Does not belong here: likeness.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from trailer_ml.records import EmbeddedTrailer


class Catalogue:
    """Made once for an index.

    Args:
        trailers: in the order of its rows.
    """

    def __init__(self, trailers: Sequence[EmbeddedTrailer]) -> None:
        self._trailers = trailers
        self.n = len(trailers)
        self._titles = [fold(trailer.title) for trailer in trailers]
        self._order = sorted(
            range(len(trailers)),
            key=lambda row: (-(trailers[row].year or 0), self._titles[row], trailers[row].trailer_id),
        )

    def find(self, words: str, genre: str, left_out: AbstractSet[int]) -> list[int]:
        """Rows, the newest films first; titles that begin with the words come before all others.

        Args:
            words: each has to be in the title, or to be the id; empty: any trailer.
            genre: that it has to have; empty: any.
            left_out: rows that are no answer.

        >>> from trailer_ml.records import EmbeddedTrailer
        >>> make = lambda n, title: EmbeddedTrailer(trailer_id=f"t{n}", film_id=f"f{n}", title=title, year=2000 + n)
        >>> Catalogue([make(0, "The Fog"), make(1, "Fog of War"), make(2, "Sun")]).find("FOG", "", frozenset())
        [1, 0]
        """
        wanted = fold(words).split()
        rows = [
            row
            for row in self._order
            if row not in left_out
            and (not genre or genre in self._trailers[row].genres)
            and (all(word in self._titles[row] for word in wanted) or wanted == [self._trailers[row].trailer_id])
        ]
        if wanted:
            begin = " ".join(wanted)
            rows.sort(key=lambda row: not self._titles[row].startswith(begin))
        return rows

    def count_genres(self, left_out: AbstractSet[int]) -> dict[str, int]:
        """Trailers of each genre, the largest genre first."""
        counts = Counter(
            genre for row, trailer in enumerate(self._trailers) if row not in left_out for genre in trailer.genres
        )
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def fold(text: str) -> str:
    """As it is looked for: without case and without accents.

    >>> fold("AMÉLIE"), fold("Straße")
    ('amelie', 'strasse')
    """
    folded = text.casefold()
    if folded.isascii():
        return folded
    return "".join(each for each in unicodedata.normalize("NFKD", folded) if not unicodedata.combining(each))
