"""Looking at a file before it is believed to be a trailer.

A download that "succeeded" may be a page of HTML, a playlist that would read other files of this machine, or half a
film (facts of yt-dlp, not suspicions). So: the first bytes, a list of formats and protocols that may be opened, a
video stream, a length within limits, a first frame that decodes and an end that does.

A file can also be made to crash or hang a decoder: call this in a process that may be killed. Does not belong here:
pictures and sound as arrays (features).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from trailer_ml.errors import MediaError
from trailer_ml.records import Stream

if TYPE_CHECKING:
    from trailer_ml.settings import MediaSettings

_MAX_PIXELS = 8192 * 4608
SAFE_INPUT = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm",
    "protocol_whitelist": "file",
    "max_pixels": str(_MAX_PIXELS),
}
"""ffmpeg input options under which a file is only ever read as itself (both are needed), and opening it decodes no
picture that is larger than any trailer's: 18 kB that said 16,000 x 16,000 took 13 s and 1.6 GB."""
_ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_EBML = b"\x1a\x45\xdf\xa3"
_MAX_STREAMS = 32
_END_TOLERANCE_S = 2.0
_END_TOLERANCE_SHARE = 0.1


class Probe(NamedTuple):
    """What a file turned out to be."""

    duration_s: float
    streams: tuple[Stream, ...]


def probe_media(path: str | os.PathLike[str], settings: MediaSettings) -> Probe:
    """Look at a file that should be a trailer.

    Args:
        path: the file.
        settings: how short and how long it may be.

    Raises:
        MediaError: it cannot be used; `reason` is not_a_video, corrupt, no_video, too_large, too_short or too_long.
    """
    import av

    _check_first_bytes(path)
    try:
        options = {**SAFE_INPUT, "max_streams": str(_MAX_STREAMS)}
        with av.open(f"file:{os.fspath(path)}", options=options, metadata_errors="replace") as container:
            video = next((s for s in container.streams.video if s.codec_context and not _is_picture(s)), None)
            if video is None:
                raise MediaError("it has no video stream that can be decoded", reason="no_video")
            if video.width * video.height > _MAX_PIXELS:
                raise MediaError(
                    f"its pictures are said to have {video.width}x{video.height} pixels", reason="too_large"
                )
            duration_s = _duration_s(container, video)
            if duration_s < settings.min_duration_s:
                raise MediaError(f"it is {duration_s:.1f} s long", reason="too_short")
            if duration_s > settings.max_duration_s:
                raise MediaError(f"it is {duration_s:.0f} s long", reason="too_long")
            audio = [stream for stream in container.streams.audio if stream.codec_context]
            streams = tuple(_describe(stream) for stream in (video, *audio))
            _check_both_ends(container, video, audio, duration_s)
    except (av.FFmpegError, MemoryError) as error:
        said = getattr(error, "strerror", "") or "out of memory"
        raise MediaError(f"it cannot be decoded: {said}", reason="corrupt") from error
    return Probe(duration_s, streams)


def _check_first_bytes(path: str | os.PathLike[str]) -> None:
    with open(path, "rb") as file:  # noqa: PTH123 - any path-like
        head = file.read(12)
    if not (head.startswith(_EBML) or head[4:8] in _ISO_BOXES):
        raise MediaError(f"it begins with {head!r}, which is no video file that is accepted", reason="not_a_video")


def _is_picture(stream: Any) -> bool:
    """A cover picture is a video stream of one frame."""
    import av

    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _duration_s(container: Any, video: Any) -> float:
    import av

    if container.duration:
        return float(container.duration / av.time_base)
    if video.duration:
        return float(video.duration * video.time_base)
    last_s = 0.0  # written while it was streamed, so no header knows: the packets do
    for packet in container.demux(video):
        if packet.pts is not None:
            last_s = max(last_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return last_s


def _check_both_ends(container: Any, video: Any, audio: list[Any], duration_s: float) -> None:
    """The first frame decodes, and so does what follows the last keyframe, up to near the announced end."""
    import av

    video.thread_count = 1
    # the loop filter is for the looks only, and a fifth of the time
    video.codec_context.options = {"skip_loop_filter": "all", "max_pixels": str(_MAX_PIXELS)}
    container.seek(0)
    first = next(container.decode(video), None)
    if first is None:
        raise MediaError("no frame of it can be decoded", reason="corrupt")
    if video.duration:
        watched, end_s = [video], float(((video.start_time or 0) + video.duration) * video.time_base)
    else:  # a matroska has one length for all its streams
        watched, end_s = [video, *audio], (container.start_time or 0) / av.time_base + duration_s
    container.seek(int(end_s / video.time_base), stream=video, backward=True)
    n_packets = n_frames = 0
    last_s = 0.0
    for packet in container.demux(watched):
        if packet.stream is not video:
            last_s = max(last_s, float((packet.pts or 0) * packet.time_base))
            continue
        n_packets += packet.size > 0
        for frame in _decode(packet):
            n_frames += 1
            held_s = float((frame.duration or 0) * video.time_base)  # a card at the end may be one picture for long
            last_s = max(last_s, (frame.time or 0.0) + held_s)
    if last_s < end_s - max(_END_TOLERANCE_S, end_s * _END_TOLERANCE_SHARE) or n_frames * 2 < n_packets:
        raise MediaError(f"it announces {end_s:.1f} s and has {last_s:.1f} s", reason="corrupt")


def _decode(packet: Any) -> list[Any]:
    import av

    try:
        return list(packet.decode())
    except av.InvalidDataError:  # one broken packet is no broken trailer; how many they are is counted
        return []


def _describe(stream: Any) -> Stream:
    context = stream.codec_context
    if stream.type == "video":
        fps = float(stream.average_rate) if stream.average_rate else None
        return Stream(kind="video", codec=context.name, width=context.width, height=context.height, fps=fps)
    return Stream(
        kind="audio", codec=context.name, sample_rate_hz=context.sample_rate or None, n_channels=context.channels
    )
