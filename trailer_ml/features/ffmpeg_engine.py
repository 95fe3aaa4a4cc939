"""The other engine: one ffmpeg process, put together with ffmpeg-python, one seeked input for each instant.

It is the reference for the quick engine, and the way round where that cannot decode; the header is read and checked by
PyAV in both. ffmpeg seeks by decoding time: where the frame rate varies it may land behind the frame that is meant.
Each picture comes as decoded, upright, in a NUT file, which keeps its timestamp and pixel shape.

Does not belong here: scaling and cropping, which both engines share (geometry.py).
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any

import av
import ffmpeg
import numpy as np

from trailer_ml.errors import (
    ChildFailedError,
    ChildKilledError,
    ChildTimeoutError,
    LocalFaultError,
    MediaError,
    SettingsError,
)
from trailer_ml.features import leashed
from trailer_ml.features.audio import no_spectrogram, plan_filters
from trailer_ml.features.container import FORMATS, MAX_STREAMS, PROTOCOLS
from trailer_ml.features.log_mel import draw_log_mel
from trailer_ml.features.samplers import SAMPLERS
from trailer_ml.features.sampling import plan_sound_start
from trailer_ml.features.video import Grabbed, Looked
from trailer_ml.media.ffmpeg import find_ffmpeg
from trailer_ml.processes import run_child
from trailer_ml.scratch import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from trailer_ml.features.container import Deadline, Source
    from trailer_ml.settings import FeatureSettings

_OUTPUT = {"fps_mode": "passthrough", "threads": 1, "map_metadata": -1}


def look_with_ffmpeg(
    source: Source, path: Path, instants_s: Sequence[float], settings: FeatureSettings, deadline: Deadline
) -> Looked:
    """What extract.py's own engine does, done by ffmpeg.

    Raises:
        MediaError: ffmpeg refuses the file (`corrupt`, with its last words) or runs past the deadline (`timeout`).
        LocalFaultError: there is no room for its output.
        SettingsError: there is no ffmpeg, or one that this machine cannot start.
    """
    with scratch_folder("trailer-ml-ffmpeg-") as folder:
        pictures = [folder / f"{i}.nut" for i in range(len(instants_s))]
        sound = folder / "sound.rgb"
        outputs = [
            _picture(path, source, instant_s, output, settings)
            for instant_s, output in zip(instants_s, pictures, strict=True)
        ]
        if source.audio is not None:
            outputs.append(_sound(path, source, sound, settings))
        command = ffmpeg.merge_outputs(*outputs).global_args(
            "-nostdin", "-hide_banner", "-loglevel", "error", "-copyts", "-filter_complex_threads", "1"
        )
        try:
            _run_leashed(command.compile(cmd=find_ffmpeg(settings.ffmpeg_path)), deadline)
        except ChildTimeoutError as error:
            message = f"ffmpeg was not done after {settings.timeout_s:g} s"
            raise MediaError(message, reason="timeout", stderr_tail=error.stderr_tail) from error
        except (ChildFailedError, ChildKilledError) as error:
            if os.strerror(errno.ENOSPC) in error.stderr_tail:
                raise LocalFaultError(f"no room in {folder}: {error}") from error
            if error.returncode == leashed.CANNOT_START:
                raise SettingsError(f"ffmpeg cannot be started: {error.stderr_tail}") from error
            reason = "crashed" if isinstance(error, ChildKilledError) else "corrupt"
            raise MediaError("ffmpeg cannot read it", reason=reason, stderr_tail=error.stderr_tail) from error
        read = [_read_picture(picture, source) for picture in pictures]
        grabbed = [each for each, _ in filter(None, read)]
        aspects = [aspect for _, aspect in filter(None, read)]
        return Looked(
            grabbed=grabbed,
            sample_aspect_ratio=aspects[0] if aspects else 1.0,
            spectrogram=_read_sound(sound, settings),
            n_damaged=0,
        )


def _run_leashed(command: list[str], deadline: Deadline) -> None:
    """Run it to its end; it does not outlive this process either."""
    leash = [sys.executable, "-I", "-S", leashed.__file__, str(os.getpid())]
    run_child([*leash, *command], timeout_s=deadline.left_s)


def _input(path: Path, **options: Any) -> Any:
    return ffmpeg.input(
        f"file:{path.absolute()}",
        protocol_whitelist=PROTOCOLS,
        format_whitelist=FORMATS,
        max_streams=MAX_STREAMS,
        threads=1,
        **options,
    )


def _picture(path: Path, source: Source, instant_s: float, output: Path, settings: FeatureSettings) -> Any:
    options: dict[str, Any] = {"ss": f"{instant_s:.6f}", "max_pixels": settings.max_pixels}
    if SAMPLERS[settings.sampler].takes_keyframes:
        options |= {"noaccurate_seek": None, "skip_frame": "nokey"}
    stream = _input(path, **options)[str(source.video.index)]
    return stream.output(str(output), format="nut", vcodec="rawvideo", **{"frames:v": 1}, **_OUTPUT)


def _sound(path: Path, source: Source, output: Path, settings: FeatureSettings) -> Any:
    start_s = plan_sound_start(settings, source.duration_s)
    stream = _input(path, ss=f"{start_s:.6f}", t=f"{settings.spectrogram_s:.6f}")[str(source.audio.index)]  # type: ignore[union-attr]
    for name, options in plan_filters(settings.spectrogram, settings.image_size):
        stream = stream.filter(name, **options)
    if settings.spectrogram == "log_mel":
        return stream.output(str(output), format="f32le", **_OUTPUT)
    return stream.output(str(output), format="rawvideo", **{"frames:v": 1}, **_OUTPUT)


def _read_picture(path: Path, source: Source) -> tuple[Grabbed, float] | None:
    """None: there was no frame to be had."""
    if not path.exists() or path.stat().st_size == 0:
        return None
    with av.open(str(path), format="nut") as container:
        stream = container.streams.video[0]
        for frame in container.decode(stream):
            # NUT does not carry what the numbers of a pixel mean.
            frame.colorspace = source.video.codec_context.colorspace
            frame.color_range = source.video.codec_context.color_range
            time_s = float(frame.pts * frame.time_base) - source.start_s
            return Grabbed(time_s, frame), float(stream.sample_aspect_ratio or 1)
    return None


def _read_sound(path: Path, settings: FeatureSettings) -> NDArray[np.uint8]:
    """(size, size, 3) uint8, RGB."""
    size = settings.image_size
    if not path.exists() or path.stat().st_size == 0:
        return no_spectrogram(size)
    if settings.spectrogram == "log_mel":
        return draw_log_mel(np.fromfile(path, np.float32), size)
    return np.fromfile(path, np.uint8).reshape(size, size, 3)
