"""Who plays in the film world: titles, plots, days, and which trailer is odd in which way, drawn from one seed.

Does not belong here: making the files (studio.py).
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

from trailer_ml.demo.grammar import VERSION
from trailer_ml.demo.world import DAYS, GENRES, Ad, Clip, Film, World
from trailer_ml.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trailer_ml.demo.world import Kind, Oddity

WIDE = (320, 180)
SIZES = {"portrait": (180, 320), "scope": (320, 134), "recut": (256, 144)}
FILM_ODDITIES: tuple[Oddity, ...] = (
    "two_genres",
    "portrait",
    "scope",
    "silent",
    "short",
    "corrupt",
    "gone",
    "rate_limited",
    "recut",
)
"""One film each; the one with the recut has the teaser too."""
SHORT_S = 4.0
AD_S = 14.0
AD_NAMES = tuple((genre, f"ad-{genre.lower()}") for genre in GENRES)

_WORDS = {
    "Action": ("Strike", "Overdrive", "Last Convoy", "Iron", "Breakneck", "Payload", "Redline", "Siege"),
    "Comedy": ("Wedding", "Neighbours", "Goose", "Holiday", "Karaoke", "Sandwich", "Cousins", "Pyjamas"),
    "Drama": ("Harbour", "Letters", "Inheritance", "Winter", "Orchard", "Silence", "Sisters", "Tide"),
    "Horror": ("Cellar", "Hollow", "Whisper", "Thirteenth", "Marrow", "Lullaby", "Attic", "Crows"),
    "Romance": ("Lanterns", "Paris", "Letters", "Summer", "Waltz", "Roses", "Midnight", "Promise"),
    "Sci-Fi": ("Orbit", "Signal", "Vector", "Colony", "Android", "Eclipse", "Drift", "Parallax"),
}
_FRAMES = (
    "The {0}",
    "{0} of {1}",
    "{0} and {1}",
    "One {0} for {1}",
    "{0}: {1}",
    "No {0}",
    "{0} Again",
    "Beyond the {0}",
)
_PLOTS = {
    "Action": "A {who} has one night to stop a runaway convoy & bring everybody home.",
    "Comedy": "A {who} plans the perfect weekend; the neighbours' goose has other plans.",
    "Drama": "A {who} returns to the harbour and opens the letters nobody was meant to read.",
    "Horror": "A {who} rents a house in the woods, and something in the cellar answers.",
    "Romance": "A {who} misses the last train and meets the one person still awake in the city.",
    "Sci-Fi": "A {who} receives a signal from a colony that was never founded.",
}
_KINDS: dict[str, Kind] = {"Teaser": "Teaser", "Recut": "Recut"}
_PEOPLE = ("retired pilot", "young teacher", "night nurse", "locksmith", "piano tuner", "farmer", "translator", "cook")


def cast_world(*, n_films: int, seed: int, seconds: float, odd: bool) -> World:
    """The whole world as facts; the same arguments give the same world.

    Args:
        n_films: how many films have a trailer, odd ones included.
        seed: draws everything.
        seconds: length of a trailer, 4 % less to 16 % more.
        odd: whether the odd ones are in.

    Raises:
        SettingsError: too few films for the odd ones.
    """
    if odd and n_films < len(FILM_ODDITIES):
        raise SettingsError(f"the odd trailers need {len(FILM_ODDITIES)} films at least, got n_films={n_films}")
    rng = random.Random(f"world {seed}")
    title_ids = iter(rng.sample(range(30_000_000, 40_000_000), n_films + 2))
    video_ids = iter(sorted(rng.sample(range(1_000_000_000, 4_000_000_000), 2 * n_films + 4)))
    n_used: Counter[str] = Counter()
    films: list[Film] = []
    clips: list[Clip] = []
    oddities = dict(zip(_spread(len(FILM_ODDITIES), n_films), FILM_ODDITIES, strict=True)) if odd else {}
    for number in range(n_films):
        oddity = oddities.get(number)
        films.append(_film(f"tt{next(title_ids)}", _genres(number, oddity), rng, n_used))
        clips += _clips(films[-1], number, oddity, seconds, video_ids, rng)
    if odd:
        without_trailer = _film(f"tt{next(title_ids)}", ("Drama",), rng, n_used)
        series = _film(f"tt{next(title_ids)}", ("Sci-Fi",), rng, n_used).model_copy(update={"title_type": "tvSeries"})
        films += [without_trailer, series]
        clips += _clips(series, n_films, "series", seconds, video_ids, rng)
    ads = (
        Ad(name=name, genre=genre, file=f"ads/{name}.mp4", duration_s=min(AD_S, seconds)) for genre, name in AD_NAMES
    )
    return World(
        version=VERSION,
        seed=seed,
        n_films=n_films,
        seconds=seconds,
        has_odd=odd,
        films=tuple(films),
        clips=tuple(clips),
        ads=tuple(ads),
    )


def _spread(n: int, n_places: int) -> list[int]:
    """So many different places, far from each other."""
    return [int((i + 0.5) * n_places / n) for i in range(n)]


def _genres(number: int, oddity: Oddity | None) -> tuple[str, ...]:
    own, other = (GENRES[(number + step) % len(GENRES)] for step in (0, 2))
    return (own, other) if oddity == "two_genres" else (own,)


def _film(film_id: str, genres: tuple[str, ...], rng: random.Random, n_used: Counter[str]) -> Film:
    title = rng.choice(_FRAMES).format(*rng.sample(_WORDS[genres[0]], 2))
    n_used[title] += 1
    if n_used[title] > 1:
        title += f" {n_used[title]}"
    return Film(
        film_id=film_id,
        title=title,
        original_title=title,
        title_type="movie",
        year=rng.randint(2024, 2027),
        genres=genres,
        plot=_PLOTS[genres[-1]].format(who=rng.choice(_PEOPLE)),
        runtime_s=rng.randint(82, 165) * 60,
    )


def _clips(
    film: Film, number: int, oddity: Oddity | None, seconds: float, video_ids: Iterator[int], rng: random.Random
) -> list[Clip]:
    """The trailers of the film with this number, on consecutive days."""
    length_s = SHORT_S if oddity == "short" else round(rng.uniform(0.96, 1.16) * seconds)
    clips = [("Official Trailer", length_s, oddity)]
    if oddity == "recut":
        teaser_s = max(3, round(length_s * 0.5))
        clips = [("Official Trailer", length_s, None), ("Teaser", teaser_s, "teaser"), ("Recut", length_s, "recut")]
    elif oddity is None and number // len(GENRES) % 7 == number % len(GENRES):  # some films of every genre
        clips.append(("Final Trailer", round(rng.uniform(0.96, 1.16) * seconds), None))
    day = number + number // len(GENRES)  # every genre comes on every day
    made = []
    for i, (name, duration_s, what) in enumerate(clips):
        width, height = SIZES.get(what or "", WIDE)
        video_id = f"vi{next(video_ids)}"
        clip = Clip(
            video_id=video_id,
            film_id=film.film_id,
            name=name,
            kind=_KINDS.get(name, "Trailer"),
            file=f"media/{video_id}.mp4",
            listed_on=DAYS[(day + i) % len(DAYS)],
            duration_s=duration_s,
            width=width,
            height=height,
            oddity=what,
        )
        made.append(clip)
    return made
