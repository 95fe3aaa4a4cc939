"""What makes a genre: how its shots are cut, moved, lit and coloured.

A genre is a range, never a value: every film draws its own look from it, hues and brightness overlap between genres,
and marks, bars, skies and title cards belong to none. Does not belong here: the pixels (scenes.py), the cutting
(timeline.py) and the samples (sound.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trailer_ml.demo.expressions import chance

if TYPE_CHECKING:
    import random

VERSION = 1
"""Raised whenever the same arguments would make other bytes."""

Range = tuple[float, float]


class Grammar(NamedTuple):
    """The ranges that the films of one genre are drawn from."""

    shot_s: Range
    """Length of a shot."""
    pan_px_s: Range
    """How fast the camera moves over a scene."""
    sway_px: Range
    """How far it is shaken or bounced, up and down."""
    sway_hz: Range
    dissolve_frames: tuple[int, int]
    """Frames that run into each other; 1: hard cuts."""
    flash: Range
    """Light at a cut, which then dies away."""
    black_share: float
    """Of the cuts, how many go through black."""
    grain: Range
    hue_deg: float
    """Where the genre's colours centre, when a film keeps to it."""
    hue_share: float
    """Of the films, how many do."""
    light: Range
    """Added to the brightness, -1 to 1."""
    contrast: Range
    saturation: Range


GRAMMARS = {
    "Action": Grammar(
        shot_s=(0.35, 0.9), pan_px_s=(40, 110), sway_px=(3, 7), sway_hz=(2.5, 5), dissolve_frames=(1, 2),
        flash=(0.1, 0.5), black_share=0.05, grain=(2, 6), hue_deg=15, hue_share=0.8, light=(-0.06, 0.1),
        contrast=(1.05, 1.4), saturation=(0.5, 1.4),
    ),
    "Comedy": Grammar(
        shot_s=(1.2, 2.4), pan_px_s=(4, 18), sway_px=(8, 20), sway_hz=(0.8, 1.6), dissolve_frames=(1, 1),
        flash=(0.0, 0.1), black_share=0.0, grain=(1, 5), hue_deg=58, hue_share=0.8, light=(0.02, 0.18),
        contrast=(0.9, 1.2), saturation=(0.5, 1.4),
    ),
    "Drama": Grammar(
        shot_s=(3.8, 6.5), pan_px_s=(3, 10), sway_px=(0, 1), sway_hz=(0.1, 0.3), dissolve_frames=(1, 3),
        flash=(0.0, 0.05), black_share=0.3, grain=(2, 6), hue_deg=235, hue_share=0.8, light=(-0.06, 0.1),
        contrast=(0.7, 1.0), saturation=(0.5, 1.4),
    ),
    "Horror": Grammar(
        shot_s=(1.8, 4.5), pan_px_s=(2, 9), sway_px=(0.5, 2.5), sway_hz=(3, 6), dissolve_frames=(1, 2),
        flash=(0.0, 0.4), black_share=0.4, grain=(3, 8), hue_deg=120, hue_share=0.8, light=(-0.26, -0.08),
        contrast=(0.85, 1.2), saturation=(0.2, 1.3),
    ),
    "Romance": Grammar(
        shot_s=(2.6, 4.5), pan_px_s=(5, 16), sway_px=(1, 4), sway_hz=(0.15, 0.35), dissolve_frames=(6, 10),
        flash=(0.0, 0.15), black_share=0.05, grain=(1, 5), hue_deg=320, hue_share=0.8, light=(-0.04, 0.14),
        contrast=(0.8, 1.15), saturation=(0.5, 1.4),
    ),
    "Sci-Fi": Grammar(
        shot_s=(1.2, 2.6), pan_px_s=(18, 45), sway_px=(0, 0.5), sway_hz=(0.1, 0.5), dissolve_frames=(1, 2),
        flash=(0.0, 0.3), black_share=0.1, grain=(1, 5), hue_deg=182, hue_share=0.8, light=(-0.2, -0.02),
        contrast=(0.95, 1.3), saturation=(0.5, 1.4),
    ),
}  # fmt: skip


class Look(NamedTuple):
    """What one film drew; all its trailers share it."""

    hue_deg: float
    light: float
    contrast: float
    saturation: float
    grain: float
    overlays: tuple[str, ...]
    """Filters: a broadcaster's mark in a corner, black bars above and below. They belong to no genre."""


def draw_look(genre: str, rng: random.Random) -> Look:
    """One film's look."""
    grammar = GRAMMARS[genre]
    hue_deg = rng.gauss(grammar.hue_deg, 26) if chance(rng, grammar.hue_share) else rng.uniform(0, 360)
    overlays = []
    if chance(rng, 0.3):
        corner = f"x={rng.choice(('8', 'iw-46'))}:y={rng.choice(('8', 'ih-26'))}"
        size = f"w={rng.randint(16, 32)}:h={rng.randint(7, 14)}"
        overlays.append(f"drawbox={corner}:{size}:t=fill:color=0x{rng.getrandbits(24):06x}@0.8")
    if chance(rng, 0.2):
        bar = f"w=iw:h=ih*{rng.choice((0.08, 0.12))}:t=fill:color=black"
        overlays += [f"drawbox={bar}", f"drawbox=y=ih-h:{bar}"]
    return Look(
        hue_deg=hue_deg % 360,
        light=rng.uniform(*grammar.light),
        contrast=rng.uniform(*grammar.contrast),
        saturation=rng.uniform(*grammar.saturation),
        grain=rng.uniform(*grammar.grain),
        overlays=tuple(overlays),
    )
