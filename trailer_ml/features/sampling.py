"""When to look at a trailer: instants for pictures, and the start of the sound.

Times are seconds from the first timestamp of the file, whatever number that timestamp is.

Does not belong here: opening a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


def plan_sound_start(settings: FeatureSettings, duration_s: float) -> float:
    """Where the sound is looked at from: `start_s`, or the beginning of a trailer that is over by then.

    >>> from trailer_ml.settings import FeatureSettings
    >>> plan_sound_start(FeatureSettings(), 40.0), plan_sound_start(FeatureSettings(), 4.0)
    (5.0, 0.0)
    """
    return settings.start_s if duration_s > settings.start_s else 0.0
