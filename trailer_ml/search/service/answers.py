"""What the API answers, as records: from these FastAPI makes its description and the page its types.

Does not belong here: making them.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from pydantic import ConfigDict, Field

from trailer_ml.records import AdMatch, DuplicateGroup, EmbeddedTrailer, Neighbour, Record, Status, TrailerId, Version

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

    run: str
    has_report: bool
    ads: tuple[AdMatch, ...]


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


class Health(Record):
    """Whether it lives, or is ready to answer."""

    model_config = _example(status="ok")
    status: str
