"""A quick look at very many pairs of trailers, by their prints: which of them can be the same at all.

What evidence.py would confirm always passes: a pair fails only if no frame of one is like one of the other, and the
sounds are too little alike to count without one. What takes 0.7 ms there takes a tenth of it here, for pairs are looked
at by the hundred, a few hundred trailers at a time, and the numbers of a trailer are worked out once for all its pairs.

Does not belong here: what is said of a pair (see evidence.py).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trailer_ml.search.evidence import LEAST_COLUMNS, SAME_FRAME, SAME_SOUND, find_edges, level
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
_MOVES = np.arange(1 - COLUMNS, COLUMNS)  # where the second sound begins in the first


class _Numbers(NamedTuple):
    """What of some trailers is compared."""

    edges: Floats
    """(n, frames, zooms, numbers), as `find_edges` gives them."""
    waves: NDArray[np.complex64]
    """(n, PITCHES, _SIZE // 2 + 1): the sound's Fourier transform."""
    energy: NDArray[np.float64]
    """(n, COLUMNS + 1): of the sound up to each column."""
    n_columns: Ints
    """(n,)."""


def screen_pairs(pairs: Ints, prints: Prints) -> NDArray[np.bool_]:
    """Whether each pair can be the same.

    Args:
        pairs: (n, 2) places in the prints; quickest where pairs that follow each other have trailers in common.
        prints: of all.

    Returns:
        (n,).
    """
    passed = np.zeros(len(pairs), np.bool_)
    for start, stop in _cut(pairs):
        places, inverse = np.unique(pairs[start:stop], return_inverse=True)
        ends = inverse.reshape(-1, 2)
        numbers = _work_out(prints, places)
        likeness, waves = _compare(ends, numbers)
        sound = _find_best_sound(ends, waves, numbers)
        passed[start:stop] = (likeness >= SAME_FRAME - _SLACK) | (sound >= SAME_SOUND - _SLACK)
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
    waves = np.empty((n, PITCHES, _SIZE // 2 + 1), np.complex64)
    energy, n_columns = np.zeros((n, COLUMNS + 1)), np.empty(n, np.int64)
    for start in range(0, n, _FEW):
        some = slice(start, start + _FEW)
        rows = prints.rows[places[some]]
        edges[some] = find_edges(rows["frames"].reshape(-1, *rows["frames"].shape[2:])).reshape(-1, *edges.shape[1:])
        n_columns[some] = rows["n_columns"]
        sounds = np.zeros((len(rows), PITCHES, COLUMNS), np.float32)
        for sound, row in zip(sounds, rows, strict=True):
            sound[:, : row["n_columns"]] = level(row["sound"][:, : row["n_columns"]])
        waves[some] = np.fft.rfft(sounds, _SIZE)
        np.cumsum((sounds.astype(np.float64) ** 2).sum(axis=1), axis=1, out=energy[some, 1:])
    return _Numbers(edges, waves, energy, n_columns)


def _compare(ends: Ints, numbers: _Numbers) -> tuple[Floats, NDArray[np.complex64]]:
    """Of each pair how alike the two frames are that are most alike, and the Fourier transform of its correlation."""
    likeness = np.zeros(len(ends), np.float32)
    waves = np.empty((len(ends), _SIZE // 2 + 1), np.complex64)
    turns = np.flatnonzero(np.diff(ends[:, 0], prepend=-1, append=-1))
    for start, stop in itertools.pairwise(turns):
        one, others = ends[start, 0], ends[start:stop, 1]
        edges, theirs = numbers.edges[one], numbers.edges[others]
        if edges.size:
            n_numbers = edges.shape[-1]
            whole = edges[:, 0] @ theirs.reshape(-1, n_numbers).T
            closer = edges[:, 1:].reshape(-1, n_numbers) @ theirs[:, :, 0].reshape(-1, n_numbers).T
            best = [each.reshape(len(each), len(others), -1).max(axis=(0, 2)) for each in (whole, closer)]
            likeness[start:stop] = np.maximum(*best)
        waves[start:stop] = (numbers.waves[one] * numbers.waves[others].conj()).sum(axis=1)
    return likeness, waves


def _find_best_sound(ends: Ints, waves: NDArray[np.complex64], numbers: _Numbers) -> Floats:
    """The best correlation of each pair, one moved along the other; 0 where there is too little of one to be heard."""
    n, m = (numbers.n_columns[ends[:, side]][:, None] for side in (0, 1))
    least = np.maximum(LEAST_COLUMNS, np.minimum(n, m) // 2)
    one, other = (numbers.energy[ends[:, side]] for side in (0, 1))
    energy = _between(one, _MOVES, _MOVES + m) * _between(other, -_MOVES, n - _MOVES)
    scales = np.sqrt(np.maximum(energy, 0))
    counts = (least - m <= _MOVES) & (n - least >= _MOVES) & (scales > PITCHES * least)
    products = np.fft.irfft(waves, _SIZE)[:, _MOVES]
    best: Floats = np.where(counts, products / np.where(counts, scales, 1), 0).max(axis=1)
    return best


def _between(energy: NDArray[np.float64], start: Ints, end: Ints) -> NDArray[np.float64]:
    """(n, moves): the energy of some spans of columns, as far as there are any."""
    shape = (len(energy), len(_MOVES))
    ends = [np.broadcast_to(np.clip(columns, 0, COLUMNS), shape) for columns in (start, end)]
    first, last = (np.take_along_axis(energy, columns, axis=1) for columns in ends)
    between: NDArray[np.float64] = last - first
    return between
