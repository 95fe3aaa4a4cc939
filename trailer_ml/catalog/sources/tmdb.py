"""The source `tmdb`: the trailers of films about to come out, from TMDB's API.

TMDB cannot be asked which trailers are new. So the films are asked for that come out between 90 days before the
interval and 365 days after it, the most popular first, `sources.max_items` of them at most and never more than 10,000:
TMDB shows no page behind the 500th. One request a film says which videos it has, and those that were published in the
interval are listed. A night takes a request a film and one for every 20; most are answered "not changed".

Does not belong here: asking politely (http.py).
"""

from __future__ import annotations

import datetime as dt
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from trailer_ml.catalog.findings import check_found, read_rows, set_aside, utc_date
from trailer_ml.catalog.genres import map_genres, read_genre_table
from trailer_ml.catalog.http import ApiClient, JsonObject, read_key
from trailer_ml.catalog.names import imdb_film_id, youtube_trailer_id, youtube_url
from trailer_ml.errors import SettingsError, SourceUnavailableError
from trailer_ml.records import Trailer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trailer_ml.records import Interval, Quarantine
    from trailer_ml.settings import Settings

logger = logging.getLogger(__name__)

TERMS = (
    "TMDB's API is free for non-commercial use that names TMDB and keeps no answer for more than six months. Training "
    "a model (AI/ML) on its data needs a written agreement with TMDB, and so does commercial use: ask it only where "
    "you have that, or train nothing on what it says. The videos are on YouTube, under YouTube's terms."
)
NEEDS_CONSENT = True
HAS_DATES = True

_KEY_SETTING = "TRAILER_SOURCES_TMDB_BEARER"
_BEFORE = dt.timedelta(days=90)
_AFTER = dt.timedelta(days=365)
_MAX_PAGES = 500
_KINDS = {"Trailer", "Teaser"}


class _Genre(BaseModel):
    id: int
    name: str


class _Genres(BaseModel):
    genres: list[_Genre]


class _Page(BaseModel):
    results: list[Any]
    total_pages: int


class _Hit(BaseModel):
    id: int


class _Videos(BaseModel):
    results: list[Any]


class _ExternalIds(BaseModel):
    imdb_id: str | None = None


class _Film(BaseModel):
    id: int
    title: str = Field(min_length=1)
    overview: str | None = None
    release_date: str | None = None
    genres: list[_Genre] = []
    videos: _Videos
    external_ids: _ExternalIds = _ExternalIds()

    @property
    def film_id(self) -> str:
        return imdb_film_id(self.external_ids.imdb_id or "") or f"tmdb-{self.id}"

    @property
    def year(self) -> int | None:
        return int(self.release_date[:4]) if self.release_date else None


class _Video(BaseModel):
    key: str
    type: str
    name: str = ""
    official: bool | None = None
    iso_639_1: str | None = None
    published_at: dt.datetime


def list_trailers(interval: Interval, settings: Settings) -> Iterator[Trailer | Quarantine]:
    """The trailers and teasers on YouTube that were published in the interval; which films: see above.

    Args:
        interval: by the date at which YouTube published them (UTC).
        settings: all; `sources` is read.

    Raises:
        SettingsError: there is no token, or TMDB refuses it.
        RateLimitedError: TMDB asks for a longer wait than is set.
        SourceUnavailableError: TMDB does not answer, or not as it should.
    """
    token = read_key(settings.sources.tmdb_bearer, _KEY_SETTING)
    if not token:
        raise SettingsError(f"TMDB is asked with a token: set {_KEY_SETTING} to the read access token of your account")
    table = read_genre_table(settings.catalog.genres_path)
    with ApiClient(
        "tmdb",
        settings.sources.tmdb_url,
        settings,
        secret_headers={"Authorization": f"Bearer {token}"},
        key_setting=_KEY_SETTING,
    ) as client:
        # In English, whatever language the films are asked for in: our table is.
        listed = client.get("/genre/movie/list", {"language": "en"}, _Genres).genres
        genres = {genre.id: genre.name for genre in listed}
        read = partial(_read_film, client=client, genres=genres, table=table, interval=interval, settings=settings)
        hits = _discover(client, interval, settings)
        yield from check_found("tmdb", read_rows("tmdb", hits, read), table)


def _discover(client: ApiClient, interval: Interval, settings: Settings) -> Iterator[Any]:
    """The rows of the films that are asked for."""
    question = {
        "primary_release_date.gte": (interval.start - _BEFORE).isoformat(),
        "primary_release_date.lte": (interval.end + _AFTER).isoformat(),
        "sort_by": "popularity.desc",
        "include_adult": "false",
        "include_video": "false",
        "language": settings.sources.language,
    }
    number, n_pages, n_left = 0, 1, settings.sources.max_items
    while number < min(n_pages, _MAX_PAGES) and n_left > 0:
        number += 1
        page = client.get("/discover/movie", {**question, "page": number}, _Page)
        n_pages = page.total_pages
        if not page.results and number <= n_pages and number > 1:
            raise SourceUnavailableError(f"tmdb: page {number} of {n_pages} is empty")
        yield from page.results[:n_left]
        n_left -= len(page.results)
    if number < n_pages:
        logger.warning("tmdb has %d pages of films, %d are asked for (TRAILER_SOURCES_MAX_ITEMS)", n_pages, number)


def _read_film(
    hit: Any,
    *,
    client: ApiClient,
    genres: Mapping[int, str],
    table: Mapping[str, str],
    interval: Interval,
    settings: Settings,
) -> Iterator[Trailer | Quarantine]:
    film_number = _Hit.model_validate(hit).id
    language = settings.sources.language
    question = {
        "append_to_response": "videos,external_ids",
        "language": language,
        "include_video_language": language,
    }
    answer = client.find(f"/movie/{film_number}", question, JsonObject)
    if answer is None:  # between the two requests, or as a duplicate
        yield set_aside(f"tmdb-{film_number}", "gone", "TMDB lists it and has it no longer")
        return
    film = _Film.model_validate(answer.root)
    videos = [video for video in film.videos.results if _is_trailer(video)]
    if not videos:
        yield set_aside(film.film_id, "no_trailer", f"TMDB has no trailer of {film.title!r} on YouTube in {language!r}")
    names = (genres.get(genre.id, genre.name) for genre in film.genres)
    known, _ = map_genres(names, table)
    videos.sort(key=lambda video: str(video.get("key")))
    yield from read_rows("tmdb", videos, partial(_read_video, film=film, genres=known, interval=interval))


def _is_trailer(video: Any) -> bool:
    return isinstance(video, dict) and video.get("site") == "YouTube" and video.get("type") in _KINDS


def _read_video(video: Any, *, film: _Film, genres: tuple[str, ...], interval: Interval) -> Iterator[Trailer]:
    row = _Video.model_validate(video)
    listed_on = utc_date(row.published_at)
    trailer_id = youtube_trailer_id(row.key)
    if not interval.start <= listed_on < interval.end:
        return
    yield Trailer(
        trailer_id=trailer_id,
        film_id=film.film_id,
        title=film.title,
        kind=row.type.lower(),
        genres=genres,
        year=film.year,
        plot=film.overview or "",
        source="tmdb",
        source_url=youtube_url(row.key),
        page_url=f"https://www.themoviedb.org/movie/{film.id}",
        listed_on=listed_on,
        film_aliases=() if film.film_id == f"tmdb-{film.id}" else (f"tmdb-{film.id}",),
        video_title=row.name,
        language="" if row.iso_639_1 in {None, "xx"} else str(row.iso_639_1),
        is_official=row.official,
    )
