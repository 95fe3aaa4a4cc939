"""When to look at a trailer: instants for pictures, and the start of the sound.

Times are seconds from the first timestamp of the file, whatever number that timestamp is.

Does not belong here: opening a file.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trailer_ml.settings import FeatureSettings


def plan_instants(settings: FeatureSettings, duration_s: float) -> tuple[float, ...]:
    """The instants of the settings that the picture lasts for, in order.

    A trailer too short for all of them gets fewer. One that ends before the first gets at least one: an instant for
    every `interval_s` of what there is, in the middle of equal parts.

    >>> from trailer_ml.settings import FeatureSettings
    >>> plan_instants(FeatureSettings(), 40.0)
    (5.0, 17.0, 29.0)
    >>> plan_instants(FeatureSettings(), 4.0)
    (2.0,)
    """
    on_grid = tuple(t for t in settings.instants_s if t < duration_s)
    if on_grid:
        return on_grid
    n = min(settings.n_frames, max(1, int(duration_s / settings.interval_s)))
    return tuple(duration_s * (i + 0.5) / n for i in range(n))


def plan_span(settings: FeatureSettings, duration_s: float) -> tuple[float, float]:
    """The part of the picture that a sampler of no fixed instants may choose from: begin and end, in seconds.

    >>> from trailer_ml.settings import FeatureSettings
    >>> plan_span(FeatureSettings(), 150.0), plan_span(FeatureSettings(), 40.0), plan_span(FeatureSettings(), 4.0)
    ((5.0, 125.0), (5.0, 40.0), (0.0, 4.0))
    """
    if duration_s <= settings.start_s:
        return 0.0, duration_s
    return settings.start_s, min(duration_s, settings.start_s + settings.interval_s * settings.n_frames)


def spread_over_shots(edges_s: Sequence[float], n: int) -> tuple[float, ...]:
    """`n` instants, in order, as evenly over the shots as can be.

    More shots than instants: the middle of every so many. Fewer: each gets one, and what is left goes one by one to
    the shot whose parts are longest; the instants of a shot are the middles of its parts.

    Args:
        edges_s: where the first shot begins, the cuts, where the last one ends.
        n: how many.

    >>> spread_over_shots((0.0, 2.0, 10.0), 3)
    (1.0, 4.0, 8.0)
    >>> spread_over_shots((0.0, 2.0, 4.0, 6.0, 8.0), 2)
    (3.0, 7.0)
    """
    shots = list(itertools.pairwise(edges_s))
    if len(shots) > n:
        shots = [shots[int((i + 0.5) * len(shots) / n)] for i in range(n)]
    parts = [1] * len(shots)
    for _ in range(n - len(shots)):
        lengths_s = [(end - start) / k for (start, end), k in zip(shots, parts, strict=True)]
        parts[lengths_s.index(max(lengths_s))] += 1
    return tuple(
        start + (end - start) * (i + 0.5) / k for (start, end), k in zip(shots, parts, strict=True) for i in range(k)
    )


def plan_sound_start(settings: FeatureSettings, duration_s: float) -> float:
    """Where the sound is looked at from: `start_s`, or the beginning of a trailer that is over by then.

    >>> from trailer_ml.settings import FeatureSettings
    >>> plan_sound_start(FeatureSettings(), 40.0), plan_sound_start(FeatureSettings(), 4.0)
    (5.0, 0.0)
    """
    return settings.start_s if duration_s > settings.start_s else 0.0
