"""The facts that cross a border between two stages: small, frozen, JSON-able.

What a task returns to Airflow is one of these as a dictionary (`record.to_json()`), a few hundred bytes. Arrays, bytes
and long lists never are: they go to the store, and a record names the key.

Does not belong here: anything that reads, writes or computes.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

ID_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,127}$"
TrailerId = Annotated[str, Field(pattern=ID_PATTERN)]
FilmId = Annotated[str, Field(pattern=ID_PATTERN)]
Version = Annotated[str, Field(pattern=ID_PATTERN)]

Stage = Literal["catalog", "download", "shard"]
State = Literal["listed", "downloaded", "sharded", "embedded", "indexed", "waiting", "rejected", "taken_down"]


class Record(BaseModel):
    """A frozen fact. Unknown fields are an error: a newer writer is noticed, not half understood."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values, for XCom and for the store."""
        return self.model_dump(mode="json")


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


class Stream(Record):
    """One stream of a media file, as probed."""

    kind: Literal["video", "audio"]
    codec: str
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    sample_rate_hz: int | None = None
    n_channels: int | None = None


class Receipt(Record):
    """What lies beside the bytes of a downloaded trailer, and was true when they were stored."""

    trailer_id: TrailerId
    sha256: str
    size_bytes: int
    duration_s: float
    streams: tuple[Stream, ...]
    source_url: str
    downloader: str
    """Name and version, such as `yt-dlp 2026.10.26`."""


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


class DownloadSummary(Record):
    """What a download of one batch did."""

    batch: BatchRef
    n_planned: int
    n_downloaded: int
    n_reused: int
    """Already there with a receipt that holds."""
    rejected: dict[str, int] = {}
    waiting: dict[str, int] = {}
    size_bytes: int = 0


class Rejected(Record):
    """A trailer that a shard leaves out."""

    trailer_id: TrailerId
    reason: str
    detail: str = ""


class ShardManifest(Record):
    """What lies beside a shard; written last, so where it is, the shard is whole."""

    key: str
    sha256: str
    size_bytes: int
    count: int
    trailer_ids: tuple[TrailerId, ...]
    """In the order of the records."""
    film_ids: tuple[FilmId, ...]
    short: tuple[TrailerId, ...] = ()
    """Those of them with fewer frames than asked for, because they end before."""
    silent: tuple[TrailerId, ...] = ()
    """Those of them without sound, or with nothing to be heard."""
    rejected: tuple[Rejected, ...] = ()
    sampler: str
    features: dict[str, Any]
    """The feature settings that made it."""
    schema_version: int
    extractor_version: str


class ShardSummary(Record):
    """What making one shard did."""

    batch: BatchRef
    key: str
    count: int
    n_short: int = 0
    n_silent: int = 0
    rejected: dict[str, int] = {}
    size_bytes: int
    is_new: bool


class BadShard(Record):
    """A shard that is not what its manifest says."""

    key: str
    problems: tuple[str, ...]


class VerifySummary(Record):
    """What reading every shard again found."""

    n_shards: int
    n_records: int
    bad: tuple[BadShard, ...] = ()


class DatasetRef(Record):
    """A fixed set of shards, split by film, that one model is trained on. Its version names the model too."""

    version: Version
    key: str
    n_trailers: int
    n_films: int
    genres: tuple[str, ...]


class PhaseSummary(Record):
    """How a phase of training ended."""

    version: Version
    phase: str
    epochs: int
    loss: float
    seconds: float
    is_new: bool
    """False: a finished phase was found and nothing was trained."""


class Estimate(Record):
    """A mean, and its 95 % interval by a bootstrap over films; none where there are fewer than two."""

    value: float
    low: float | None = None
    high: float | None = None


class CopyFigures(Record):
    """How well changed copies of held-out trailers find their originals among all trailers."""

    n: int
    """Copies."""
    recall_at_1: Estimate
    map: Estimate
    """With one right answer: the mean of 1 over its rank."""


