"""Variations of a training batch that do not change what a trailer is.

Sound may start at another time, be pitched a little higher, be louder; a picture may be mirrored, moved, lit
differently; some frames may be missing. With few films this is what keeps the towers from learning them by heart.

All functions are pure and take their randomness from the generator they are given.

Does not belong here: anything done to trailers that are embedded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pictures = NDArray[np.uint8]

_MAX_PITCH_SHIFT = 0.04  # of the height of the spectrogram
_MAX_GAIN = 0.25
_MAX_MASK = 0.1  # of the width of the spectrogram
_MAX_MOVE = 0.1  # of the side of a frame
_KEEP_SHARE = 0.8


def vary_spectrograms(pictures: Pictures, rng: np.random.Generator) -> Pictures:
    """(n, h, w, 3) uint8 -> the same: rolled in time, moved in pitch, brighter or darker, a span of time blanked."""
    height, width = pictures.shape[1:3]
    varied = np.empty_like(pictures)
    for row, picture in enumerate(pictures):
        moved = np.roll(picture, rng.integers(width), axis=1)
        moved = _move(moved, round(rng.uniform(-1, 1) * _MAX_PITCH_SHIFT * height), 0)
        start, length = rng.integers(width), rng.integers(1 + int(_MAX_MASK * width))
        moved = _light(moved, gain=1 + rng.uniform(-_MAX_GAIN, _MAX_GAIN), shift=0.0)
        moved[:, start : start + length] = 0
        varied[row] = moved
    return varied


def vary_frames(frames: Pictures, rng: np.random.Generator) -> Pictures:
    """(n, n_frames, h, w, 3) uint8 -> the same: mirrored or not, moved, lit differently, all frames alike."""
    side = frames.shape[2]
    varied = np.empty_like(frames)
    for row, shown in enumerate(frames):
        pictures = shown[:, :, ::-1] if rng.random() < 1 / 2 else shown
        down, right = (round(rng.uniform(-1, 1) * _MAX_MOVE * side) for _ in range(2))
        pictures = _move(_move(pictures, down, 1), right, 2)
        varied[row] = _light(pictures, gain=1 + rng.uniform(-_MAX_GAIN, _MAX_GAIN), shift=rng.uniform(-20, 20))
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


def _light(pictures: Pictures, *, gain: float, shift: float) -> Pictures:
    table = np.clip(np.arange(256) * gain + shift, 0, 255).astype(np.uint8)
    return table[pictures]
