"""The source `kinocheck`: the newest trailers that KinoCheck shows, on YouTube, with their genres.

They come newest first, so reading ends where a whole page is older than the interval, and after `sources.max_items`
trailers. An answer has its rows under "0", "1", … and beside them "_metadata" with the number of pages.

Does not belong here: asking politely (http.py).
"""

from __future__ import annotations

import datetime as dt
import logging
import re
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from trailer_ml.catalog.findings import check_found, read_rows, set_aside, utc_date
from trailer_ml.catalog.genres import map_genres, read_genre_table
from trailer_ml.catalog.http import ApiClient, read_key
from trailer_ml.catalog.names import imdb_film_id, youtube_trailer_id, youtube_url
from trailer_ml.errors import SourceUnavailableError
from trailer_ml.records import Trailer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trailer_ml.records import Interval, Quarantine
    from trailer_ml.settings import Settings

logger = logging.getLogger(__name__)

TERMS = (
    "KinoCheck's API answers about 1000 questions a day for free. Its terms are on its site: read there whether a "
    "model may be trained on its data, and ask it only where it may. The videos are on YouTube, under YouTube's terms."
)
NEEDS_CONSENT = True
HAS_DATES = True

_KEY_SETTING = "TRAILER_SOURCES_KINOCHECK_API_KEY"
_KINDS = ("Trailer", "Teaser")
_FILM_TITLE = re.compile(r"(.+?)\s+(?:(?:official|final|new|first)\s+)*(?:trailer|teaser)\b", re.IGNORECASE)
_YEAR = re.compile(r"\(((?:19|20)\d\d)\)")


class _Metadata(BaseModel):
    total_pages: int


class _Page(BaseModel):
    model_config = ConfigDict(extra="allow")

    metadata: _Metadata = Field(alias="_metadata")

    @property
    def rows(self) -> list[Any]:
        numbered = self.model_extra or {}
        return [numbered[key] for key in sorted((key for key in numbered if key.isdecimal()), key=int)]


class _Resource(BaseModel):
    type: str | None = None
    title: str | None = None
    imdb_id: str | None = None
    tmdb_id: int | None = None


class _Video(BaseModel):
    id: str
    youtube_video_id: str | None = None
    title: str = Field(min_length=1)
    url: str | None = None
    language: str | None = None
    categories: list[str]
    genres: list[str] | None = None
    published: dt.datetime
    resource: _Resource | None = None

    @property
    def film_names(self) -> list[str]:
        """The best name of its film first."""
        resource = self.resource or _Resource()
        tmdb = f"tmdb-{resource.tmdb_id}" if resource.tmdb_id else None
        names = (imdb_film_id(resource.imdb_id or ""), tmdb, f"kinocheck-{self.id}".lower())
        return [name for name in names if name]


def list_trailers(interval: Interval, settings: Settings) -> Iterator[Trailer | Quarantine]:
    """The trailers and teasers that KinoCheck published in the interval (UTC).

    Args:
        interval: by the date at which KinoCheck published them.
        settings: all; `sources` is read.

    Raises:
        SettingsError: KinoCheck refuses the key.
        SourceBlockedError: it refuses us, and we have no key.
        RateLimitedError: it asks for a longer wait than is set.
        SourceUnavailableError: it does not answer, or not as it should.
    """
    key = read_key(settings.sources.kinocheck_api_key, _KEY_SETTING)
    url = settings.sources.kinocheck_url
    table = read_genre_table(settings.catalog.genres_path)
    with ApiClient(
        "kinocheck",
        url,
        settings,
        secret_headers={"X-Api-Key": key, "X-Api-Host": urlsplit(url).netloc} if key else {},
        key_setting=_KEY_SETTING if key else "",
    ) as client:
        read = partial(_read_video, table=table, interval=interval)
        yield from check_found("kinocheck", read_rows("kinocheck", _rows(client, interval, settings), read), table)


def _rows(client: ApiClient, interval: Interval, settings: Settings) -> Iterator[Any]:
    edge = (interval.start - dt.timedelta(days=1)).isoformat()  # a day early: they say the time of their own place
    number, n_pages, n_left = 0, 1, settings.sources.max_items
    while number < n_pages and n_left > 0:
        number += 1
        question = {"language": settings.sources.language, "categories": "Trailer,Teaser", "page": number}
        page = client.get("/trailers/latest", question, _Page)
        rows, n_pages = page.rows, page.metadata.total_pages
        if not rows and 1 < number <= n_pages:
            raise SourceUnavailableError(f"kinocheck: page {number} of {n_pages} is empty")
        yield from rows[:n_left]
        n_left -= len(rows)
        if all(_published(row) < edge for row in rows):
            return
    if number < n_pages:
        logger.warning("kinocheck has %d pages, %d are asked for (TRAILER_SOURCES_MAX_ITEMS)", n_pages, number)


def _published(row: Any) -> str:
    return str(row.get("published", "")) if isinstance(row, dict) else ""


def _read_video(row: Any, *, table: Mapping[str, str], interval: Interval) -> Iterator[Trailer | Quarantine]:
    video = _Video.model_validate(row)
    listed_on = utc_date(video.published)
    kind = next((kind for kind in _KINDS if kind in video.categories), None)
    if not interval.start <= listed_on < interval.end or kind is None:
        return
    film_id, *aliases = video.film_names
    resource = video.resource or _Resource()
    if resource.type not in {None, "movie"}:
        yield set_aside(film_id, "not_a_movie", f"KinoCheck calls it a {resource.type}")
        return
    if not video.youtube_video_id:
        yield set_aside(film_id, "no_trailer", f"KinoCheck has {video.title!r} and not on YouTube")
        return
    genres, _ = map_genres(video.genres or (), table)
    found = _FILM_TITLE.match(video.title)
    year = _YEAR.search(video.title)
    yield Trailer(
        trailer_id=youtube_trailer_id(video.youtube_video_id),
        film_id=film_id,
        title=resource.title or (found[1] if found else video.title),
        kind=kind.lower(),
        genres=genres,
        year=int(year[1]) if year else None,
        source="kinocheck",
        source_url=youtube_url(video.youtube_video_id),
        page_url=video.url if (video.url or "").startswith("https://") else "",
        listed_on=listed_on,
        film_aliases=tuple(name for name in aliases if name.startswith("tmdb-")),
        video_title=video.title,
        language=video.language or "",
    )
