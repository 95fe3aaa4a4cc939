"""Finding and decoding the pictures at some instants, and as little else as can be.

exact: the first frame at or after each instant; after the last one, the last one while it is shown. keyframe: the last
keyframe at or before it, several times faster. It goes by timestamps and never by counting, for the frame rate may vary
and the first timestamp need not be 0.

A decoder calls the frame damaged whose packet is, and not those made from it: after damage no frame counts until the
next good keyframe.

Does not belong here: scaling and cropping (geometry.py), the choice of instants (sampling.py).
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

from trailer_ml.features.container import DAMAGE, US, read_packets, time_base_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from av import Packet, VideoFrame
    from numpy.typing import NDArray

    from trailer_ml.features.container import Deadline, Source

TOLERANCE_S = 1e-4  # timestamps are rounded to the stream's time base
_STEP_BACK_S = 2.5
_MAX_STEPS_BACK = 5
_BEFORE_START_S = 2.0
_INDEXED = ("mov", "matroska", "avi")
_SHORT_HOP_S = 0.5
_KEYFRAMES_AFTER = 3
"""Where a keyframe is damaged, so many after it are tried."""


class Grabbed(NamedTuple):
    """A decoded picture and when it is shown."""

    time_s: float
    """After the first timestamp of the file."""
    frame: VideoFrame


class Looked(NamedTuple):
    """What an engine hands over: pictures as decoded, and the finished spectrogram."""

    grabbed: Sequence[Grabbed]
    sample_aspect_ratio: float
    """Width of a pixel as shown, over its height."""
    spectrogram: NDArray[np.uint8]
    """(size, size, 3) uint8, RGB."""
    n_damaged: int
    """Packets that the decoder refused, and frames that it calls damaged."""


class VideoReader:
    """Decodes the picture stream of a source from wherever it is told to.

    Args:
        source: an open file.
        deadline: checked at every packet.
    """

    def __init__(self, source: Source, deadline: Deadline) -> None:
        source.keep_only(source.video)
        self.n_damaged = 0
        """Packets that the decoder refused, and frames that it calls damaged."""
        self._source = source
        self._deadline = deadline
        self._stream = source.video
        self._codec = source.video.codec_context
        self._time_base = time_base_of(source.video)
        self._start_pts = round((source.container.start_time or 0) / US / self._time_base)
        # The rate that every timestamp fits: where the frame rate varies, the average would be too slow.
        rate = max(source.video.base_rate or 0, source.video.average_rate or 0) or 25
        self._frame_ticks = math.floor(1 / rate / self._time_base)
        # dav1d goes by what it is told first, and would leave out the wanted frame too.
        self._may_skip = self._codec.name != "libdav1d"
        self._has_index = source.container.format.name.split(",")[0] in _INDEXED
        self._damaged_pts: float | None = None
        """Where the last damage is that no good keyframe has followed yet."""
        self._shown_last = (-1, -1)
        """From when until when the last picture of those that were read is shown."""

    def grab_exact(self, instants_s: Sequence[float]) -> Iterator[Grabbed]:
        """The first frame at or after each instant, else the one that is shown then; ends where the picture ends."""
        self._codec.skip_frame = "DEFAULT"
        frames: Iterator[VideoFrame] = iter(())
        last: VideoFrame | None = None
        held_until = -1
        for instant_s in instants_s:
            target = self._start_pts + math.ceil((instant_s - TOLERANCE_S) / self._time_base)
            if last is None or (last.pts < target and target >= held_until):
                if last is None or self._pays_to_seek(last.pts, target):
                    frames, last = self._seek_before(target)
                else:
                    self._target = target
                    last = next(frames, None)
                last = self._find_good(frames, last, target)
                if last is None and self._shown_last[0] < target < self._shown_last[1]:  # held to the end
                    frames, last = self._seek_before(self._shown_last[0])
                    last = self._find_good(frames, last, self._target)
                    held_until = self._shown_last[1]
            if last is None:
                return
            yield Grabbed(self._time_s(last), last)

    def grab_keyframes(self, instants_s: Sequence[float]) -> Iterator[Grabbed]:
        """The last keyframe at or before each instant; the same one again where no other lies between two instants.

        Where the picture begins after an instant it is the first one, as with `grab_exact`.
        """
        self._codec.skip_frame = "NONKEY"
        last_pts, last = None, None
        for instant_s in instants_s:
            target = self._start_pts + math.floor((instant_s + TOLERANCE_S) / self._time_base)
            packet = self._find_keyframe(target)
            if packet is None:
                return
            if last is None or packet.pts != last_pts:
                last_pts, last = packet.pts, self._decode_alone(packet) or self._decode_next_alone()
            if last is not None:
                yield Grabbed(self._time_s(last), last)

    def _find_good(self, frames: Iterator[VideoFrame], frame: VideoFrame | None, target: int) -> VideoFrame | None:
        """The first that is neither before the target nor made from something damaged."""
        while frame is not None and (frame.pts < target or self._damaged_pts is not None):
            frame = next(frames, None)
        return frame

    def _time_s(self, frame: VideoFrame) -> float:
        return float((frame.pts - self._start_pts) * self._time_base)

    def _seek(self, target: int, step_back_s: float) -> None:
        # Before the very first timestamp if need be: mpeg-ts is sought by decoding time, which is earlier.
        earliest_s = _BEFORE_START_S if step_back_s else 0.0
        pts = max(target - round(step_back_s / self._time_base), self._start_pts - round(earliest_s / self._time_base))
        self._source.container.seek(pts, stream=self._stream, backward=True)
        self._damaged_pts = None

    def _packets(self) -> Iterator[Packet]:
        for packet in read_packets(self._source.container, self._stream):
            self._deadline.check()
            yield packet

    def _frames(self) -> Iterator[VideoFrame]:
        """Decodes on from here, and notes damage; until the target only what other frames are made from."""
        for packet in self._packets():
            is_early = packet.pts is not None and packet.pts < self._target
            self._codec.skip_frame = "NONREF" if is_early and self._may_skip else "DEFAULT"
            try:
                decoded = self._codec.decode(packet if packet.size else None)
            except DAMAGE:
                self._note_damage(packet.pts if packet.pts is not None else packet.dts)
                continue
            if packet.pts is not None and packet.pts > self._shown_last[0]:
                self._shown_last = packet.pts, packet.pts + (packet.duration or 0)
            for frame in decoded:
                if frame.pts is None:
                    frame.pts = frame.dts
                if frame.is_corrupt:
                    self._note_damage(frame.pts)
                elif self._damaged_pts is not None and frame.key_frame and (frame.pts or 0) > self._damaged_pts:
                    self._damaged_pts = None
                if frame.pts is not None:
                    yield frame

    def _note_damage(self, pts: int | None) -> None:
        """What a decoder has not handed out yet may be older than the damage: a keyframe has to lie behind it."""
        self.n_damaged += 1
        self._damaged_pts = max(self._damaged_pts or 0, pts or 0)

    def _seek_before(self, target: int) -> tuple[Iterator[VideoFrame], VideoFrame | None]:
        """Seeks to where the first decoded frame is not after the target, or as near to that as can be."""
        self._target = target
        step_s = 0.0
        for attempt in range(_MAX_STEPS_BACK + 1):
            self._seek(target, step_s)
            frames = self._frames()
            first = next(frames, None)
            if first is not None and (first.pts <= target or first.pts < target + self._frame_ticks):
                break
            # A file without an index lands late: step back and scan.
            step_s = _STEP_BACK_S * 2**attempt
        return frames, first

    def _pays_to_seek(self, position: int, target: int) -> bool:
        """Whether a keyframe lies between; else decoding simply goes on."""
        if (target - position) * self._time_base < _SHORT_HOP_S:
            return False
        entries = self._stream.index_entries
        if not self._has_index or len(entries) < 2 or entries[len(entries) - 1].timestamp < target:  # noqa: PLR2004
            return True
        nearest = entries.search_timestamp(target, backward=True)
        return nearest < 0 or entries[nearest].timestamp > position

    def _find_keyframe(self, target: int) -> Packet | None:
        """The last one at or before the target; the first of all where the picture begins after it."""
        best: Packet | None = None
        step_s = 0.0
        for attempt in range(_MAX_STEPS_BACK + 1):
            self._seek(target, step_s)
            is_from_start = step_s > 0 and target - step_s / self._time_base <= self._start_pts
            for packet in self._packets():
                if not packet.size or packet.pts is None:
                    continue
                is_late = packet.pts > target and (packet.is_keyframe or (packet.dts or packet.pts) > target)
                if is_late and (best is not None or not is_from_start):
                    break
                if packet.is_keyframe and (packet.pts <= target or is_late):
                    best = packet
                    if self._has_index or is_late:
                        break
            if best is not None or is_from_start:
                return best
            step_s = _STEP_BACK_S * 2**attempt
        return best

    def _decode_alone(self, packet: Packet) -> VideoFrame | None:
        """None where it is damaged: what can be made of it is grey."""
        try:
            frames = self._codec.decode(packet) or self._codec.decode(None)
        except DAMAGE:
            self.n_damaged += 1
            return None
        finally:
            self._codec.flush_buffers()
        if not frames or frames[0].pts is None:
            return None
        self.n_damaged += frames[0].is_corrupt
        return None if frames[0].is_corrupt else frames[0]

    def _decode_next_alone(self) -> VideoFrame | None:
        """The next good keyframe after one that is damaged; how late it may be is not asked here."""
        following = (packet for packet in self._packets() if packet.size and packet.is_keyframe)
        return next(filter(None, map(self._decode_alone, itertools.islice(following, _KEYFRAMES_AFTER))), None)
