"""Opening a file from the internet: what is let in, and the reason given for what is not.

Only regular files of known formats, which may read no other file or address (a playlist named .mp4 would), with limits
on streams, packets, pixels and time. Every refusal is a MediaError with a reason of its own,
in words that depend on the file only and not on where it lies:

    missing  not_a_file  empty  unreadable  not_a_video  corrupt  no_video  unsupported  too_large
    too_many_streams  too_many_packets  timeout  out_of_memory

pool.py adds `crashed`, and shards/write.py `media_missing` and `media_changed`; docs/extraction.md says what they mean.

Does not belong here: memory and hangs inside a decoder, which only a process of its own bounds (see pool.py).
"""

from __future__ import annotations

import functools
import mmap
import re
import stat
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import av
from av.stream import Discard, Disposition

from trailer_ml.errors import MediaError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from fractions import Fraction
    from pathlib import Path

    from av import Packet
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

    from trailer_ml.settings import FeatureSettings

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,avi,flv,asf"
PROTOCOLS = "file"
MAX_STREAMS = 32
MAX_PACKETS = 500_000
"""In one reading: an hour with 60 pictures and 47 packets of sound a second has 390,000."""
_DEMUXER_MAX_STREAMS = 1000
"""For the demuxer, which calls it a lack of memory when there are more: our own limit gives the better reason."""
_ONE_DURATION = ("matroska,webm", "asf")
"""Formats without durations of streams: where one stands there, it is that of the file."""
_CUT_OFF_S = 1.0
"""Where the last packet ends so much before the end in the header, the rest of the file is missing."""
_SPARE_BYTES = 256 * 2**20
"""Whoever still gets so much is not out of memory."""
DAMAGE = (
    av.error.InvalidDataError, av.error.EOFError, av.error.PermissionError, av.error.ArgumentError,
    av.error.PatchWelcomeError,
)  # fmt: skip
"""What decoders say of a packet that is damaged; the next one may be good."""
_NOT_PROBED = {"vp9", "libvpx-vp9"}
US = 1_000_000  # a container counts in microseconds
_SIGNATURES = ((4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (0, b"\x1aE\xdf\xa3"), (8, b"AVI "), (0, b"FLV"))


class Deadline:
    """A wall clock for one file.

    Args:
        seconds: how long from now.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Seconds left, never less than a millisecond."""
        return max(1e-3, self._end - time.monotonic())

    def check(self) -> None:
        """Raise MediaError (`timeout`) once it is over."""
        if time.monotonic() > self._end:
            raise MediaError(f"it was not done after {self._seconds:g} s", reason="timeout")


class Source(NamedTuple):
    """An open file and what is looked at in it."""

    container: InputContainer
    video: VideoStream
    audio: AudioStream | None
    duration_s: float
    """Of the picture, from the first timestamp of the file."""

    @property
    def start_s(self) -> float:
        """The first timestamp of the file."""
        return (self.container.start_time or 0) / US

    def keep_only(self, stream: Stream) -> None:
        """Let the demuxer throw away the packets of every other stream."""
        for other in self.container.streams:
            other.discard = Discard.default if other is stream else Discard.all


def check_file(path: Path) -> None:
    """Raise MediaError unless `path` is a regular file with something in it (a FIFO would hang every tool for ever)."""
    try:
        status = path.stat()
    except OSError as error:
        raise MediaError("no such file", reason="missing") from error
    if not stat.S_ISREG(status.st_mode):
        raise MediaError("not a regular file", reason="not_a_file")
    if status.st_size == 0:
        raise MediaError("an empty file", reason="empty")


def time_base_of(stream: Stream) -> Fraction:
    """Seconds a tick of the stream's timestamps."""
    if not stream.time_base:
        raise MediaError("a stream without a clock", reason="corrupt")
    return stream.time_base


def read_packets(container: InputContainer, *streams: Stream) -> Iterator[Packet]:
    """The packets of some streams, or of all, from here to the end.

    Those of a stream that first comes up in the middle of the file, which PyAV does not know, are passed over.

    Raises:
        MediaError: they are more than `MAX_PACKETS`, with hardly anything in them.
    """
    n_read = 0
    while True:
        try:
            for packet in container.demux(*streams):
                n_read += 1
                if n_read > MAX_PACKETS:
                    raise MediaError(f"more than {MAX_PACKETS:,} packets", reason="too_many_packets")
                yield packet
        except IndexError:
            continue
        else:
            return


@contextmanager
def open_media(path: Path, settings: FeatureSettings, deadline: Deadline) -> Iterator[Source]:
    """Open a file that may be anything.

    Raises:
        MediaError: it cannot be used; also in place of any FFmpeg error while the block runs.
    """
    check_file(path)
    av.logging.set_level(av.logging.PANIC)  # damage is counted and reported by us, once
    options = {
        "protocol_whitelist": PROTOCOLS,
        "format_whitelist": FORMATS,
        "max_streams": str(_DEMUXER_MAX_STREAMS),
        "max_pixels": str(settings.max_pixels),  # opening decodes pictures: of 16,000 x 16,000, 6 s and 1.2 GB
    }
    if settings.sampler == "keyframe":
        # Opening decodes pictures to see how far they are out of order, a seventh of the time at 1080p; keyframes are
        # decoded one by one, where there is no order.
        options["skip_frame"] = "all"
    if settings.engine != "ffmpeg":
        options["codec_whitelist"] = _probed_codecs()
    try:
        name = f"file:{path.absolute()}"
        container = av.open(name, options=options, timeout=deadline.left_s, metadata_errors="replace")
    except MemoryError as error:
        raise _without_memory() from error
    except av.error.FFmpegError as error:
        raise _refusal(path, error) from error
    with container, damage_as_media_error():
        yield _choose_streams(container, settings, deadline)


@contextmanager
def damage_as_media_error() -> Iterator[None]:
    """Raise MediaError in place of any FFmpeg error while the block runs."""
    try:
        yield
    except MemoryError as error:
        raise _without_memory() from error
    except av.error.ExitError as error:
        raise MediaError("reading it was not done in time", reason="timeout") from error
    except av.error.FFmpegError as error:
        raise MediaError(f"damaged: {error.strerror}", reason="corrupt") from error


@functools.cache
def _probed_codecs() -> str:
    """The decoders that opening a file may ask what a header leaves out, which is every one but those of VP9.

    They decode the first picture for it, whatever `skip_frame` says: 20 ms at 720p. What it would tell, each picture
    says again; what ffmpeg_engine.py puts beside pictures that no longer say it is asked for with all of them.
    """
    return ",".join(sorted(av.codec.codecs_available - _NOT_PROBED))


def _without_memory() -> MediaError:
    """FFmpeg says the same of a forged header that asks for gigabytes: whether memory lacks is asked of the system."""
    try:
        mmap.mmap(-1, _SPARE_BYTES).close()
    except OSError:
        return MediaError("it needs more memory than is allowed", reason="out_of_memory")
    return MediaError("damaged: it asks for more memory than any trailer needs", reason="corrupt")


def _refusal(path: Path, error: av.error.FFmpegError) -> MediaError:
    if isinstance(error, av.error.ExitError):
        return MediaError("it could not be opened in time", reason="timeout")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except PermissionError as unread:
        return MediaError(f"it cannot be read: {unread.strerror}", reason="unreadable")
    if any(head[at : at + len(mark)] == mark for at, mark in _SIGNATURES):
        return MediaError(f"a damaged video file: {error.strerror}", reason="corrupt")
    return MediaError("not a video of a known format", reason="not_a_video")


def _choose_streams(container: InputContainer, settings: FeatureSettings, deadline: Deadline) -> Source:
    if len(container.streams) > MAX_STREAMS:
        raise MediaError(f"more than {MAX_STREAMS} streams", reason="too_many_streams")
    # Cover art shows up as a picture stream.
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not videos:
        raise MediaError("it has no picture", reason="no_video")
    video = next((s for s in videos if s.codec_context is not None and s.width and s.height), None)
    if video is None:
        raise MediaError("its picture stream cannot be decoded", reason="unsupported")
    if video.width * video.height > settings.max_pixels:
        raise MediaError(f"{video.width}x{video.height} is more than {settings.max_pixels} pixels", reason="too_large")
    # One thread each: parallelism comes from many trailers.
    video.codec_context.options = {"max_pixels": str(settings.max_pixels)}
    video.codec_context.thread_type, video.codec_context.thread_count = "NONE", 1
    audio = next((s for s in container.streams.audio if s.codec_context is not None and s.rate), None)
    if audio is not None:
        audio.codec_context.thread_type, audio.codec_context.thread_count = "NONE", 1
    return Source(container, video, audio, _duration_of(container, video, deadline))


def _duration_of(container: InputContainer, video: VideoStream, deadline: Deadline) -> float:
    """Until when there is picture, after the first timestamp of the file: by what is said of it, else by the packets.

    The duration of the file is no answer: sound may outlast the picture. But it says whether the packets are all there.
    """
    start_s, time_base = (container.start_time or 0) / US, time_base_of(video)
    if video.duration and container.format.name not in _ONE_DURATION:
        offset_s = float((video.start_time or 0) * time_base) - start_s
        return float(video.duration * time_base) + offset_s
    if tagged_end_s := _read_clock(video.metadata.get("DURATION", "")):  # Matroska's; counted from 0
        return max(0.0, tagged_end_s - start_s)
    picture_end_s, end_s = _scan_ends(container, video, deadline)
    promised_s = (container.duration or 0) / US
    return promised_s if end_s < promised_s - _CUT_OFF_S else max(0.0, picture_end_s - start_s)


def _read_clock(text: str) -> float | None:
    """Seconds of a time such as `00:01:30.250000000`; None where it is no such time.

    >>> _read_clock("00:01:30.250000000"), _read_clock("soon")
    (90.25, None)
    """
    found = re.fullmatch(r"(\d{1,3}):(\d\d):(\d\d(?:\.\d{1,9})?)", text, re.ASCII)
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) if found else None


def _scan_ends(container: InputContainer, video: VideoStream, deadline: Deadline) -> tuple[float, float]:
    """When the last picture and the last packet of any stream end; 50 MB take 25 ms, for nothing is decoded."""
    ends_s: dict[int, float] = {}
    for packet in read_packets(container):
        deadline.check()
        if packet.pts is not None and packet.stream.time_base:
            end_s = float((packet.pts + (packet.duration or 0)) * packet.stream.time_base)
            ends_s[packet.stream.index] = max(end_s, ends_s.get(packet.stream.index, end_s))
    container.seek(0)
    return ends_s.get(video.index, 0.0), max(ends_s.values(), default=0.0)
