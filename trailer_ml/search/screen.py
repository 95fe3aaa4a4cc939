"""A quick look at very many pairs of trailers, by their prints: which of them can be the same at all.

What evidence.py would confirm passes: a pair fails only if no frame of one is like one of the other, and the sounds are
too little alike to count without one. At another speed they are compared coarsely, and pass by less. What takes 3 ms
there takes a twentieth of it here, for pairs are looked at by the hundred, a few hundred trailers at a time, and the
numbers of a trailer are worked out once for all its pairs.

Does not belong here: what is said of a pair (see evidence.py).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trailer_ml.search.evidence import LEAST_COLUMNS, SAME_FRAME, SAME_SOUND, SPEEDS, find_edges, level, play
from trailer_ml.search.prints import COLUMNS, PITCHES, SIDE, ZOOMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from trailer_ml.search.prints import Prints

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float32]

_SLACK = 1e-3  # sums in another order differ by less
_AT_ONCE = 256  # trailers whose numbers are in memory, 165 kB each
_FEW = 32  # trailers whose edges are worked out at a time
_SIZE = 2 * COLUMNS  # of a Fourier transform: two sounds laid on each other in any way do not wrap round
_COARSE_SIZE = 240  # likewise, of sounds with half as many columns, one of them a little longer
_BANDS = 8  # for other speeds: so many pitches, and half the columns
_COARSE_SOUND = 0.7


class _Sounds(NamedTuple):
    """Some sounds, one a row."""

    waves: NDArray[np.complex64]
    """(n, pitches, size // 2 + 1): their Fourier transforms."""
    energy: NDArray[np.float64]
    """(n, columns + 1): up to each column."""
    n_columns: Ints
    """(n,)."""


class _Numbers(NamedTuple):
    """What of some trailers is compared."""

    edges: Floats
    """(n, frames, zooms, numbers), as `find_edges` gives them."""
    sounds: _Sounds
    coarse: _Sounds
    played: list[_Sounds]
    """Coarse, at each of the SPEEDS."""


def screen_pairs(pairs: Ints, prints: Prints) -> NDArray[np.bool_]:
    """Whether each pair can be the same.

    Args:
        pairs: (n, 2) places in the prints, the lower first; quickest where trailers that are alike have places near
            each other.
        prints: of all.

    Returns:
        (n,).
    """
    blocks = pairs // (_AT_ONCE // 2)  # all pairs of two blocks together, whose trailers are worked out once for them
    order = np.lexsort((*pairs.T[::-1], *blocks.T[::-1]))
    passed = np.zeros(len(pairs), np.bool_)
    for start, stop in _cut(pairs[order]):
        some = order[start:stop]
        places, inverse = np.unique(pairs[some], return_inverse=True)
        ends = inverse.reshape(-1, 2)
        numbers = _work_out(prints, places)
        is_same = _compare_frames(ends, numbers.edges) >= SAME_FRAME - _SLACK
        is_same |= _compare_sounds(ends, numbers.sounds, numbers.sounds, _SIZE) >= SAME_SOUND - _SLACK
        for played in numbers.played:
            left = np.flatnonzero(~is_same)
            is_same[left] = _compare_sounds(ends[left], numbers.coarse, played, _COARSE_SIZE) >= _COARSE_SOUND
        passed[some] = is_same
    return passed


def _cut(pairs: Ints) -> Iterator[tuple[int, int]]:
    """Runs of pairs with no more than _AT_ONCE trailers, and no more than four times as many pairs."""
    start, seen = 0, set[int]()
    for number, pair in enumerate(pairs.tolist()):
        if len(seen) > _AT_ONCE - 2 or number - start == 4 * _AT_ONCE:
            yield start, number
            start, seen = number, set()
        seen.update(pair)
    if len(pairs) > start:
        yield start, len(pairs)


def _work_out(prints: Prints, places: Ints) -> _Numbers:
    n, n_frames = len(places), prints.rows.dtype["frames"].shape[0]
    edges = np.empty((n, n_frames, len(ZOOMS), 2 * SIDE * (SIDE - 1)), np.float32)
    sounds = np.zeros((n, PITCHES, COLUMNS), np.float32)
    n_columns = np.empty(n, np.int64)
    for start in range(0, n, _FEW):
        some = slice(start, start + _FEW)
        rows = prints.rows[places[some]]
        edges[some] = find_edges(rows["frames"].reshape(-1, *rows["frames"].shape[2:])).reshape(-1, *edges.shape[1:])
        n_columns[some] = rows["n_columns"]
        for sound, row in zip(sounds[some], rows, strict=True):
            sound[:, : row["n_columns"]] = level(row["sound"][:, : row["n_columns"]])
    coarse = sounds.reshape(n, _BANDS, PITCHES // _BANDS, COLUMNS // 2, 2).sum(axis=(2, 4))
    n_coarse = n_columns // 2
    played = [_transform(play(coarse, speed), np.round(n_coarse * speed).astype(int), _COARSE_SIZE) for speed in SPEEDS]
    return _Numbers(edges, _transform(sounds, n_columns, _SIZE), _transform(coarse, n_coarse, _COARSE_SIZE), played)


def _transform(sounds: Floats, n_columns: Ints, size: int) -> _Sounds:
    energy = np.zeros((len(sounds), sounds.shape[-1] + 1))
    np.cumsum((sounds.astype(np.float64) ** 2).sum(axis=1), axis=1, out=energy[:, 1:])
    return _Sounds(np.fft.rfft(sounds, size).astype(np.complex64, copy=False), energy, n_columns)


def _compare_frames(ends: Ints, edges: Floats) -> Floats:
    """Of each pair how alike the two frames are that are most alike."""
    likeness = np.zeros(len(ends), np.float32)
    n_numbers = edges.shape[-1]
    for one, some in _by_first(ends):
        ours, theirs = edges[one], edges[ends[some, 1]]
        if ours.size:
            whole = ours[:, 0] @ theirs.reshape(-1, n_numbers).T
            closer = ours[:, 1:].reshape(-1, n_numbers) @ theirs[:, :, 0].reshape(-1, n_numbers).T
            best = [each.reshape(len(each), len(theirs), -1).max(axis=(0, 2)) for each in (whole, closer)]
            likeness[some] = np.maximum(*best)
    return likeness


def _compare_sounds(ends: Ints, ones: _Sounds, others: _Sounds, size: int) -> Floats:
    """The best correlation of each pair, one moved along the other; 0 where there is too little of one to be heard."""
    waves = np.empty((len(ends), size // 2 + 1), np.complex64)
    for one, some in _by_first(ends):
        waves[some] = (ones.waves[one] * others.waves[ends[some, 1]].conj()).sum(axis=1)
    n, m = (sounds.n_columns[ends[:, side]][:, None] for side, sounds in enumerate((ones, others)))
    least = np.maximum(LEAST_COLUMNS * size // _SIZE, np.minimum(n, m) // 2)
    moves = np.arange(1 - others.energy.shape[1] + 1, ones.energy.shape[1] - 1)  # where the second begins in the first
    energy = _between(ones.energy[ends[:, 0]], moves, moves + m)
    energy *= _between(others.energy[ends[:, 1]], -moves, n - moves)
    scales = np.sqrt(np.maximum(energy, 0))
    counts = (least - m <= moves) & (n - least >= moves) & (scales > ones.waves.shape[1] * least)
    products = np.fft.irfft(waves, size)[:, moves]
    best: Floats = np.where(counts, products / np.where(counts, scales, 1), 0).max(axis=1)
    return best


def _by_first(ends: Ints) -> Iterator[tuple[int, slice]]:
    """Runs of pairs with the same first one."""
    turns = np.flatnonzero(np.diff(ends[:, 0], prepend=-1, append=-1))
    for start, stop in itertools.pairwise(turns.tolist()):
        yield int(ends[start, 0]), slice(start, stop)


def _between(energy: NDArray[np.float64], start: Ints, end: Ints) -> NDArray[np.float64]:
    """(n, moves): the energy of some spans of columns, as far as there are any."""
    last = energy.shape[1] - 1
    shape = (len(energy), max(start.shape[-1], end.shape[-1]))
    ends = [np.broadcast_to(np.clip(columns, 0, last), shape) for columns in (start, end)]
    first, second = (np.take_along_axis(energy, columns, axis=1) for columns in ends)
    between: NDArray[np.float64] = second - first
    return between
