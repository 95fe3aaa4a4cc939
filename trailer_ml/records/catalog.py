"""What exists: listed trailers, the days and batches they are cut into, and why something is not in."""

from __future__ import annotations

import datetime as dt
from typing import Literal, Self

from pydantic import Field, model_validator

from trailer_ml.records.base import FilmId, Record, TrailerId


class Interval(Record):
    """A half-open span of listing dates, `[start, end)`.

    >>> Interval.of_day(dt.date(2026, 11, 22)).end.isoformat()
    '2026-11-23'
    """

    start: dt.date
    end: dt.date

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"an interval ends after it starts, got [{self.start}, {self.end})")
        return self

    @classmethod
    def of_day(cls, day: dt.date) -> Interval:
        """The one day `day`."""
        return cls(start=day, end=day + dt.timedelta(days=1))

    def days(self) -> tuple[dt.date, ...]:
        """Its days, in order.

        >>> len(Interval(start=dt.date(2026, 2, 27), end=dt.date(2026, 3, 2)).days())
        3
        """
        return tuple(self.start + dt.timedelta(days=n) for n in range((self.end - self.start).days))


class Trailer(Record):
    """One line of the catalog: a trailer that exists somewhere, and what its source says about the film."""

    trailer_id: TrailerId
    film_id: FilmId
    title: str
    kind: str = "trailer"
    """As the source names it, lower case: trailer, teaser, recut, ..."""
    genres: tuple[str, ...] = ()
    year: int | None = Field(default=None, ge=1870, le=2200)
    plot: str = ""
    source: str
    """Name of the source that listed it, such as `imdb`."""
    source_url: str
    """What yt-dlp is given."""
    page_url: str = ""
    """Where a person can read about it."""
    listed_on: dt.date
    duration_s: float | None = None
    """As announced by the source; the truth is in the receipt."""
    film_aliases: tuple[FilmId, ...] = ()
    """Other names of the same film, `imdb-tt…` and `tmdb-…`: by these, films of several sources become one."""
    video_title: str = ""
    """What the video itself is called, where its source says so; often more than the film's title."""
    language: str = ""
    """Spoken or shown in it: two letters of ISO 639-1, lower case; empty: not known."""
    is_official: bool | None = None
    """Whether the source calls it official; None: it does not say."""
    chosen_for: tuple[str, ...] = ()
    """In words: what spoke for and against it among the trailers of its film."""
    license: str = ""
    """Under which licence the source offers it: an address or a name; empty: not known."""


class SourceTerms(Record):
    """A source of trailers, and what its owner says about using it."""

    name: str
    is_asked: bool
    """It is one of `catalog.sources`."""
    is_allowed: bool
    """Its terms need no consent, or have been accepted."""
    terms: str


class Doubtful(Record):
    """A trailer that is likely none of its film: a person decides."""

    trailer_id: TrailerId
    title: str
    """Of the film."""
    video_title: str
    source_url: str
    doubt: str
    """In words."""
    is_accepted: bool
    """A person has said yes; the next crawl lists it."""


class Blocked(Record):
    """A source that did not want us when it was last asked."""

    source: str
    since: dt.datetime
    """UTC; of the first crawl that it has refused ever since."""
    detail: str
    """In words."""


class CatalogSummary(Record):
    """What one crawl of one interval found."""

    listed_on: dt.date
    key: str
    n_listed: int
    """Trailers in the catalog of the interval's days."""
    n_late: int = 0
    """Trailers of days that were written before, which nobody had found then."""
    n_titles_seen: int
    set_aside: dict[str, int] = {}
    """Titles that have no trailer here or could not be read, by reason."""
    is_new: bool
    """False: the file was there already and nothing was crawled."""


class BatchRef(Record):
    """The name of one batch: at most `catalog.batch_size` trailers listed on one day."""

    listed_on: dt.date
    number: int = Field(ge=0, le=9999)

    @property
    def path(self) -> str:
        """The part of the key that batch, shard and embeddings share: `listed=2026-11-22/0003`."""
        return f"listed={self.listed_on.isoformat()}/{self.number:04d}"

    @classmethod
    def from_path(cls, path: str) -> BatchRef:
        """The inverse of `path`; an ending such as `.json` is ignored.

        >>> BatchRef.from_path("listed=2026-11-22/0003.json").number
        3
        """
        day, number = path.removeprefix("listed=").split("/")
        return cls(listed_on=day, number=number.split(".")[0])


Stage = Literal["catalog", "download", "shard"]


class Quarantine(Record):
    """Why something is not in, whether it will be tried again, and when."""

    id: TrailerId
    """A trailer id; in stage `catalog` the id of a title that has no trailer here, or did not come."""
    stage: Stage
    reason: str
    """Short code: gone, rate_limited, corrupt, no_video, no_trailer, not_a_movie, unreachable, ..."""
    detail: str = ""
    is_permanent: bool
    attempts: int = 1
    retry_at: dt.datetime | None = None
    """UTC; set exactly when it is not permanent."""

    @model_validator(mode="after")
    def _waits_or_not(self) -> Self:
        if self.is_permanent == (self.retry_at is not None):
            raise ValueError("retry_at is set exactly when the reason is not permanent")
        return self


class Retried(Record):
    """What a person wanted tried again."""

    n_by_reason: dict[str, int]
    """Trailers that are due from now on, by the reason they were lost for."""


class HostTurns(Record):
    """When a host may be asked next, by any worker."""

    next_at: dt.datetime | None = None
    blocked_until: dt.datetime | None = None
    reason: str = ""
    """Why it is blocked, in words."""
