"""What the API answers, as records: from these FastAPI makes its description and the page its types.

Does not belong here: making them.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from pydantic import ConfigDict, Field

from trailer_ml.records import (
    AdMatch,
    DuplicateGroup,
    EmbeddedTrailer,
    Neighbour,
    PlacedAd,
    Record,
    Status,
    TrailerId,
    Version,
)

_TRAILER = {
    "trailer_id": "imdb-vi0000017",
    "film_id": "imdb-tt0000017",
    "title": "The Long Fog",
    "kind": "teaser",
    "genres": ["Horror"],
    "year": 2026,
}
_NEIGHBOUR = {key: value for key, value in _TRAILER.items() if key != "year"} | {
    "score": 0.91,
    "video_share": 0.5,
    "audio_share": 0.41,
}
_PLACED_AD = {"ad": "ad-horror", "score": 0.91, "percentile": 99.2, "video_share": 0.5, "audio_share": 0.41}
_VERSIONS = {"index_version": "i-5f1d2c", "model_version": "m-0a93be"}


def _example(**fields: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"example": fields})


class Answer(Record):
    """Names what it was computed from: one index, and the model whose vectors that holds."""

    index_version: Version
    model_version: Version


class Problem(Record):
    """What went wrong, in the shape of RFC 9457."""

    model_config = _example(
        type="about:blank",
        title="Not Found",
        status=404,
        detail="there is no trailer x in the index",
        instance="/api/v1/trailers/x",
    )
    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str
    reason: str | None = None
    """Of a video that cannot be used: a short code, such as `corrupt` or `not_a_video`."""


class TrailersAnswer(Answer):
    """A page of the catalogue."""

    model_config = _example(**_VERSIONS, n=1, offset=0, genres={"Horror": 1}, trailers=[_TRAILER])
    n: int
    """Trailers that fit, on all pages."""
    offset: int
    genres: dict[str, int]
    """How many trailers each genre has in the whole index."""
    trailers: tuple[EmbeddedTrailer, ...]


class TrailerAnswer(Answer):
    """One trailer, and what there is to be seen of it."""

    model_config = _example(
        **_VERSIONS,
        trailer=_TRAILER,
        plot="A village waits.",
        source_url="https://example.org/video/17",
        listed_on="2026-11-20",
        duration_s=131.5,
        frame_times_s=[5.0, 17.0],
        has_audio=True,
        has_media=True,
    )
    trailer: EmbeddedTrailer
    plot: str = ""
    source_url: str = ""
    listed_on: dt.date | None = None
    duration_s: float | None = None
    frame_times_s: tuple[float, ...] = ()
    """When each of its frames is in the trailer; `frames/{n}.jpg` counts from 0."""
    has_audio: bool = False
    has_media: bool = False
    """Whether the bytes of the trailer were kept, and `media` plays them."""


class SimilarAnswer(Answer):
    """The trailers nearest to one, best first."""

    model_config = _example(**_VERSIONS, trailer_id="imdb-vi0000003", neighbours=[_NEIGHBOUR])
    trailer_id: TrailerId
    neighbours: tuple[Neighbour, ...]


class MatchAnswer(Answer):
    """The trailers nearest to a video that was uploaded, best first."""

    model_config = _example(**_VERSIONS, neighbours=[_NEIGHBOUR])
    neighbours: tuple[Neighbour, ...]


class DuplicatesAnswer(Answer):
    """A page of the groups of trailers that are nearly the same, the closest first."""

    model_config = _example(
        **_VERSIONS,
        n=1,
        offset=0,
        groups=[
            {
                "trailers": [_TRAILER, _TRAILER | {"trailer_id": "imdb-vi0000018"}],
                "pairs": [["imdb-vi0000017", "imdb-vi0000018", 0.98]],
                "evidence": [
                    {
                        "frames": [{"one_s": 5.0, "other_s": 3.0, "likeness": 0.97}],
                        "sound": 0.93,
                        "is_confirmed": True,
                    }
                ],
            }
        ],
    )
    n: int
    """Groups, on all pages."""
    offset: int
    groups: tuple[DuplicateGroup, ...]


class AdsRunsAnswer(Record):
    """The runs of ads that there are, the latest name first."""

    model_config = _example(runs=["night-2026-11-24"])
    runs: tuple[str, ...]


class AdsAnswer(Record):
    """One run of ads: for each its films, or what was wrong with it."""

    model_config = _example(
        run="night-2026-11-24",
        has_report=True,
        ads=[
            {
                "ad": "ad-horror",
                "source": "https://example.org/ads/ad-horror.mp4",
                "films": [
                    {
                        "best": _NEIGHBOUR,
                        "reason": "mostly picture: 0.50 of 0.91",
                        "percentile": 99.2,
                        "frames": [{"one_s": 5.0, "other_s": 17.0, "likeness": 0.8}],
                    }
                ],
                "reason": "mostly picture",
                "genre_mix": {"Horror": 1.0},
                "frame_times_s": [5.0, 17.0],
                "problem": "",
                "detail": "",
            }
        ],
    )
    run: str
    has_report: bool
    ads: tuple[AdMatch, ...]


class AdsFilm(Record):
    """A film, by a trailer of it, and the ads that it was given, best first."""

    trailer: EmbeddedTrailer
    ads: tuple[PlacedAd, ...]


class AdsFilmsAnswer(Record):
    """A page of the films of one run of ads, those first that an ad suits best."""

    model_config = _example(run="night-2026-11-24", n=1, offset=0, films=[{"trailer": _TRAILER, "ads": [_PLACED_AD]}])
    run: str
    n: int
    """Films that were given an ad, on all pages."""
    offset: int
    films: tuple[AdsFilm, ...]


class MapAnswer(Answer):
    """Where every trailer lies when all vectors are seen along the two directions in which they differ most."""

    model_config = _example(**_VERSIONS, explained=[0.31, 0.17], ids=["imdb-vi0000017"], titles=["The Long Fog"],
                            genres=["Horror"], x=[-0.4], y=[0.9])  # fmt: skip
    explained: tuple[float, ...]
    """Of all differences, the share that each of the two directions shows."""
    ids: tuple[TrailerId, ...]
    titles: tuple[str, ...]
    genres: tuple[str, ...]
    """The first genre of each; empty where it has none."""
    x: tuple[float, ...]
    """-1 to 1."""
    y: tuple[float, ...]


class StatusAnswer(Record):
    """The state of the pipeline."""

    model_config = _example(
        status={
            "n_listed": 25_000,
            "states": {"indexed": 24_600, "rejected": 400},
            "reasons": {"gone": 400},
            "champion": "m-0a93be",
            "index_version": "i-5f1d2c",
            "index_recall_at_10": 0.998,
            "index_n": 24_600,
        },
        n_indexed=24_600,
        published_at="2026-11-24T03:00:00Z",
        index_age_s=3600.0,
        is_up_to_date=True,
        needs_login=False,
        max_upload_bytes=536_870_912,
    )
    status: Status
    """Counted from the store, a few seconds ago at most."""
    n_indexed: int | None = None
    published_at: dt.datetime | None = None
    """When the index that is served was published."""
    index_age_s: float | None = None
    is_up_to_date: bool
    """Whether the store has answered of late."""
    needs_login: bool = Field(default=False)
    """Whether there is a session to be ended."""
    max_upload_bytes: int
    """A larger video is not taken."""


class Health(Record):
    """Whether it lives, or is ready to answer."""

    model_config = _example(status="ok")
    status: str
