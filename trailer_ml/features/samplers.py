"""The ways to choose what is looked at: one row each of `SAMPLERS`, by the name that the setting `sampler` gives.

Another one is another row: a function that plans the instants (it may look into the file for them) and whether the
keyframe before an instant will do. Its name goes into `FeatureSettings.sampler`. Both engines and the command line then
know it, and what it made is compared with nothing that another one made, for the sampler is part of the view.

Does not belong here: decoding the pictures at the instants (video.py, ffmpeg_engine.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from trailer_ml.features.container import Deadline, Source
from trailer_ml.features.sampling import plan_instants, plan_span, spread_over_shots
from trailer_ml.features.shots import find_cuts
from trailer_ml.settings import FeatureSettings

if TYPE_CHECKING:
    from collections.abc import Mapping


class Sampler(NamedTuple):
    """A row of the table."""

    plan: Callable[[Source, FeatureSettings, Deadline], tuple[float, ...]]
    """The instants in order, in seconds after the first timestamp of the file; at least one."""
    takes_keyframes: bool
    """The last keyframe at or before an instant is taken; else the first frame at or after it."""


def _plan_grid(source: Source, settings: FeatureSettings, _deadline: Deadline) -> tuple[float, ...]:
    return plan_instants(settings, source.duration_s)


def _plan_scenes(source: Source, settings: FeatureSettings, deadline: Deadline) -> tuple[float, ...]:
    """As many instants as the grid has, in the same span."""
    start_s, end_s = plan_span(settings, source.duration_s)
    cuts_s = find_cuts(source, start_s, end_s, deadline)
    return spread_over_shots((start_s, *cuts_s, end_s), len(plan_instants(settings, source.duration_s)))


SAMPLERS: Mapping[str, Sampler] = {
    "exact": Sampler(_plan_grid, takes_keyframes=False),
    "keyframe": Sampler(_plan_grid, takes_keyframes=True),
    "scene": Sampler(_plan_scenes, takes_keyframes=False),
}
