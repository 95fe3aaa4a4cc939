"""What IMDb-shaped pages say: pure functions from the JSON embedded in a page to facts.

Two sources are in a title page: `__NEXT_DATA__`, which has everything, and JSON-LD, which is shorter and stands in
where the first is missing or does not parse. Every path is optional: a field of another shape than expected counts as
absent.

Does not belong here: HTTP, and deciding what to do with a page that says nothing.
"""

from __future__ import annotations

import datetime as dt
import html
import json
import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

TITLE_ID = r"tt[0-9]{1,12}"
_TITLE_ID = re.compile(TITLE_ID)
_VIDEO_ID = re.compile(r"vi[0-9]{1,12}(?!\d)")
_KINDS = ("teaser", "recut", "trailer")
"""What counts as a trailer; clips, featurettes and interviews do not."""


class Video(NamedTuple):
    """A video that a title page offers."""

    video_id: str
    kind: str
    listed_on: dt.date
    duration_s: float | None
    film_id: str | None
    """The title it belongs to first of all, where the page says so."""


class TitlePage(NamedTuple):
    """What a title page says of its title."""

    title: str
    title_type: str
    """As IMDb has it: movie, tvSeries, tvEpisode, short, ..."""
    year: int | None
    genres: tuple[str, ...]
    plot: str
    videos: tuple[Video, ...]
    """Trailers only; of others the page may have any number."""
    is_undated: bool = False
    """It has trailers, and of none the date can be read."""


def parse_json(text: str | None) -> Any:
    """The value, or None for what is no JSON."""
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def read_chart(next_data: Any) -> list[str]:
    """The ids (`tt…`) of the titles on a chart page, in its order."""
    edges = _dig(next_data, "props", "pageProps", "pageData", "chartTitles", "edges")
    ids = (_text(edge, "node", "id") for edge in _items(edges))
    return [title_id for title_id in ids if _TITLE_ID.fullmatch(title_id)]


def read_title(next_data: Any, json_ld: Sequence[Any]) -> TitlePage | None:
    """What a title page says; None when it says nothing that can be read.

    Args:
        next_data: the parsed `__NEXT_DATA__`, or None.
        json_ld: the parsed JSON-LD blocks of the page.
    """
    page = _dig(next_data, "props", "pageProps")
    main = _dig(page, "aboveTheFoldData") or {}
    more = _dig(page, "mainColumnData") or {}
    ld: dict[str, Any] = next((block for block in json_ld if _text(block, "@type") and _text(block, "name")), {})
    title = _text(main, "titleText", "text") or _text(ld, "name")
    if not title:
        return None
    found = (*_videos(main), *_videos(more))
    found = found if any(found) else (*found, *_videos_of_ld(ld))
    videos = tuple(dict.fromkeys(video for video in found if video))
    return TitlePage(
        title=title,
        title_type=_text(main, "titleType", "id") or {"Movie": "movie"}.get(ld.get("@type", ""), _text(ld, "@type")),
        year=_int(_dig(main, "releaseYear", "year")) or _int(_text(ld, "datePublished")[:4]),
        genres=_genres(main) or _genres(more) or _genres_of_ld(ld),
        plot=_text(main, "plot", "plotText", "plainText") or _text(ld, "description"),
        videos=videos,
        is_undated=None in found and not videos,
    )


def _videos(data: Any) -> Iterator[Video | None]:
    """The trailers of a part of the page; None for one without a date."""
    for edge in _items(_dig(data, "primaryVideos", "edges")):
        node = _dig(edge, "node")
        kind = _kind(_text(node, "contentType", "displayName", "value") or _text(node, "contentType", "id"))
        listed_on = _date(_text(node, "createdDate"))
        video_id = _text(node, "id")
        if kind and _VIDEO_ID.fullmatch(video_id):
            duration_s = _float(_dig(node, "runtime", "value"))
            film_id = _text(node, "primaryTitle", "id") or None
            yield Video(video_id, kind, listed_on, duration_s, film_id) if listed_on else None


def _videos_of_ld(ld: Any) -> Iterator[Video | None]:
    for trailer in _items(_dig(ld, "trailer")):
        # thumbnail.contentUrl is a picture: the id is all that is taken from here
        found = _VIDEO_ID.search(_text(trailer, "url") or _text(trailer, "embedUrl"))
        listed_on = _date(_text(trailer, "uploadDate"))
        if found:
            kind = _kind(_text(trailer, "name")) or "trailer"
            duration_s = _iso_duration_s(_text(trailer, "duration"))
            yield Video(found.group(), kind, listed_on, duration_s, None) if listed_on else None


def _genres(data: Any) -> tuple[str, ...]:
    plain = _items(_dig(data, "genres", "genres"))
    nested = _items(_dig(data, "titleGenres", "genres"))
    return _unique([*(_text(g, "text") for g in plain), *(_text(g, "genre", "text") for g in nested)])


def _genres_of_ld(ld: Any) -> tuple[str, ...]:
    return _unique(_text(genre) for genre in _items(_dig(ld, "genre")))


def _kind(name: str) -> str:
    """teaser, recut or trailer; empty for any other content."""
    lowered = name.lower()
    return next((kind for kind in _KINDS if kind in lowered), "")


def _unique(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for word in words if word))


def _dig(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _items(value: Any) -> list[Any]:
    """A list as it is, a single thing as a list of one, nothing as an empty one."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _text(value: Any, *path: str) -> str:
    """Text with its HTML entities resolved, its blanks tidied and no half characters; empty where there is none."""
    found = _dig(value, *path)
    text = " ".join(html.unescape(found).split()) if isinstance(found, str) else ""
    return text.encode(errors="replace").decode()  # a lone surrogate is valid JSON, and nothing can store it


def _int(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _float(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
    except OverflowError:
        return None


def _date(text: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text[:10])
    except ValueError:
        return None


def _iso_duration_s(text: str) -> float | None:
    """Seconds of an ISO 8601 duration such as `PT2M39S`."""
    found = re.fullmatch(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?", text)
    if not found or not any(found.groups()):
        return None
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return _float(hours * 3600 + minutes * 60 + seconds)
