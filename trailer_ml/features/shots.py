"""Where a trailer cuts from one shot to the next, found without decoding more than its keyframes.

Encoders put a keyframe at most cuts, so keyframes are where to look. Two that follow each other belong to different
shots when the brightness of their quarters is spread differently: a histogram each, which motion within a shot hardly
changes, as PySceneDetect's HistogramDetector does it for every frame. A cut without a keyframe (encoders leave it out
soon after another one) is placed at the next keyframe, and a shot without one is not seen: what is spread over the
shots then still is a picture of the film, only less evenly.

Does not belong here: which instants of the shots are looked at (sampling.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from av.video.reformatter import VideoReformatter

from trailer_ml.features.container import DAMAGE, read_packets, time_base_of

if TYPE_CHECKING:
    from av import VideoFrame
    from numpy.typing import NDArray

    from trailer_ml.features.container import Deadline, Source

_WIDTH, _HEIGHT = 64, 36
_BINS = 16
_CUT_SHARE = 0.35
"""So large a share of the pixels in another bin than before is another shot."""


def find_cuts(source: Source, start_s: float, end_s: float, deadline: Deadline) -> tuple[float, ...]:
    """When a new shot begins within a span, in order; seconds after the first timestamp of the file.

    Args:
        source: an open file; afterwards it has to be sought anew.
        start_s: of the span; what begins there is no cut.
        end_s: of the span.
        deadline: checked at every packet.
    """
    stream, codec = source.video, source.video.codec_context
    time_base = time_base_of(stream)
    source.keep_only(stream)
    source.container.seek(round((source.start_s + start_s) / time_base), stream=stream, backward=True)
    codec.skip_frame = "NONKEY"
    reformatter = VideoReformatter()
    cuts_s: list[float] = []
    before: NDArray[np.float64] | None = None
    for packet in read_packets(source.container, stream):
        deadline.check()
        if not packet.size or not packet.is_keyframe or packet.pts is None:
            continue
        time_s = float(packet.pts * time_base) - source.start_s
        if time_s >= end_s:
            break
        try:  # alone: a decoder that waits for others would hand it out late, or never
            frames = codec.decode(packet) or codec.decode(None)
        except DAMAGE:
            continue  # whoever looks at the instants says what is damaged
        finally:
            codec.flush_buffers()
        if frames and not frames[0].is_corrupt:
            now = _describe(frames[0], reformatter)
            if before is not None and time_s > start_s and np.abs(now - before).sum() / 2 > _CUT_SHARE:
                cuts_s.append(time_s)
            before = now
    return tuple(cuts_s)


def _describe(frame: VideoFrame, reformatter: VideoReformatter) -> NDArray[np.float64]:
    """(4, bins) shares of all pixels: how bright each quarter of the picture is, and how much of it."""
    small = reformatter.reformat(frame, width=_WIDTH, height=_HEIGHT, format="gray", interpolation="AREA", threads=1)
    plane = small.planes[0]
    luma = np.frombuffer(memoryview(plane), np.uint8).reshape(_HEIGHT, plane.line_size)[:, :_WIDTH]
    quarters = luma.reshape(2, _HEIGHT // 2, 2, _WIDTH // 2).swapaxes(1, 2).reshape(4, -1)
    return np.stack([np.bincount(quarter // (256 // _BINS), minlength=_BINS) for quarter in quarters]) / luma.size
