"""The cutting of a trailer: which scene is seen when, and how the camera moves over it.

Does not belong here: scenes as pictures (scenes.py), and the filter graph (picture.py).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from trailer_ml.demo.expressions import chance
from trailer_ml.demo.grammar import GRAMMARS

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

FPS = 12
COMMON_SHARE = 0.08
"""Of the shots, how many show a sky or a title card, which belong to no genre."""
TURN_S = 4.0
"""Two genres take turns of this length."""


class Shot(NamedTuple):
    """A piece of the timeline."""

    length_s: float
    scene: int
    """Its number among the film's scenes; the last one is the title card."""
    genre: str
    left: float
    """Where the camera starts, as a share of the room it has."""
    top: float
    pan_px_s: tuple[float, float]
    flash: float
    hue_deg: float
    light: float


def cut_shots(
    genres: Sequence[str],
    scene_genres: Sequence[str | None],
    seconds: float,
    rng: random.Random,
    *,
    pace: float = 1.0,
) -> list[Shot]:
    """A timeline of `seconds` cut as these genres are; it ends on the title card.

    Args:
        genres: one, or several that take turns.
        scene_genres: of each of the film's scenes its genre; None: it belongs to none.
        seconds: length of the whole.
        rng: draws it.
        pace: above 1: cut faster.
    """
    pace *= rng.uniform(0.85, 1.2)
    body_s = seconds - min(2.0, seconds / 5)
    shots: list[Shot] = []
    at_s = 0.0
    while (left_s := body_s - at_s) >= 1 / FPS:
        genre = genres[int(at_s / TURN_S) % len(genres)]
        wanted = None if chance(rng, COMMON_SHARE) else genre
        last = shots[-1].scene if shots else -1
        scene = rng.choice([i for i, owner in enumerate(scene_genres) if owner == wanted and i != last])
        length_s = rng.uniform(0.8, 1.6) if wanted is None else rng.uniform(*GRAMMARS[genre].shot_s) / pace
        shots.append(_shot(genre, scene, min(length_s, left_s), rng))
        at_s += shots[-1].length_s
        gap_s = rng.uniform(0.25, 0.7)
        if chance(rng, GRAMMARS[genre].black_share) and at_s + gap_s < body_s - 1:
            shots.append(_shot(genre, scene, gap_s, rng)._replace(light=-1.0, flash=0.0))
            at_s += shots[-1].length_s
    card = _shot(genres[0], len(scene_genres) - 1, seconds - at_s, rng)
    return [*shots, card._replace(pan_px_s=(0.0, 0.0), left=0.5, top=0.5)]


def shorten(shots: Sequence[Shot], seconds: float) -> list[Shot]:
    """A teaser of `seconds`: every other shot first, then the others while there is time, and the title card."""
    *body, card = shots
    left_s = seconds - card.length_s
    kept = []
    for shot in [*body[::2], *body[1::2]]:
        length_s = min(shot.length_s, left_s)
        if length_s >= 1 / FPS:
            kept.append(shot._replace(length_s=length_s))
            left_s -= length_s
    return [*kept, card]


def times_of(shots: Sequence[Shot]) -> list[tuple[float, float]]:
    """When each shot starts and ends, in seconds."""
    ends_s = list(itertools.accumulate(shot.length_s for shot in shots))
    return list(zip([0.0, *ends_s[:-1]], ends_s, strict=True))


def _shot(genre: str, scene: int, length_s: float, rng: random.Random) -> Shot:
    grammar = GRAMMARS[genre]
    speed = rng.uniform(*grammar.pan_px_s)
    across = rng.uniform(0.6, 1.0) * rng.choice((-1, 1))
    return Shot(
        length_s=max(1, round(length_s * FPS)) / FPS,
        scene=scene,
        genre=genre,
        left=rng.uniform(0, 0.4) if across > 0 else rng.uniform(0.6, 1),
        top=rng.uniform(0.2, 0.8),
        pan_px_s=(speed * across, speed * rng.uniform(-0.3, 0.3)),
        flash=rng.uniform(*grammar.flash),
        hue_deg=rng.gauss(0, 12),
        light=rng.gauss(0, 0.05),
    )
