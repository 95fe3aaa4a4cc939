"""The film site's pages: HTML that carries `__NEXT_DATA__` and JSON-LD in the shape IMDb's pages had in 2025 and 2026.

Does not belong here: serving them (site.py), and reading them: the spider shares no line with this module, or both
could be wrong together.
"""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any

from trailer_ml.demo.world import GENRES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trailer_ml.demo.world import Clip, Film, World

PAGE_SIZE = 25
ROBOTS = "User-agent: *\nDisallow: /find\nDisallow: /search/\n"
_CONTENT_TYPE = "amzn1.imdb.video.contenttype."
_JSON_LD_TYPES = {"movie": "Movie", "tvSeries": "TVSeries"}


def chart_page(world: World, page: int) -> str | None:
    """One page of the chart, or None where there is none.

    Args:
        world: whose titles are listed; the order does not depend on the day.
        page: counted from 1.
    """
    films = sorted(world.films, key=lambda film: film.film_id)[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]
    if page < 1 or not films:
        return None
    edges = [{"currentRank": (page - 1) * PAGE_SIZE + i, "node": _chart_node(film)} for i, film in enumerate(films, 1)]
    data = {"pageData": {"chartTitles": {"total": len(world.films), "edges": edges}}}
    rows = "\n".join(f'<li><a href="/title/{film.film_id}/">{html.escape(film.title)}</a></li>' for film in films)
    more = f'<a rel="next" href="?page={page + 1}">Next</a>' if page * PAGE_SIZE < len(world.films) else ""
    body = (
        f'<h1>Most popular</h1>\n<a href="/search/title/?genres=drama">Advanced search</a>\n<ol>\n{rows}\n</ol>\n{more}'
    )
    return _document("Most popular", body, data)


def title_page(film: Film, clips: Sequence[Clip], base_url: str) -> str:
    """The page of one film or series."""
    videos = [{"node": _video_node(clip, film, base_url)} for clip in clips]
    above = {
        "id": film.film_id,
        "titleText": {"text": film.title},
        "originalTitleText": {"text": film.original_title},
        "titleType": {"id": film.title_type, "isSeries": film.title_type == "tvSeries", "isEpisode": False},
        "releaseYear": {"year": film.year, "endYear": None},
        "genres": {"genres": [{"id": genre, "text": genre} for genre in film.genres]},
        "plot": {"plotText": {"plainText": film.plot}},
        "runtime": {"seconds": film.runtime_s},
        "primaryVideos": {"total": len(videos), "edges": videos},
    }
    links = "\n".join(f'<a href="/video/{clip.video_id}/">{html.escape(clip.name)}</a>' for clip in clips)
    body = f"<h1>{html.escape(film.title)}</h1>\n<p>{html.escape(film.plot)}</p>\n{links}"
    data = {"tconst": film.film_id, "aboveTheFoldData": above, "mainColumnData": {"id": film.film_id}}
    return _document(f"{film.title} ({film.year})", body, data, _json_ld(film, clips, base_url))


def video_page(clip: Clip, film: Film, base_url: str) -> str:
    """The page of one video, with a player."""
    node = _video_node(clip, film, base_url)
    video = {key: node[key] for key in ("id", "name", "playbackURLs", "runtime", "thumbnail", "primaryTitle")}
    data = {"videoPlaybackData": {"video": {**video, "description": {"value": film.plot}}}}
    body = f'<h1>{html.escape(clip.name)}</h1>\n<video controls src="{_media_path(clip)}"></video>'
    return _document(f"{film.title} | {clip.name}", body, data)


def poster(film: Film) -> str:
    """A small picture with the title's name, as SVG."""
    hue = GENRES.index(film.genres[0]) * 60
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="320" height="180" viewBox="0 0 320 180">'
        f'<rect width="320" height="180" fill="hsl({hue},40%,25%)"/><text x="160" y="95" font-family="sans-serif" '
        f'font-size="20" fill="white" text-anchor="middle">{html.escape(film.title)}</text></svg>'
    )


def ads_list(world: World, base_url: str) -> list[dict[str, Any]]:
    """The commercials and where they lie."""
    return [
        {"name": ad.name, "genre": ad.genre, "duration_s": ad.duration_s, "url": f"{base_url}/{ad.file}"}
        for ad in world.ads
    ]


def _chart_node(film: Film) -> dict[str, Any]:
    return {
        "id": film.film_id,
        "titleText": {"text": film.title},
        "titleType": {"id": film.title_type},
        "releaseYear": {"year": film.year},
        "runtime": {"seconds": film.runtime_s},
        "titleGenres": {"genres": [{"genre": {"text": genre}} for genre in film.genres]},
    }


def _video_node(clip: Clip, film: Film, base_url: str) -> dict[str, Any]:
    definition = {"displayName": {"value": "SD"}, "videoMimeType": "MP4", "videoDefinition": "DEF_SD"}
    return {
        "id": clip.video_id,
        "name": {"value": clip.name},
        "contentType": {"id": _CONTENT_TYPE + clip.kind.lower(), "displayName": {"value": clip.kind}},
        "runtime": {"value": round(clip.duration_s)},
        "isMature": False,
        "createdDate": f"{clip.listed_on.isoformat()}T{int(clip.video_id[-2:]) % 24:02}:30:00Z",
        "primaryTitle": {"id": film.film_id, "titleText": {"text": film.title}},
        "thumbnail": {"url": f"{base_url}/poster/{film.film_id}.svg", "width": 320, "height": 180},
        "playbackURLs": [{**definition, "url": base_url + _media_path(clip)}],
    }


def _json_ld(film: Film, clips: Sequence[Clip], base_url: str) -> dict[str, Any]:
    """As IMDb's: strings with HTML entities in them, and a trailer whose only content URL is that of a picture."""
    data: dict[str, Any] = {
        "@context": "https://schema.org",
        "@type": _JSON_LD_TYPES[film.title_type],
        "url": f"{base_url}/title/{film.film_id}/",
        "name": html.escape(film.title),
        "description": html.escape(film.plot),
        "genre": list(film.genres),
        "datePublished": f"{film.year}-11-27",
        "duration": f"PT{film.runtime_s // 3600}H{film.runtime_s % 3600 // 60}M",
    }
    for clip in clips[:1]:
        picture = f"{base_url}/poster/{film.film_id}.svg"
        data["trailer"] = {
            "@type": "VideoObject",
            "name": html.escape(clip.name),
            "embedUrl": f"{base_url}/video/imdb/{clip.video_id}",
            "url": f"{base_url}/video/{clip.video_id}/",
            "thumbnail": {"@type": "ImageObject", "contentUrl": picture},
            "thumbnailUrl": picture,
            "duration": f"PT{round(clip.duration_s)}S",
            "uploadDate": f"{clip.listed_on.isoformat()}T{int(clip.video_id[-2:]) % 24:02}:30:00Z",
        }
    return data


def _media_path(clip: Clip) -> str:
    return f"/media/{clip.video_id}.mp4"


def _document(title: str, body: str, page_props: dict[str, Any], json_ld: dict[str, Any] | None = None) -> str:
    linked = f'<script type="application/ld+json">{_script(json_ld)}</script>\n' if json_ld else ""
    data = _script({"props": {"pageProps": page_props}, "page": "/", "buildId": "demo"})
    head = f'<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n{linked}</head>'
    script = f'<script id="__NEXT_DATA__" type="application/json">{data}</script>'
    return f'<!DOCTYPE html>\n<html lang="en">\n{head}\n<body>\n{body}\n{script}\n</body>\n</html>\n'


def _script(data: object) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
