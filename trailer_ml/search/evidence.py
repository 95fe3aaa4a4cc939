"""Whether two trailers show the same, by their prints: which of their frames are alike, and how alike they sound.

A cosine says that two trailers are of a kind; where training has drawn a genre together, whole films are as close as
copies. Here pictures are laid on each other. A shot that is seen twice counts once, and so one still picture is no
proof; a frame of a plain colour is none either.

Does not belong here: which trailers are compared (see duplicates.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trailer_ml.records import DuplicateEvidence, FramePair
from trailer_ml.search.prints import COLUMNS, ZOOMS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trailer_ml.search.prints import Print

    Floats = NDArray[np.float32]

SAME_FRAME = 0.9
"""Likeness from which on two frames show the same; of two films of the demo none reaches 0.88."""
SAME_SHOT = 0.7
"""From which on two frames of one trailer are of one shot."""
SAME_SOUND = 0.82
"""Correlation from which on it is the same sound. Of the demo's 82 films two whose music keeps one beat reach 0.80, and
two sounds that are nothing but the same slow swell 0.77. Of 14 films copies that lost their first 3 s, for which
the columns do not lie on each other, have 0.865 and more; noise that changes in every half column has 0.83."""
LIKE_SOUND = 0.65
"""Enough beside a frame that is the same: of 1,795 pairs of two films none had as much as one."""
SPEEDS = (0.952, 0.96, 1.042, 1.05)
"""At which sound is compared beside its own: by 4 or 5 % faster or slower is what uploaders play films. What is 2 %
off is found as it is, for columns are softened."""
SPEED_COST = 0.03
"""Of a correlation at another speed so much does not count, for more is tried: two films of the demo that keep one beat
where one of them is 5 % slower reach 0.82; copies that are played 5 % faster have 0.89 and more."""
ENOUGH_SHOTS, SHARE_OF_SHOTS = 2, 3
"""So many, and of the trailer with fewer a third: two trailers of one film often have a shot or two in common."""
_PLAIN = 4.0  # grey levels of standard deviation: a frame with less shows nothing
_STEEPEST = 2.0  # edges count up to so many times the mean one: a mark or a black bar put over a copy is not all of it
LEAST_COLUMNS = COLUMNS // 4
"""Sound of a shorter time says nothing."""


class Traits(NamedTuple):
    """A print, made ready to be compared with many."""

    times_s: NDArray[np.float64]
    """(n_frames,)."""
    edges: Floats
    """(n_frames, len(ZOOMS), numbers), of length one or zero."""
    is_same_shot: NDArray[np.bool_]
    """(n_frames, n_frames)."""
    n_shots: int
    sound: Floats
    """(PITCHES, columns)."""


def find_traits(print_: Print) -> Traits:
    """What of a print is compared."""
    edges = find_edges(print_.frames)
    is_same_shot = edges[:, 0] @ edges[:, 0].T >= SAME_SHOT
    return Traits(print_.times_s, edges, is_same_shot, _count_shots(is_same_shot), level(print_.sound))


def compare_traits(one: Traits, other: Traits) -> DuplicateEvidence:
    """What speaks for it that two trailers show the same."""
    frames = _match_frames(one, other)
    sound = _compare_sound(one.sound, other.sound)
    n_shots = min(one.n_shots, other.n_shots)
    n_needed = max(min(ENOUGH_SHOTS, n_shots), -(-n_shots // SHARE_OF_SHOTS), 1)
    least_sound = LIKE_SOUND if frames else SAME_SOUND
    return DuplicateEvidence(
        frames=tuple(sorted(frames, key=lambda pair: pair.one_s)),
        sound=sound,
        is_confirmed=len(frames) >= n_needed or (sound or 0.0) >= least_sound,
    )


def _match_frames(one: Traits, other: Traits) -> list[FramePair]:
    """Frames that show the same: of each shot the pair that is most alike."""
    pairs = [(one.edges[:, 0], other.edges[:, zoom]) for zoom in range(len(ZOOMS))]
    pairs += [(one.edges[:, zoom], other.edges[:, 0]) for zoom in range(1, len(ZOOMS))]
    likeness = np.max([ours @ theirs.T for ours, theirs in pairs], axis=0)
    found = []
    while likeness.size and likeness.max() >= SAME_FRAME:
        i, j = np.unravel_index(int(likeness.argmax()), likeness.shape)
        alike = min(float(likeness[i, j]), 1.0)
        found.append(FramePair(one_s=float(one.times_s[i]), other_s=float(other.times_s[j]), likeness=alike))
        likeness[one.is_same_shot[i]] = -1
        likeness[:, other.is_same_shot[j]] = -1
    return found


def find_edges(frames: NDArray[np.uint8]) -> Floats:
    """(n, zooms, numbers) float32 of length one: how grey changes from pixel to pixel; zero where a frame is plain.

    Changes, and not greys: of two blurred pictures the greys are soon alike.
    """
    grey = frames.astype(np.float32)
    steps = [np.diff(grey, axis=axis).reshape(*frames.shape[:2], -1) for axis in (2, 3)]
    edges: Floats = np.concatenate(steps, axis=-1)
    limits = _STEEPEST * np.abs(edges).mean(axis=-1, keepdims=True)
    np.clip(edges, -limits, limits, out=edges)
    edges /= np.maximum(np.linalg.norm(edges, axis=-1, keepdims=True), 1e-6)
    edges[grey.std(axis=(2, 3)) < _PLAIN] = 0
    return edges


def _count_shots(same: NDArray[np.bool_]) -> int:
    """How many different shots the frames of one trailer are of; plain ones, which are like nothing, are of none."""
    n_shots, left = 0, same.diagonal().copy()
    while left.any():
        left &= ~same[int(left.argmax())]
        n_shots += 1
    return n_shots


def _compare_sound(one: Floats, other: Floats) -> float | None:
    """The best correlation of two sounds, at any of a few speeds; None where there is too little of one.

    Args:
        one: (PITCHES, columns) float32, as `level` leaves it.
        other: likewise.
    """
    own = _lay_on(one, other)
    at_speeds = (_lay_on(one, play(other, speed)) for speed in SPEEDS)
    return max((each for each in (own, *(at - SPEED_COST for at in at_speeds if at)) if each is not None), default=None)


def _lay_on(one: Floats, other: Floats) -> float | None:
    """The best correlation of two sounds, one moved along the other."""
    n, m = one.shape[1], other.shape[1]
    least = max(LEAST_COLUMNS, min(n, m) // 2)
    if min(n, m) < least:
        return None
    size = n + m - 1
    products = np.fft.irfft(np.fft.rfft(one, size) * np.fft.rfft(other, size).conj(), size).sum(axis=0)
    starts = np.arange(least - m, n - least + 1)  # where the other one begins in the first
    energy = _energy_between(one, starts, starts + m) * _energy_between(other, -starts, n - starts)
    scales = np.sqrt(energy)
    loud = scales > one.shape[0] * least  # of a grey level or less on average nothing is to be heard
    return float((products[starts[loud]] / scales[loud]).max()) if loud.any() else None


def play(sound: Floats, speed: float) -> Floats:
    """A sound that lasts so many times as long, at the same pitches.

    Args:
        sound: (..., columns) float32.
        speed: more than 1 is slower.

    Returns:
        (..., round(columns * speed)) float32, interpolated between columns.
    """
    n = sound.shape[-1]
    at = (np.arange(round(n * speed)) + 0.5) / speed - 0.5
    before = np.clip(np.floor(at).astype(np.int64), 0, max(n - 2, 0))
    share = np.clip(at - before, 0, 1).astype(np.float32)
    after = np.minimum(before + 1, n - 1)
    played: Floats = sound[..., before] * (1 - share) + sound[..., after] * share
    return played


def level(sound: NDArray[np.uint8]) -> Floats:
    """Less what each pitch has on average: music of a kind has the same pitches, at other times.

    And softened in time: a copy that begins later by half a column is still laid on the first.
    """
    if not sound.shape[1]:
        return sound.astype(np.float32)
    padded = np.pad(sound.astype(np.float32), ((0, 0), (1, 1)), mode="edge")
    levels = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    centred: Floats = (levels - levels.mean(axis=1, keepdims=True)).astype(np.float32)
    return centred


def _energy_between(sound: Floats, start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.float64]:
    """The sum of squares of some spans of columns, as far as there are any."""
    sums = np.concatenate([[0.0], np.cumsum((sound.astype(np.float64) ** 2).sum(axis=0))])
    n = sound.shape[1]
    between: NDArray[np.float64] = sums[np.clip(end, 0, n)] - sums[np.clip(start, 0, n)]
    return between
