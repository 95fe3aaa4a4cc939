"""One vocabulary of genres: what each source calls a genre, in the words of IMDb.

A table (name, genre) says it: genres.csv beside this file, or one of the user's own in `catalog.genres_path`, whose
rows go before. An empty genre drops the name: `IMAX` is none. A name that no row knows is kept as it is and reported.

Does not belong here: which genres a model is trained on.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from trailer_ml.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VOCABULARY = (
    "Action", "Adventure", "Animation", "Biography", "Comedy", "Crime", "Documentary", "Drama", "Family", "Fantasy",
    "Film-Noir", "Game-Show", "History", "Horror", "Music", "Musical", "Mystery", "News", "Reality-TV", "Romance",
    "Sci-Fi", "Short", "Sport", "Talk-Show", "Thriller", "War", "Western",
)  # fmt: skip
_FILM_ENDINGS = (" film", " movie", " films", " movies")


def read_genre_table(path: str = "") -> dict[str, str]:
    """Name of a genre, lower case -> genre, or empty to drop it.

    Args:
        path: a table of the user's own, whose rows go before ours; empty: ours only.

    Raises:
        SettingsError: there is no such file, or it is no such table.
    """
    table = {genre.lower(): genre for genre in VOCABULARY}
    for file in (Path(__file__).with_name("genres.csv"), *([Path(path)] if path else [])):
        try:
            with file.open(encoding="utf-8-sig", newline="") as lines:
                table |= {row["name"].strip().lower(): row["genre"].strip() for row in csv.DictReader(lines)}
        except (OSError, UnicodeDecodeError, KeyError, AttributeError) as error:
            raise SettingsError(f"TRAILER_CATALOG_GENRES_PATH: {file} is no table of name,genre: {error}") from None
    return table


def map_genres(names: Iterable[str], table: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A source's genres in our words, and those of them that the table does not know (kept, as they are).

    >>> map_genres(["Science Fiction", "IMAX", "horror film", "Slasher"], read_genre_table())
    (('Sci-Fi', 'Horror', 'Slasher'), ('Slasher',))
    """
    genres: dict[str, None] = {}
    unknown = []
    for name in names:
        plain = " ".join(name.split())
        found = table.get(plain.lower())
        for ending in _FILM_ENDINGS:
            if found is None:
                found = table.get(plain.lower().removesuffix(ending))
        if found is None and plain:
            unknown.append(plain)
        if kept := plain if found is None else found:
            genres[kept] = None
    return tuple(genres), tuple(unknown)