class Evaluation(Record):
    """Retrieval on held-out films, beside what it must beat."""

    version: Version
    n_queries: int
    k: int
    map_at_k: float
    map_interval: tuple[float, float] | None = None
    """95 %, by a bootstrap over films."""
    untrained_map_at_k: float
    mean_pooled_map_at_k: float | None = None
    """Of the frozen backbone's vectors, averaged over the frames: pictures only."""
    chance_map_at_k: float
    recall_at_k: float
    precision_at_k: float
    ndcg_at_k: float = 0.0
    per_genre: dict[str, float] = {}
    copies: CopyFigures | None = None
    """Near-duplicates; None: not measured, for no bytes of held-out trailers are kept."""
    champion: Version | None = None
    champion_map_at_k: float | None = None
    champion_gain: Estimate | None = None
    """How far above the champion's mAP on the same queries."""
    champion_copies: CopyFigures | None = None
    champion_copies_gain: Estimate | None = None
    """How far above the champion's recall@1 on the same copies."""


class Promotion(Record):
    """Whether a model became the champion, and why."""

    version: Version
    is_promoted: bool
    champion: Version | None
    reason: str
    is_worse: bool = False
    """Its figures alone are against it: a person may want it all the same."""


class EmbedChunk(Record):
    """Some shards for one task to embed with one model."""

    model_version: Version
    batches: tuple[BatchRef, ...]


class EmbedSummary(Record):
    """What embedding one chunk did."""

    model_version: Version
    n_shards: int
    """Embedded in this call."""
    n_trailers: int
    bad: tuple[BadShard, ...] = ()
    """Left out: they are not what their manifests say."""


class EmbeddedTrailer(Record):
    """What an answer says about a trailer, kept beside its vector so that search never opens a shard."""

    trailer_id: TrailerId
    film_id: FilmId
    title: str
    kind: str = "trailer"
    genres: tuple[str, ...] = ()
    year: int | None = None


class EmbeddingsManifest(Record):
    """What lies beside the vectors of one shard; written last."""

    key: str
    sha256: str
    model_version: Version
    dim: int
    video_dim: int
    """The first `video_dim` numbers of a vector are its video part, the rest its audio part."""
    shard_sha256: str
    trailers: tuple[EmbeddedTrailer, ...]
    """In the order of the vectors."""


class IndexManifest(Record):
    """What lies beside an index; written last."""

    version: Version
    model_version: Version
    n: int
    dim: int
    video_dim: int
    """The first `video_dim` numbers of a vector are its video part, the rest its audio part."""
    n_trees: int
    seed: int
    search_effort: int
    """Candidates looked at in each of its files when it is asked, in multiples of answers x trees."""
    recall_at_10: float
    """Against exact search."""
    n_queries: int
    index_sha256: str
    more_sha256: tuple[str, ...] = ()
    """Of the files behind the first, where the index was split into several."""
    ids_sha256: str
    n_taken_down: int = 0


class IndexSummary(Record):
    """What a build, a verification or a publication of an index did."""

    version: Version
    model_version: Version
    n: int
    recall_at_10: float
    """As measured by the last who did: at the build, or by whoever verified or published it."""
    is_new: bool
    is_published: bool = False
    reason: str = ""
    is_worse: bool = False
    """It works, and its figures are against serving it: a person may want it all the same."""
    left_out: tuple[str, ...] = ()
    """Keys of embeddings that are damaged, and that it was therefore built without."""


class Neighbour(Record):
    """One answer: score is the cosine, and exactly the sum of its video and audio share."""

    trailer_id: TrailerId
    film_id: FilmId
    title: str
    kind: str
    genres: tuple[str, ...]
    year: int | None = None
    score: float
    video_share: float
    audio_share: float
    shared_genres: tuple[str, ...] = ()
    """Of its genres those that the one asked about has too."""
    also: tuple[TrailerId, ...] = ()
    """Other trailers of its film that stand behind it: teasers, recuts. Empty where each is an answer of its own."""


class VideoMatch(Record):
    """The answers for one video that is not in the catalog."""

    video: str
    neighbours: tuple[Neighbour, ...]


class FramePair(Record):
    """A frame of one trailer and a frame of another that show the same."""

    one_s: float
    other_s: float
    likeness: float
    """Correlation of the two as small grey pictures; 1: equal."""


