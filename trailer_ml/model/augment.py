"""Variations of a training batch that do not change what a trailer is.

Sound may start at another time, be faster, pitched a little higher, be louder; a picture may be mirrored, cut, tinted,
captioned; some frames may be missing. With few films this is what keeps the towers from learning them by heart, and
what uploaders do to a copy is done to it here as well.

All functions are pure and take their randomness from the generator they are given.

Does not belong here: anything done to trailers that are embedded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Pictures = NDArray[np.uint8]

_MAX_PITCH_SHIFT = 0.04  # of the height of the spectrogram
_MAX_GAIN = 0.25
_MAX_MASK = 0.1  # of the width of the spectrogram
_MAX_SPEED_UP = 0.08
_MAX_ZOOM = 1.5
_MAX_TINT = 0.2
_MAX_SHIFT = 20.0
_MAX_CAPTION_LINES = 2
_WORDS_PER_LINE = 5
_LETTERS = list("abcdefghijklmnopqrstuvwxyz")
_KEEP_SHARE = 0.8


def vary_spectrograms(pictures: Pictures, rng: np.random.Generator) -> Pictures:
    """(n, h, w, 3) uint8 -> the same: rolled in time, at another speed and pitch, lighter or darker, a span blanked."""
    height, width = pictures.shape[1:3]
    varied = np.empty_like(pictures)
    for row, picture in enumerate(pictures):
        speed = 1 + rng.uniform(-1, 1) * _MAX_SPEED_UP
        moved = picture[:, (np.arange(width) * speed + rng.integers(width)).astype(np.int64) % width]
        moved = _move(moved, round(rng.uniform(-1, 1) * _MAX_PITCH_SHIFT * height), 0)
        start, length = rng.integers(width), rng.integers(1 + int(_MAX_MASK * width))
        moved = _light(moved, gain=1 + rng.uniform(-_MAX_GAIN, _MAX_GAIN), shift=0.0)
        moved[:, start : start + length] = 0
        varied[row] = moved
    return varied


def vary_frames(frames: Pictures, rng: np.random.Generator) -> Pictures:
    """(n, n_frames, h, w, 3) uint8 -> the same, as uploaders leave them; the frames of a trailer all alike.

    Mirrored or not, a part of the picture larger, tinted and lit differently, every other one with a caption, every
    other one with a logo.
    """
    varied = np.empty_like(frames)
    for row, shown in enumerate(frames):
        pictures = shown[:, :, ::-1] if rng.random() < 1 / 2 else shown
        varied[row] = _tint(_zoom(pictures, rng), rng)
        for draw in (_draw_caption, _draw_logo):
            if rng.random() < 1 / 2:
                _print(varied[row], draw, rng)
    return varied


def drop_frames(
    frames: NDArray[Any], mask: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Leave out some frames of each trailer, never all, and move the others up.

    Args:
        frames: (n, n_frames, ...) pictures or vectors.
        mask: (n, n_frames) bool, True first.
        rng: draws which.

    Returns:
        New frames and mask; what is left keeps its order, and padding is at the end.
    """
    kept_frames, kept_mask = np.zeros_like(frames), np.zeros_like(mask)
    for row in range(len(frames)):
        there = np.flatnonzero(mask[row])
        kept = there[rng.random(len(there)) < _KEEP_SHARE]
        if not len(kept) and len(there):
            kept = rng.choice(there, 1)
        kept_frames[row, : len(kept)] = frames[row, kept]
        kept_mask[row, : len(kept)] = True
    return kept_frames, kept_mask


def _move(pictures: Pictures, by: int, axis: int) -> Pictures:
    """Moved along an axis; the edge fills what comes free."""
    size = pictures.shape[axis]
    return np.take(pictures, np.clip(np.arange(size) - by, 0, size - 1), axis=axis)


def _zoom(pictures: Pictures, rng: np.random.Generator) -> Pictures:
    """A square part of each picture, at the same place, scaled to all of it; the nearest pixel will do."""
    side = pictures.shape[1]
    part = side / rng.uniform(1, _MAX_ZOOM)
    steps = (np.arange(side) + 0.5) * part / side
    rows, columns = ((steps + start).astype(np.int64) for start in rng.uniform(0, side - part, 2))
    return pictures[:, rows][:, :, columns]


def _tint(pictures: Pictures, rng: np.random.Generator) -> Pictures:
    gains, shift = 1 + rng.uniform(-_MAX_TINT, _MAX_TINT, 3), rng.uniform(-_MAX_SHIFT, _MAX_SHIFT)
    return np.stack([_light(pictures[..., i], gain=gain, shift=shift) for i, gain in enumerate(gains)], axis=-1)


def _print(
    pictures: Pictures, draw: Callable[[ImageDraw.ImageDraw, int, np.random.Generator], None], rng: np.random.Generator
) -> None:
    """The same on each picture; drawn once, for letters are slow."""
    side = pictures.shape[1]
    overlay = Image.new("RGBA", (side, side))
    draw(ImageDraw.Draw(overlay), side, rng)
    drawn = np.asarray(overlay)
    is_covered = drawn[..., 3] > 0
    pictures[:, is_covered] = drawn[is_covered, :3]


def _draw_caption(canvas: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    """White letters with a black rim, in the lower part."""
    lines = [
        " ".join("".join(rng.choice(_LETTERS, rng.integers(2, 8))) for _ in range(_WORDS_PER_LINE))
        for _ in range(rng.integers(1, _MAX_CAPTION_LINES + 1))
    ]
    canvas.multiline_text(
        (side / 2, side * rng.uniform(0.7, 1.0)),
        "\n".join(lines),
        fill="white",
        font=ImageFont.load_default(side * rng.uniform(0.08, 0.16)),
        anchor="mm",
        align="center",
        stroke_width=max(1, side // 100),
        stroke_fill="black",
    )


def _draw_logo(canvas: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    """A disc of one colour in a corner."""
    radius = side * rng.uniform(0.05, 0.12)
    x, y = rng.choice([radius, side - radius], 2)
    colour = tuple(rng.integers(256, size=3).tolist())
    canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _light(pictures: Pictures, *, gain: float, shift: float) -> Pictures:
    table = np.clip(np.arange(256) * gain + shift, 0, 255).astype(np.uint8)
    return table[pictures]
