"""The source `movielens`: the MovieLens 20M YouTube Trailers data set, joined with the films of MovieLens.

A folder holds `ml-youtube.csv` (youtubeId,movieId,title), `links.csv` (movieId,imdbId,tmdbId) and `movies.csv`
(movieId,title,genres), as GroupLens packs them in ml-20m-youtube.zip and ml-20m.zip, ml-25m.zip or ml-latest.zip.

Does not belong here: fetching these files; their owner wants you to read the terms first.
"""

from __future__ import annotations

import csv
import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from trailer_ml.catalog.findings import describe, last_day, set_aside
from trailer_ml.catalog.genres import map_genres, read_genre_table
from trailer_ml.catalog.names import imdb_film_id, split_year, youtube_trailer_id, youtube_url
from trailer_ml.errors import SettingsError
from trailer_ml.records import Trailer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trailer_ml.catalog.source import Found
    from trailer_ml.records import Interval
    from trailer_ml.settings import Settings

logger = logging.getLogger(__name__)

TERMS = (
    "MovieLens (GroupLens, University of Minnesota) is for research: no commercial use, no passing on without "
    "permission, and to be cited; YouTube's terms forbid downloading without its or the owner's permission."
)
NEEDS_CONSENT = True
HAS_DATES = False

_FILES = {
    "ml-youtube.csv": ("youtubeId", "movieId", "title"),
    "links.csv": ("movieId", "imdbId", "tmdbId"),
    "movies.csv": ("movieId", "title", "genres"),
}


class _Film(NamedTuple):
    title: str
    year: int | None
    genres: tuple[str, ...]


def list_trailers(interval: Interval, settings: Settings) -> Iterator[Found]:
    """Every row of the data set: a trailer, or a film that is set aside, with the reason.

    Args:
        interval: its last day is the day on which they are listed: the data set has no dates.
        settings: all; `sources.movielens_folder` and `catalog.genres_path` are read.

    Raises:
        SettingsError: a file is missing, or is not what its name says.
    """
    folder = settings.sources.movielens_folder
    if not folder:
        raise SettingsError(
            "TRAILER_SOURCES_MOVIELENS_FOLDER: set the folder with ml-youtube.csv, links.csv, movies.csv"
        )
    films = _read_films(Path(folder), read_genre_table(settings.catalog.genres_path))
    aliases = {row["movieId"]: _aliases(row) for row in _read(Path(folder), "links.csv")}
    for row in _read(Path(folder), "ml-youtube.csv"):
        number = row["movieId"].strip()
        title, year = split_year(row["title"])
        film = films.get(number) or _Film(title, year, ())
        names = (*aliases.get(number, ()), f"movielens-{number}")
        try:
            yield Trailer(
                trailer_id=youtube_trailer_id(row["youtubeId"].strip()),
                film_id=names[0],
                film_aliases=names[1:],
                title=film.title,
                genres=film.genres,
                year=film.year,
                source="movielens",
                source_url=youtube_url(row["youtubeId"].strip()),
                listed_on=last_day(interval),
            )
        except ValueError as error:
            where = f"ml-youtube.csv, line {row['line']}"
            yield set_aside(_row_id(number), "unreadable", f"{where}: {describe(error)}")


def _read_films(folder: Path, table: Mapping[str, str]) -> dict[str, _Film]:
    films = {}
    unknown: Counter[str] = Counter()
    for row in _read(folder, "movies.csv"):
        title, year = split_year(row["title"])
        genres, strange = map_genres(row["genres"].split("|"), table)
        unknown.update(strange)
        films[row["movieId"]] = _Film(title, year, genres)
    if unknown:
        logger.warning("genres that no table knows, kept as they are: %s", dict(unknown.most_common(10)))
    return films


def _aliases(row: Mapping[str, str]) -> tuple[str, ...]:
    imdb = imdb_film_id(row["imdbId"] or "")
    tmdb = (row["tmdbId"] or "").strip()
    return tuple(filter(None, (imdb, f"tmdb-{int(tmdb)}" if tmdb.isascii() and tmdb.isdigit() else None)))


def _row_id(number: str) -> str:
    return f"movielens-{number}" if number.isascii() and number.isdigit() else "movielens-unreadable"


def _read(folder: Path, name: str) -> Iterator[dict[str, str]]:
    """The rows of a file, each with its `line`."""
    columns = _FILES[name]
    try:
        with (folder / name).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
                raise SettingsError(
                    f"{folder / name} has no column {', '.join(missing)}: it should be {','.join(columns)}"
                )
            for row in reader:
                yield {**{column: row[column] or "" for column in columns}, "line": str(reader.line_num)}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"TRAILER_SOURCES_MOVIELENS_FOLDER: {folder / name} cannot be read: {error}") from None
