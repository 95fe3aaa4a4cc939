"""The source `wikidata`: the videos on YouTube (P1651) that Wikidata names for films.

Two kinds of question. Which films there are: ids only, in their order, by LIMIT and OFFSET; the engine looks at all of
them for each page, so that question is kept bare. What is known of them: 50 films at once by VALUES, one fact a row. A
join of all facts would give a row for each genre of each video of each date, and a LIMIT would cut a film in two.

Wikidata does not say when a video came, and a video may be the film itself and no trailer: it is one for certain only
where the statement's role (P3831) says so; else its kind is `video`, and what is too long is left out when downloaded.

Does not belong here: asking politely (http.py).
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from trailer_ml.catalog.findings import check_found, last_day, read_rows, set_aside
from trailer_ml.catalog.genres import map_genres, read_genre_table
from trailer_ml.catalog.http import ApiClient
from trailer_ml.catalog.names import imdb_film_id, youtube_trailer_id, youtube_url
from trailer_ml.records import Trailer

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator, Mapping

    from trailer_ml.records import Interval, Quarantine
    from trailer_ml.settings import Settings

logger = logging.getLogger(__name__)

TERMS = (
    "Wikidata's data is in the public domain (CC0). The videos that it names are on YouTube, under YouTube's terms and "
    "their owners' rights."
)
NEEDS_CONSENT = False
HAS_DATES = False

_PAGE = 1000
_BATCH = 50
_FILMS = """
SELECT DISTINCT ?film WHERE {{
  ?film wdt:P1651 ?video; wdt:P31/wdt:P279* wd:Q11424.
}}
ORDER BY ?film LIMIT {limit} OFFSET {offset}
"""
_FACTS = """
SELECT ?film ?what ?value WHERE {{
  VALUES ?film {{ {films} }}
  {{ ?film rdfs:label ?value. FILTER(LANG(?value) IN ("en", "mul")) BIND("title" AS ?what) }}
  UNION {{ ?film wdt:P1651 ?value. BIND("video" AS ?what) }}
  UNION {{ ?film p:P1651 ?statement. ?statement ps:P1651 ?value; pq:P3831 wd:Q622550. BIND("trailer" AS ?what) }}
  UNION {{ ?film wdt:P136 ?genre. ?genre rdfs:label ?value. FILTER(LANG(?value) = "en") BIND("genre" AS ?what) }}
  UNION {{ ?film wdt:P345 ?value. BIND("imdb" AS ?what) }}
  UNION {{ ?film wdt:P4947 ?value. BIND("tmdb" AS ?what) }}
  UNION {{ ?film wdt:P577 ?value. BIND("published" AS ?what) }}
  UNION {{ ?film wdt:P6216 ?status. ?status rdfs:label ?value. FILTER(LANG(?value) = "en") BIND("status" AS ?what) }}
}}
ORDER BY ?film ?what ?value
"""


class _Term(BaseModel):
    value: str
    language: str = Field(default="", alias="xml:lang")


class _Binding(BaseModel):
    film: _Term
    what: _Term = _Term(value="")
    value: _Term = _Term(value="")


class _Results(BaseModel):
    bindings: list[_Binding]


class _Answer(BaseModel):
    results: _Results


Facts = dict[str, list[_Term]]


def list_trailers(interval: Interval, settings: Settings) -> Iterator[Trailer | Quarantine]:
    """The videos of films, `sources.max_items` films at most: always the same ones, the first in the order of ids.

    Args:
        interval: its last day is when they are listed.
        settings: all; `sources` is read.

    Raises:
        SourceBlockedError: Wikidata refuses us: `catalog.user_agent` has to say who we are.
        RateLimitedError: it asks for a longer wait than is set.
        SourceUnavailableError: it does not answer, or not as it should.
    """
    table = read_genre_table(settings.catalog.genres_path)
    with ApiClient("wikidata", settings.sources.wikidata_url, settings) as client:
        read = partial(_read_film, table=table, listed_on=last_day(interval))
        films = _films(client, settings.sources.max_items)
        yield from check_found("wikidata", read_rows("wikidata", films, read), table)


def _ask(client: ApiClient, query: str) -> list[_Binding]:
    return client.get("", {"query": query, "format": "json"}, _Answer).results.bindings


def _films(client: ApiClient, max_items: int) -> Iterator[tuple[str, Facts]]:
    """The number of each film (`Q…`) and what is known of it."""
    for offset in range(0, max_items, _PAGE):
        limit = min(_PAGE, max_items - offset)
        rows = _ask(client, _FILMS.format(limit=limit, offset=offset))
        films = [number for row in rows if re.fullmatch(r"Q\d+", number := _number(row))]
        for start in range(0, len(films), _BATCH):
            batch = films[start : start + _BATCH]
            facts: dict[str, Facts] = {film: defaultdict(list) for film in batch}
            for row in _ask(client, _FACTS.format(films=" ".join(f"wd:{film}" for film in batch))):
                if (number := _number(row)) in facts:
                    facts[number][row.what.value].append(row.value)
            yield from facts.items()
        if len(rows) < limit:
            return
    logger.warning("wikidata: only the first %d films are asked for (TRAILER_SOURCES_MAX_ITEMS)", max_items)


def _number(row: _Binding) -> str:
    return row.film.value.rpartition("/")[2]


def _read_film(
    film: tuple[str, Facts], *, table: Mapping[str, str], listed_on: dt.date
) -> Iterator[Trailer | Quarantine]:
    number, facts = film
    imdb = next((film_id for term in facts["imdb"] if (film_id := imdb_film_id(term.value))), None)
    tmdb = next((f"tmdb-{term.value}" for term in facts["tmdb"] if term.value.isdecimal()), None)
    names = [name for name in (imdb, tmdb, f"wikidata-{number.lower()}") if name]
    titles = sorted(facts["title"], key=lambda term: term.language != "en")
    if not titles:
        yield set_aside(names[0], "unreadable", f"Wikidata has no English label of {number}")
        return
    genres, _ = map_genres((term.value for term in facts["genre"]), table)
    years = [int(found[1]) for term in facts["published"] if (found := re.match(r"(\d{4})-", term.value))]
    make = partial(
        Trailer,
        film_id=names[0],
        title=titles[0].value,
        genres=genres,
        year=min(years, default=None),
        source="wikidata",
        page_url=f"https://www.wikidata.org/wiki/{number}",
        listed_on=listed_on,
        film_aliases=tuple(names[1:2]) if imdb and tmdb else (),
        license=", ".join(term.value for term in facts["status"]),
    )
    trailers = {term.value for term in facts["trailer"]}
    videos = sorted({term.value for term in facts["video"]})
    yield from read_rows("wikidata", videos, lambda video: [_make(make, video, is_trailer=video in trailers)])
    if not videos:
        yield set_aside(names[0], "no_trailer", f"Wikidata names no video of {titles[0].value!r} any longer")


def _make(make: Callable[..., Trailer], youtube_id: str, *, is_trailer: bool) -> Trailer:
    return make(
        trailer_id=youtube_trailer_id(youtube_id),
        kind="trailer" if is_trailer else "video",
        source_url=youtube_url(youtube_id),
    )
