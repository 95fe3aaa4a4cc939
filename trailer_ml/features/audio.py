"""A picture of the sound, in this process: ffmpeg's own showspectrumpic filter, or log_mel.py on what ffmpeg mixed.

The filter graph gets one thread. With more, most of the time goes into waking threads: 764 ms against 179 ms a trailer.
What there is to be heard between the two instants fills the picture, as the filter does it: sound that starts late
begins at its left edge, sound that ends early reaches its right edge, and holes are closed. Nothing at all gives a
black picture. showspectrumpic adds up the channels, of which there may be any number, and reaches up to half the
sample rate, whatever that is; sound that changes its rate or channels on the way goes on as it began.

Does not belong here: what a model makes of the picture.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import av
import numpy as np

from trailer_ml.features.container import DAMAGE, read_packets, time_base_of
from trailer_ml.features.log_mel import RATE_HZ, draw_log_mel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av import AudioFrame
    from av.audio.stream import AudioStream
    from numpy.typing import NDArray

    from trailer_ml.features.container import Deadline, Source

Filter = tuple[str, dict[str, str]]
"""Its name and its options."""
_BATCH = 16384  # samples; handing over frames of 1024 one by one takes as long as the filter itself


def no_spectrogram(size: int) -> NDArray[np.uint8]:
    """What stands for silence.

    Returns:
        (size, size, 3) uint8, black.
    """
    return np.zeros((size, size, 3), np.uint8)


def draw_spectrogram(
    source: Source, kind: str, *, start_s: float, duration_s: float, size: int, deadline: Deadline
) -> NDArray[np.uint8]:
    """The spectrogram of a span of the sound.

    Args:
        source: an open file.
        kind: of the picture, `showspectrumpic` or `log_mel`.
        start_s: from when, after the first timestamp of the file.
        duration_s: how much sound, at most.
        size: of the picture.
        deadline: checked at every packet.

    Returns:
        (size, size, 3) uint8, RGB; black where there is nothing to be heard.
    """
    stream = source.audio
    if stream is None:
        return no_spectrogram(size)
    source.keep_only(stream)
    start_s += source.start_s
    time_base = time_base_of(stream)
    start_pts = round(start_s / time_base)
    end_pts = math.ceil((start_s + duration_s) / time_base)
    _seek_sound(source, stream, start_pts)
    trim = "atrim", {"start": f"{start_s:.6f}", "duration": f"{duration_s:.6f}"}
    filters = (trim, *plan_filters(kind, size))
    filtering: _Filtering | None = None
    for packet in read_packets(source.container, stream):
        deadline.check()
        if packet.pts is not None and packet.pts >= end_pts:
            break
        try:
            frames = stream.codec_context.decode(packet if packet.size else None)
        except DAMAGE:
            continue  # a hole in the sound is not worth a trailer
        for frame in frames:
            filtering = filtering or _Filtering(frame, filters)
            filtering.push(frame)
    heard = filtering.finish() if filtering else []
    if not heard:
        return no_spectrogram(size)
    return heard[0] if kind == "showspectrumpic" else draw_log_mel(np.concatenate(heard, axis=1)[0], size)


def _seek_sound(source: Source, stream: AudioStream, start_pts: int) -> None:
    try:
        source.container.seek(start_pts, stream=stream, backward=True)
    except av.error.FFmpegError:  # it starts later than that, and some demuxers find nothing before it
        source.container.seek(start_pts, stream=stream, backward=False)


def plan_filters(kind: str, size: int) -> tuple[Filter, ...]:
    """The filters that make a picture of the sound, or the samples that log_mel.py makes one of."""
    if kind == "showspectrumpic":
        return ("showspectrumpic", {"s": f"{size}x{size}", "legend": "disabled"}), ("format", {"pix_fmts": "rgb24"})
    return (
        ("aresample", {"sample_rate": str(RATE_HZ)}),
        ("aformat", {"sample_fmts": "flt", "channel_layouts": "mono"}),
    )


class _Kind(NamedTuple):
    """What a graph of filters is made for."""

    sample_format: str
    layout: str
    rate: int


class _Filtering:
    """A graph of filters, made for the first frame's kind of sound."""

    def __init__(self, frame: AudioFrame, filters: Sequence[Filter]) -> None:
        self._kind, self._layout = self._kind_of(frame), frame.layout
        graph = av.filter.Graph()
        graph.threads = 1
        self._source = graph.add_abuffer(
            sample_rate=frame.sample_rate,
            format=frame.format.name,
            layout=frame.layout.name,
            channels=frame.layout.nb_channels,
            time_base=frame.time_base,
        )
        self._sink = graph.add("abuffersink" if filters[-1][0] == "aformat" else "buffersink")
        steps = [graph.add(name, **options) for name, options in filters]
        graph.link_nodes(self._source, *steps, self._sink).configure()
        self._graph = graph
        self._waiting = av.AudioFifo()
        self._time_base = frame.time_base
        self._resamplers: dict[_Kind, av.AudioResampler] = {}

    @staticmethod
    def _kind_of(frame: AudioFrame) -> _Kind:
        return _Kind(frame.format.name, frame.layout.name, frame.sample_rate)

    def push(self, frame: AudioFrame) -> None:
        if frame.pts is None:
            return
        for each in [frame] if self._is_as_before(frame) else self._as_before(frame):
            if not self._waiting.samples:
                self._waiting_pts = frame.pts
            each.pts = None  # rounded ones leave holes, which the queue does not take
            self._waiting.write(each)
        if self._waiting.samples >= _BATCH:
            self._hand_over()

    def _is_as_before(self, frame: AudioFrame) -> bool:
        # Asked of thousands of frames, and the name of a layout is put together anew each time.
        sample_format, _, rate = self._kind
        return bool(frame.sample_rate == rate and frame.layout == self._layout and frame.format.name == sample_format)

    def _as_before(self, frame: AudioFrame) -> list[AudioFrame]:
        """A frame of another rate or other channels, as the first one was."""
        resampler = self._resamplers.setdefault(self._kind_of(frame), av.AudioResampler(*self._kind))
        converted: list[AudioFrame] = resampler.resample(frame)
        for each in converted:
            each.time_base = self._time_base
        return converted

    def _hand_over(self) -> None:
        if batch := self._waiting.read():
            batch.pts = self._waiting_pts
            self._source.push(batch)

    def finish(self) -> list[NDArray[Any]]:
        """What the last filter put out; nothing of less sound than it needs."""
        self._hand_over()
        self._source.push(None)
        made: list[NDArray[Any]] = []
        while True:
            try:
                made.append(self._sink.pull().to_ndarray())
            except av.error.EOFError:
                return made