class DuplicateEvidence(Record):
    """What speaks for it that two trailers are nearly the same, beside their cosine."""

    frames: tuple[FramePair, ...] = ()
    """Of each shot that both show the best pair, in the order of the first trailer."""
    sound: float | None = None
    """Correlation of the two sounds, laid on each other as well as it goes; None: there is too little of one."""
    is_confirmed: bool
    """Enough of it is the same. False: their frames could not be read, and the cosine alone speaks for it."""


class DuplicateGroup(Record):
    """Trailers that are nearly the same, each linked to another of the group by a pair that is."""

    trailers: tuple[EmbeddedTrailer, ...]
    pairs: tuple[tuple[TrailerId, TrailerId, float], ...]
    """The links with their cosine, closest first."""
    evidence: tuple[DuplicateEvidence, ...] = ()
    """Of each pair, in their order."""


class AdFilm(Record):
    """A film that suits an advertisement, by the trailer of it that is closest."""

    best: Neighbour
    reason: str
    """In words: how much of the score is picture and how much is sound."""
    percentile: float = 0.0
    """How many in a hundred pairs of films of the catalogue are less alike than the two."""
    frames: tuple[FramePair, ...] = ()
    """Those of the ad and of the trailer that are most alike to the eye, best first; for the first films only."""


class AdMatch(Record):
    """One line of an ads run: the films for one advertisement, best first, or why there are none."""

    ad: str
    source: str
    """The address or the file it came from."""
    films: tuple[AdFilm, ...] = ()
    reason: str = ""
    """In words: what its films have in common."""
    genre_mix: dict[str, float] = {}
    """Of the films nearest to it the share that has each genre, largest first; a film may have several."""
    problem: str = ""
    """Short code of what was wrong with it; empty: nothing."""
    detail: str = ""


class PlacedAd(Record):
    """An ad that a film was given."""

    ad: str
    score: float
    percentile: float
    video_share: float
    audio_share: float


class FilmAds(Record):
    """One line of the films of an ads run: the ads that suit one film best, as far as they may have it."""

    film_id: FilmId
    title: str
    genres: tuple[str, ...]
    ads: tuple[PlacedAd, ...]


class AdsSummary(Record):
    """What one ads run did."""

    run: str
    model_version: Version
    index_version: Version
    n_ads: int
    n_matched: int
    problems: dict[str, int] = {}
    matches_key: str
    films_key: str
    report_key: str


class Takedown(Record):
    """What taking a trailer down did."""

    trailer_id: TrailerId
    is_new: bool
    """False: it was down already."""
    deleted: dict[str, int] = {}
    """What this call deleted: objects by the first part of their keys, `records` of shards, `pictures` on pages."""


class HostTurns(Record):
    """When a host may be asked next, by any worker."""

    next_at: dt.datetime | None = None
    blocked_until: dt.datetime | None = None
    reason: str = ""
    """Why it is blocked, in words."""


class Check(Record):
    """One thing that was looked at on this machine."""

    name: str
    is_ok: bool
    detail: str
    """What is there, or what is wrong."""
    fix: str = ""
    """What to do about it; empty where nothing is wrong."""


class Status(Record):
    """Where every trailer stands, computed from the store: `n_listed` is always the sum of `states`."""

    n_listed: int
    states: dict[State, int]
    reasons: dict[str, int] = {}
    """Why trailers are rejected or waiting."""
    titles_set_aside: dict[str, int] = {}
    """Titles that have no trailer here or did not come, by reason."""
    blocked: dict[str, str] = {}
    """Sources that do not want us: since when, and why, in words."""
    champion: Version | None = None
    index_version: Version | None = None
    index_recall_at_10: float | None = None
    index_n: int | None = None
    """Trailers in the index that is served, those that were taken down since included."""
    index_published_at: dt.datetime | None = None
    stored_bytes: dict[str, int] = {}
    """Of what is kept of trailers, by kind: media, shards."""
    stored_trailers: dict[str, int] = {}
    """How many trailers these bytes are of."""
    model_figures: dict[str, float] = {}
    """What was measured of the champion, by the names of `Evaluation`; empty where it has no card."""
