"""A picture of the sound as an ear sorts it: decibels of mel bands, the other choice beside showspectrumpic.

    mel(f) = 2595 log10(1 + f / 700)                              O'Shaughnessy, Speech Communication (1987)
    band i: a triangle around mel^-1(mel(11025) (i + 1) / (n + 1)), from the centre below to the one above, and no
            narrower than a bin of the transform; its peak is 1
    value = 10 log10(sum over bins of weight * power), where a sine of full scale has power 1 at its bin

The sound is mixed to one channel at 22,050 Hz; a column is the mean power of its windows (Hann, 4,096 samples), a row
is a band, the lowest at the bottom. -80 dB and less is black, 0 dB is white.

Does not belong here: decoding and mixing the sound (audio.py, ffmpeg_engine.py).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE_HZ = 22_050
WINDOW = 4096
_FLOOR_DB = -80.0


def draw_log_mel(sound: NDArray[np.float32], size: int) -> NDArray[np.uint8]:
    """The picture of some sound, which fills its width however long it is.

    Args:
        sound: (n_samples,) float32, -1 to 1, one channel at `RATE_HZ`.
        size: of the picture.

    Returns:
        (size, size, 3) uint8, RGB, grey.
    """
    sound = np.pad(sound, (0, max(0, WINDOW - len(sound))))
    power = np.stack([_mean_power(sound, column, size) for column in range(size)])  # (columns, bins)
    bands = power @ mel_weights(size).T  # (columns, bands)
    level_db = 10 * np.log10(np.maximum(bands, 10 ** (_FLOOR_DB / 10)))
    grey = np.clip(np.rint((1 - level_db / _FLOOR_DB) * 255), 0, 255).astype(np.uint8)
    return np.repeat(grey.T[::-1, :, None], 3, axis=2)


@lru_cache(maxsize=1)
def mel_weights(n: int) -> NDArray[np.float32]:
    """(n, bins) float32: what each bin of the transform counts in each band."""
    bins_hz = np.arange(WINDOW // 2 + 1) * RATE_HZ / WINDOW
    top = 2595 * math.log10(1 + RATE_HZ / 2 / 700)
    edges_hz = 700 * (10 ** (np.linspace(0, top, n + 2) / 2595) - 1)
    below, centre, above = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    widest = RATE_HZ / WINDOW
    rising = 1 - (centre - bins_hz) / np.maximum(centre - below, widest)
    falling = 1 - (bins_hz - centre) / np.maximum(above - centre, widest)
    weights: NDArray[np.float32] = np.clip(np.minimum(rising, falling), 0, None).astype(np.float32)
    return weights


def _mean_power(sound: NDArray[np.float32], column: int, n_columns: int) -> NDArray[np.float32]:
    """(bins,) float32: of the windows that are spread over a column, no two further apart than half a window."""
    per_column = len(sound) / n_columns
    n_windows = math.ceil(per_column / (WINDOW // 2))
    middles = (column + (np.arange(n_windows) + 0.5) / n_windows) * per_column
    # A window that would reach over the end is moved inwards.
    starts = np.clip(middles.astype(int) - WINDOW // 2, 0, len(sound) - WINDOW)
    windows = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[starts] * _hann()
    power: NDArray[np.float32] = np.square(np.abs(np.fft.rfft(windows))).mean(axis=0)
    return power


@lru_cache(maxsize=1)
def _hann() -> NDArray[np.float32]:
    """(WINDOW,) float32, periodic; scaled so that a sine of full scale comes out as 1."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    scaled: NDArray[np.float32] = (window * 2 / window.sum()).astype(np.float32)
    return scaled
