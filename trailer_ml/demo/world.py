"""The film world of the demo as facts: which films, trailers and commercials there are, and what is odd about them.

`world.json` beside the media is the truth that the site serves and that tests and the demo's report compare with.
Does not belong here: how anything looks or sounds (grammar.py, picture.py, sound.py) and how it is made (studio.py).
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Literal

from trailer_ml.errors import MissingObjectError
from trailer_ml.records import Record

GENRES = ("Action", "Comedy", "Drama", "Horror", "Romance", "Sci-Fi")
DAYS = (dt.date(2026, 11, 20), dt.date(2026, 11, 21), dt.date(2026, 11, 22))
WORLD_NAME = "world.json"

Kind = Literal["Trailer", "Teaser", "Recut"]
Oddity = Literal[
    "two_genres", "teaser", "recut", "portrait", "scope", "silent", "short", "corrupt", "gone", "rate_limited", "series"
]
"""Why a trailer is in the world on purpose: its film has two genres; it is a shorter cut, or the same shots in another
order; it is upright, 2.39:1, has no sound, lasts four seconds, has bytes that are no video; its address answers 404,
or 429 twice; its title is a television series."""


class Film(Record):
    """A title of the world; `film_id` is as IMDb writes it, `tt…`."""

    film_id: str
    title: str
    original_title: str
    title_type: Literal["movie", "tvSeries"]
    year: int
    genres: tuple[str, ...]
    plot: str
    runtime_s: int


class Clip(Record):
    """A trailer; `video_id` is as IMDb writes it, `vi…`."""

    video_id: str
    film_id: str
    name: str
    kind: Kind
    file: str
    """Path below the world's folder; there is no such file for one that is gone."""
    listed_on: dt.date
    duration_s: float
    width: int
    height: int
    oddity: Oddity | None = None


class Ad(Record):
    """A commercial, made by one genre's grammar."""

    name: str
    genre: str
    file: str
    duration_s: float


class World(Record):
    """All of it, with the arguments it was made from."""

    version: int
    """Of the grammar: another version makes other pictures."""
    seed: int
    n_films: int
    seconds: float
    has_odd: bool
    films: tuple[Film, ...]
    clips: tuple[Clip, ...]
    ads: tuple[Ad, ...]

    def film(self, film_id: str) -> Film:
        """The title with this id.

        Raises:
            MissingObjectError: there is none.
        """
        for film in self.films:
            if film.film_id == film_id:
                return film
        raise MissingObjectError(f"the film world has no title {film_id}")

    def clips_of(self, film_id: str) -> tuple[Clip, ...]:
        """The trailers of one title, in order of their ids."""
        return tuple(clip for clip in self.clips if clip.film_id == film_id)

    def odd(self, oddity: Oddity) -> Clip:
        """The trailer with this oddity.

        Raises:
            MissingObjectError: the world was made without odd ones.
        """
        for clip in self.clips:
            if clip.oddity == oddity:
                return clip
        raise MissingObjectError(f"this film world has no trailer that is {oddity}")

    @property
    def titles_without_trailer(self) -> tuple[str, ...]:
        """Ids of the titles that no trailer belongs to."""
        with_trailer = {clip.film_id for clip in self.clips}
        return tuple(film.film_id for film in self.films if film.film_id not in with_trailer)


def read_world(folder: Path) -> World:
    """The world that was made in `folder`.

    Raises:
        MissingObjectError: none was, or not to its end.
    """
    try:
        text = Path(folder, WORLD_NAME).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MissingObjectError(f"no finished film world in {folder}; make_world makes one") from None
    return World.model_validate_json(text)
