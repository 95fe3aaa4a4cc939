"""One trailer's bytes to its features: ten frames and a spectrogram.

Safe against damaged files, and not against a decoder that crashes, hangs or eats memory: that takes pool.py, which runs
this in a process of its own.

Does not belong here: where files come from and where features go.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from av.video.reformatter import VideoReformatter

from trailer_ml.errors import MediaError, SettingsError
from trailer_ml.features.audio import draw_spectrogram
from trailer_ml.features.container import Deadline, damage_as_media_error, open_media
from trailer_ml.features.geometry import Box, crop_frame, find_box, is_seed_shape, plan_crop, shape_of
from trailer_ml.features.samplers import SAMPLERS
from trailer_ml.features.sampling import plan_sound_start
from trailer_ml.features.video import Looked, VideoReader
from trailer_ml.settings import EXTRACTOR_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trailer_ml.features.container import Source
    from trailer_ml.settings import FeatureSettings

_END_SLACK_S = 1.0  # headers round up what is left after the last frame


@dataclass(frozen=True)
class Features:
    """What is kept of a trailer."""

    frames: NDArray[np.uint8]
    """(n_frames, size, size, 3) uint8, RGB; fewer frames than asked for where the trailer is too short."""
    frame_times_s: NDArray[np.float64]
    """(n_frames,) when each frame really is shown, after the first timestamp of the file."""
    spectrogram: NDArray[np.uint8]
    """(size, size, 3) uint8, RGB; black without sound."""
    duration_s: float
    """Of the picture."""
    has_audio: bool
    """Whether there is anything to be heard."""
    sampler: str
    extractor_version: str
    """Engine and version, such as `pyav-2`."""
    n_damaged: int = 0
    """Damages that were met while looking for the frames; none of the frames shows one."""

    def save_npz(self, path: Path) -> None:
        """Write all of it to a `.npz` file, which appears whole or not at all."""
        aside = path.with_name(f".{path.name}.{os.getpid()}.npz")
        np.savez(aside, allow_pickle=False, **vars(self))
        aside.replace(path)

    @classmethod
    def load_npz(cls, path: Path) -> Features:
        """The inverse of `save_npz`."""
        with np.load(path, allow_pickle=False) as file:
            return cls(**{name: file[name] if file[name].ndim else file[name].item() for name in file.files})


def extract_features(path: Path, settings: FeatureSettings) -> Features:
    """Sample a trailer.

    Args:
        path: a video file, of any origin.
        settings: what to look at and how.

    Raises:
        MediaError: it cannot be used; `reason` says why (the list is in container.py).
        SettingsError: they are of another version of the extractor.
    """
    check_version(settings)
    deadline = Deadline(settings.timeout_s)
    with open_media(Path(path), settings, deadline) as source:
        instants_s = SAMPLERS[settings.sampler].plan(source, settings, deadline)
        engine, looked = _look(source, Path(path), instants_s, settings, deadline)
        return Features(
            frames=_crop_all(looked, settings.image_size),
            frame_times_s=np.array([each.time_s for each in looked.grabbed], np.float64),
            spectrogram=looked.spectrogram,
            duration_s=source.duration_s,
            has_audio=bool(looked.spectrogram.any()),
            sampler=settings.sampler,
            extractor_version=f"{engine}-{EXTRACTOR_VERSION}",
            n_damaged=looked.n_damaged if engine == "pyav" else 0,
        )


def check_version(settings: FeatureSettings) -> None:
    """Raise SettingsError where features are wanted that this version of the code does not make.

    A model that was trained on such features asks for them, and what it saw cannot be compared with what is seen now.
    """
    if settings.extractor_version != EXTRACTOR_VERSION:
        raise SettingsError(
            f"features of extractor version {settings.extractor_version} are asked for and this program makes "
            f"{EXTRACTOR_VERSION}: make the shards again (delete their manifests) and train a model on them"
        )


def _look(
    source: Source, path: Path, instants_s: Sequence[float], settings: FeatureSettings, deadline: Deadline
) -> tuple[str, Looked]:
    """What is seen, and the engine that saw it: the one that is set, or ffmpeg where `auto` found no way through.

    ffmpeg is asked once and within the same deadline. What it does not make good keeps the reason given first.
    """
    if settings.engine == "ffmpeg":
        return "ffmpeg", _look_with_ffmpeg(source, path, instants_s, settings, deadline)
    reader = VideoReader(source, deadline)
    try:
        with damage_as_media_error():
            looked = _look_with_pyav(reader, source, instants_s, settings, deadline)
        _check_complete(looked, instants_s, source.duration_s, settings)
    except MediaError as error:
        # Where a decoder says that pictures are damaged, ffmpeg would show them, grey as they are.
        if settings.engine != "auto" or error.reason != "corrupt" or reader.n_damaged:
            raise
        try:
            return "ffmpeg", _look_with_ffmpeg(source, path, instants_s, settings, deadline, n_damaged=1)
        except (MediaError, SettingsError):
            raise error from None
    return "pyav", looked


def _look_with_pyav(
    reader: VideoReader, source: Source, instants_s: Sequence[float], settings: FeatureSettings, deadline: Deadline
) -> Looked:
    grab = reader.grab_keyframes if SAMPLERS[settings.sampler].takes_keyframes else reader.grab_exact
    grabbed = list(grab(instants_s))
    spectrogram = draw_spectrogram(
        source,
        settings.spectrogram,
        start_s=plan_sound_start(settings, source.duration_s),
        duration_s=settings.spectrogram_s,
        size=settings.image_size,
        deadline=deadline,
    )
    return Looked(grabbed, float(source.video.sample_aspect_ratio or 1), spectrogram, reader.n_damaged)


def _look_with_ffmpeg(
    source: Source,
    path: Path,
    instants_s: Sequence[float],
    settings: FeatureSettings,
    deadline: Deadline,
    *,
    n_damaged: int = 0,
) -> Looked:
    from trailer_ml.features.ffmpeg_engine import look_with_ffmpeg

    with damage_as_media_error():
        looked = look_with_ffmpeg(source, path, instants_s, settings, deadline)._replace(n_damaged=n_damaged)
    _check_complete(looked, instants_s, source.duration_s, settings)
    return looked


def _check_complete(looked: Looked, instants_s: Sequence[float], duration_s: float, settings: FeatureSettings) -> None:
    """Fewer frames than the header promises, by more than rounding: the file is damaged or cut off.

    Where there is damage, a frame that is a whole interval late was found behind the damage and does not count.
    """
    n_promised = sum(t < duration_s - _END_SLACK_S for t in instants_s)
    late_s = settings.interval_s if looked.n_damaged else math.inf
    n_found = sum(each.time_s < t + late_s for each, t in zip(looked.grabbed, instants_s, strict=False))
    if n_found < max(1, n_promised):
        raise MediaError(
            f"damaged or cut off: {n_found} of {len(instants_s)} frames could be decoded", reason="corrupt"
        )


def _crop_all(looked: Looked, size: int) -> NDArray[np.uint8]:
    """(n_frames, size, size, 3) uint8, RGB."""
    reformatter = VideoReformatter()
    frames = [each.frame for each in looked.grabbed]
    shapes = [shape_of(frame, looked.sample_aspect_ratio) for frame in frames]
    box = Box() if is_seed_shape(shapes[0]) else find_box(frames, reformatter)
    return np.stack(
        [
            crop_frame(frame, plan_crop(shape, size, box), size, reformatter)
            for frame, shape in zip(frames, shapes, strict=True)
        ]
    )
