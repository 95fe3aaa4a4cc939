"""Streams put into a new container, not encoded again: the pieces of a playlist, picture and sound that came apart.

With PyAV and not with ffmpeg: here the list of formats that may be opened holds, and so do the limits of this process;
and the static build that we come with crashes on transport streams.

Does not belong here: looking at what came out of it (probe.py).
"""

from __future__ import annotations

import errno
import heapq
import itertools
import math
import os
from contextlib import ExitStack
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from trailer_ml.errors import LocalFaultError, MediaError
from trailer_ml.media.probe import SAFE_INPUT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_INPUT = SAFE_INPUT | {"format_whitelist": SAFE_INPUT["format_whitelist"] + ",mpegts,aac,mp3"}
_OUTPUT = {"movflags": "faststart", "avoid_negative_ts": "make_zero"}
_STEP_S = Fraction(1, 1000)
"""The least between two timestamps that every container keeps apart."""
_RESET_S = 1
"""Timestamps that step back by more than this have begun anew."""
_LOCAL_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM)


def remux(paths: Sequence[Path], target: Path) -> None:
    """Put the first picture and the first sound that the files hold into one mp4, or into a matroska if mp4 cannot.

    Args:
        paths: of containers that are accepted, transport streams and bare AAC or MP3; no other file is read.
        target: the new file; each of the others begins at its 0, for bare sound has no clock that could say more.

    Raises:
        MediaError: they cannot be read or put together (corrupt), or the file gets too large (too_large).
        LocalFaultError: the new file cannot be written.
    """
    import av

    try:
        with ExitStack() as stack:
            sources = [stack.enter_context(_open(path)) for path in paths]
            wanted = [*_first(sources, "video"), *_first(sources, "audio")]
            name = "mp4" if _fit_mp4(wanted) else "matroska"
            container = stack.enter_context(av.open(f"file:{os.fspath(target)}", "w", format=name, options=_OUTPUT))
            copies = {stream: container.add_stream_from_template(stream) for stream in wanted}
            packets = (_packets(source, [s for s in wanted if s.container is source]) for source in sources)
            for packet in heapq.merge(*packets, key=lambda packet: packet.dts * packet.time_base):
                packet.stream = copies[packet.stream]
                container.mux(packet)
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, MediaError):
            raise
        raise _explain(error) from error


def _open(path: Path) -> Any:
    import av

    try:
        return av.open(f"file:{os.fspath(path)}", options=_INPUT, metadata_errors="replace")
    except av.FFmpegError as error:
        raise MediaError(f"a part of it cannot be opened: {error.strerror}", reason="corrupt") from error


def _first(sources: Sequence[Any], kind: str) -> list[Any]:
    found = (stream for source in sources for stream in source.streams if stream.type == kind and stream.codec_context)
    return list(itertools.islice(found, 1))


def _fit_mp4(streams: Sequence[Any]) -> bool:
    import av

    with av.open(os.devnull, "w", format="mp4") as container:
        fitting: set[str] = container.supported_codecs
    return fitting.issuperset(stream.codec_context.codec.canonical_name for stream in streams)


def _packets(source: Any, streams: Sequence[Any]) -> Iterator[Any]:
    """What a file holds of these streams; a file that cannot be read on is the file's fault, not this machine's."""
    import av

    pieces = _Pieces(-Fraction(source.start_time or 0, av.time_base))
    clocks = {stream: _Clock(pieces) for stream in streams}
    try:
        for packet in source.demux(*streams) if streams else ():
            if packet.dts is not None:
                clocks[packet.stream].set(packet)
                yield packet
    except av.FFmpegError as error:
        raise MediaError(f"a part of it cannot be read: {error.strerror}", reason="corrupt") from error


class _Pieces:
    """Where each piece of a playlist begins: for all of its streams alike, or picture and sound would drift apart.

    Args:
        shift_s: added to every timestamp of the first piece.
    """

    def __init__(self, shift_s: Fraction) -> None:
        self._shifts_s = [shift_s]
        self._end_s = Fraction(0)

    def shift_s(self, number: int) -> Fraction:
        """What is added in one piece."""
        return self._shifts_s[number]

    def after(self, number: int, begins_s: Fraction) -> int:
        """The piece in which a stream begins anew that was in this one: the newest, whoever began it.

        A new one begins where the longest stream before it ended.
        """
        if number == len(self._shifts_s) - 1:
            self._shifts_s.append(self._end_s - begins_s)
        return len(self._shifts_s) - 1

    def lengthen(self, end_s: Fraction) -> None:
        """A packet ends then."""
        self._end_s = max(self._end_s, end_s)


class _Clock:
    """Makes the timestamps of a stream rise: those of a playlist's next piece may overlap, or begin anew.

    Args:
        pieces: of the file that the stream is in.
    """

    def __init__(self, pieces: _Pieces) -> None:
        self._pieces = pieces
        self._number = 0
        self._last: int | None = None
        """The packet before this one, in the file's own time."""
        self._dts: int | None = None

    def set(self, packet: Any) -> None:
        """Give a packet the timestamps that it gets in the new file."""
        base = packet.time_base
        if self._last is not None and (self._last - packet.dts) * base > _RESET_S:
            self._number = self._pieces.after(self._number, packet.dts * base)
        self._last = packet.dts
        shift = round(self._pieces.shift_s(self._number) / base)
        dts = packet.dts + shift
        packet.pts = None if packet.pts is None else packet.pts + shift
        if self._dts is not None and dts <= self._dts:
            dts = self._dts + math.ceil(_STEP_S / base)
            packet.pts = None if packet.pts is None else max(packet.pts, dts)
        packet.dts = self._dts = dts
        self._pieces.lengthen((dts + max(packet.duration or 0, 1)) * base)


def _explain(error: Exception) -> Exception:
    number = getattr(error, "errno", None)
    if number in _LOCAL_FAULTS:
        return LocalFaultError(f"the file cannot be written: {os.strerror(number)}")
    if number == errno.EFBIG:
        return MediaError("put together it is larger than is allowed", reason="too_large")
    return MediaError(f"it cannot be put into one file: {error}", reason="corrupt")
