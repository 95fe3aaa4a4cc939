"""Answers: neighbours, near-duplicates, ads beside films, and where every trailer stands."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from trailer_ml.records.base import FilmId, Record, TrailerId, Version
from trailer_ml.records.embeddings import EmbeddedTrailer


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
    """Correlation of the two sounds, laid on each other as well as it goes, less a little where one is played at
    another speed; None: there is too little of one."""
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
    """The file it came from, or its address without name, password and what follows the path."""
    films: tuple[AdFilm, ...] = ()
    reason: str = ""
    """In words: what its films have in common."""
    genre_mix: dict[str, float] = {}
    """Of the films nearest to it the share that has each genre, largest first; a film may have several."""
    frame_times_s: tuple[float, ...] = ()
    """When each of its frames is in it; they lie side by side in `pictures/<ad>.jpg` of the run."""
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
    """What this call deleted: objects by the first part of their keys, `records` of shards,
    `pictures` on models' pages."""


State = Literal["listed", "downloaded", "sharded", "embedded", "indexed", "waiting", "rejected", "taken_down"]


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
