"""The source `imdb_datasets`: IMDb's non-commercial data set of titles, joined to the trailers of other sources.

It has no trailers. `title.basics.tsv.gz` is streamed (a gigabyte unpacked), and of what it says about films that
another source lists, title, year and genres are taken: IMDb's genres go before those of the other source. What it calls
another kind of title than a film, or adult, is set aside.

Does not belong here: trailers of films that no other source lists.
"""

from __future__ import annotations

import gzip
import io
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from trailer_ml.catalog.findings import set_aside
from trailer_ml.errors import SettingsError, SourceUnavailableError, TrailerError
from trailer_ml.records import Trailer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from trailer_ml.catalog.source import Found
    from trailer_ml.records import Interval
    from trailer_ml.settings import Settings

TERMS = (
    "IMDb's data sets are for personal and non-commercial use, not to be passed on, and to be named: Information "
    "courtesy of IMDb (https://www.imdb.com). Used with permission."
)
NEEDS_CONSENT = True
HAS_DATES = True

_COLUMNS = [
    "tconst", "titleType", "primaryTitle", "originalTitle", "isAdult", "startYear", "endYear", "runtimeMinutes",
    "genres",
]  # fmt: skip
_NULL = "\\N"
_TIMEOUT_S = 60.0


class _Title(NamedTuple):
    kind: str
    title: str
    is_adult: bool
    year: int | None
    genres: tuple[str, ...]


def list_trailers(interval: Interval, settings: Settings) -> Iterator[Found]:
    """None: see `join_titles`."""
    del interval, settings
    yield from ()


def join_titles(trailers: Iterable[Trailer], settings: Settings) -> Iterator[Found]:
    """Trailers with what IMDb says of their films, and those set aside that belong to no film.

    Args:
        trailers: of any sources; those without an IMDb id go through as they are.
        settings: all; `sources.imdb_datasets_url` and `catalog.user_agent` are read.

    Raises:
        SettingsError: the path leads nowhere.
        SourceUnavailableError: the file does not come, breaks off, or is no such table.
    """
    kept = list(trailers)
    wanted = {tconst for trailer in kept if (tconst := _tconst(trailer))}
    titles = dict(_read_titles(wanted, settings)) if wanted else {}
    for trailer in kept:
        yield _join(trailer, titles)


def _join(trailer: Trailer, titles: Mapping[str, _Title]) -> Found:
    title = titles.get(_tconst(trailer) or "")
    if title is None:
        return trailer
    if title.kind not in {"movie", "tvMovie"} or title.is_adult:
        reason = "adult" if title.is_adult else "not_a_movie"
        detail = f"{title.title} ({title.kind}), by IMDb's data set"
        return set_aside(trailer.film_id, reason, detail)
    facts = {"title": title.title, "year": title.year, "genres": title.genres or trailer.genres}
    return trailer.model_copy(update=facts)


def _tconst(trailer: Trailer) -> str | None:
    names = (trailer.film_id, *trailer.film_aliases)
    return next((name.removeprefix("imdb-") for name in names if name.startswith("imdb-tt")), None)


def _read_titles(wanted: set[str], settings: Settings) -> Iterator[tuple[str, _Title]]:
    where = settings.sources.imdb_datasets_url
    try:
        with _open(where, settings.catalog.user_agent) as packed, gzip.open(packed) as plain:
            lines = io.TextIOWrapper(cast("IO[bytes]", plain), encoding="utf-8", newline="\n")
            if _split(next(lines, "")) != _COLUMNS:
                raise SourceUnavailableError(f"{where} is no title.basics: its first line is not {' '.join(_COLUMNS)}")
            for line in lines:  # most are not wanted: they are not split
                tconst = line[: line.find("\t")]
                if tconst in wanted:
                    yield tconst, _to_title(_split(line))
    except TrailerError:
        raise
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise SourceUnavailableError(f"{where} cannot be read to its end: {error}") from None


def _split(line: str) -> list[str]:
    """The columns of a line; quotation marks are letters here."""
    return line.rstrip("\n").split("\t")


def _to_title(row: list[str]) -> _Title:
    _, kind, title, _, is_adult, year, _, _, genres = row
    return _Title(
        kind=kind,
        title=title,
        is_adult=is_adult == "1",
        year=None if year == _NULL else int(year),
        genres=() if genres == _NULL else tuple(genres.split(",")),
    )


@contextmanager
def _open(where: str, user_agent: str) -> Iterator[IO[bytes]]:
    if "://" not in where:
        if not Path(where).is_file():
            raise SettingsError(f"TRAILER_SOURCES_IMDB_DATASETS_URL: there is no file {where}")
        with Path(where).open("rb") as file:
            yield file
        return
    import requests

    headers = {"User-Agent": user_agent, "Accept-Encoding": "identity"}
    # A redirect may lead to an address inside, and the data sets have none.
    with requests.get(where, headers=headers, stream=True, timeout=_TIMEOUT_S, allow_redirects=False) as answer:
        answer.raise_for_status()
        if answer.is_redirect:
            raise SourceUnavailableError(f"{where} sends us elsewhere, which is not followed")
        yield cast("IO[bytes]", answer.raw)
