"""A picture of the sound: ffmpeg's own showspectrumpic filter, run in this process.

The filter graph gets one thread. With more, most of the time goes into waking threads: 764 ms against 179 ms a trailer.
Nothing to be heard gives a black picture. Sound that ends early fills the picture all the same, as the filter does it.

Does not belong here: what a model makes of the picture.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import av
import numpy as np

from trailer_ml.features.container import read_packets, time_base_of

if TYPE_CHECKING:
    from av import AudioFrame
    from numpy.typing import NDArray

    from trailer_ml.features.container import Deadline, Source

_BATCH = 16384  # samples; handing over frames of 1024 one by one takes as long as the filter itself


def no_spectrogram(size: int) -> NDArray[np.uint8]:
    """What stands for silence.

    Returns:
        (size, size, 3) uint8, black.
    """
    return np.zeros((size, size, 3), np.uint8)


def draw_spectrogram(
    source: Source, *, start_s: float, duration_s: float, size: int, deadline: Deadline
) -> NDArray[np.uint8]:
    """The spectrogram of a span of the sound.

    Args:
        source: an open file.
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
    source.container.seek(start_pts, stream=stream, backward=True)
    drawing: _Drawing | None = None
    for packet in read_packets(source.container, stream):
        deadline.check()
        if packet.pts is not None and packet.pts >= end_pts:
            break
        try:
            frames = stream.codec_context.decode(packet if packet.size else None)
        except (av.error.InvalidDataError, av.error.EOFError):
            continue  # a hole in the sound is not worth a trailer
        for frame in frames:
            drawing = drawing or _Drawing(frame, start_s=start_s, duration_s=duration_s, size=size)
            drawing.push(frame)
    picture = drawing.finish() if drawing else None
    return no_spectrogram(size) if picture is None else picture


class _Drawing:
    """abuffer -> atrim -> showspectrumpic -> rgb24, made for the first frame's kind of sound."""

    def __init__(self, frame: AudioFrame, *, start_s: float, duration_s: float, size: int) -> None:
        self._kind = self._kind_of(frame)
        graph = av.filter.Graph()
        graph.threads = 1
        self._source = graph.add_abuffer(
            sample_rate=frame.sample_rate,
            format=frame.format.name,
            layout=frame.layout.name,
            channels=frame.layout.nb_channels,
            time_base=frame.time_base,
        )
        self._sink = graph.add("buffersink")
        graph.link_nodes(
            self._source,
            graph.add("atrim", f"start={start_s:.6f}:duration={duration_s:.6f}"),
            graph.add("showspectrumpic", f"s={size}x{size}:legend=disabled"),
            graph.add("format", "rgb24"),
            self._sink,
        ).configure()
        self._graph = graph
        self._waiting = av.AudioFifo()

    @staticmethod
    def _kind_of(frame: AudioFrame) -> tuple[int, str, str]:
        return frame.sample_rate, frame.format.name, frame.layout.name

    def push(self, frame: AudioFrame) -> None:
        if frame.pts is None or self._kind_of(frame) != self._kind:
            return
        if not self._waiting.samples:
            self._waiting_pts = frame.pts
        frame.pts = None  # rounded ones leave holes, which the queue does not take
        self._waiting.write(frame)
        if self._waiting.samples >= _BATCH:
            self._hand_over()

    def _hand_over(self) -> None:
        if batch := self._waiting.read():
            batch.pts = self._waiting_pts
            self._source.push(batch)

    def finish(self) -> NDArray[np.uint8] | None:
        self._hand_over()
        self._source.push(None)
        try:
            picture: NDArray[np.uint8] = self._sink.pull().to_ndarray()
        except av.error.EOFError:
            return None  # less sound than one window of the transform
        return picture
