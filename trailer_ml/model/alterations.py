"""What happens to a trailer before it is uploaded again: true copies, each changed in one way, made by ffmpeg.

One ffmpeg a trailer decodes it once and writes all copies, small and quick: at most 360 lines, 15 pictures a second.

Does not belong here: what a model makes of them (near_duplicates.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from trailer_ml.features.container import FORMATS, PROTOCOLS, Deadline, open_media
from trailer_ml.media.ffmpeg import find_ffmpeg
from trailer_ml.processes import run_child

if TYPE_CHECKING:
    from pathlib import Path

    from trailer_ml.settings import FeatureSettings

_MAX_LINES = 360
_MAX_FPS = 15
_SPEED = 1.05
_TRIM_S = 3
_CAPTION = "We were never meant to\ncome back here."
_LOGO = "TML"


class Change(NamedTuple):
    """One way to change a trailer; the filters work on a picture that has its final size."""

    picture: str = "null"
    sound: str = "anull"
    quality: int = 28
    """The constant rate factor of x264: 18 cannot be told from the original, 51 is the worst."""
    start_s: float = 0.0
    overlay: str = ""
    """Which picture is laid over it: caption or logo."""


CHANGES = {
    "re-encoded": Change(quality=38),
    "scaled": Change("scale=trunc(iw/4)*2:trunc(ih/4)*2"),
    "cropped": Change("crop=trunc(iw*0.45)*2:trunc(ih*0.45)*2"),
    "letterboxed": Change("pad=iw:trunc(ih*0.66)*2:0:(oh-ih)/2"),
    "captioned": Change(overlay="caption"),
    "logo": Change(overlay="logo"),
    "mirrored": Change("hflip"),
    "recoloured": Change("hue=h=15:s=1.3,eq=brightness=0.05:contrast=1.1"),
    "sped up": Change(f"setpts=PTS/{_SPEED}", f"atempo={_SPEED}"),
    "trimmed": Change(start_s=_TRIM_S),
}
"""Each change by its name, in the order in which they are reported."""


def make_altered_copies(path: Path, folder: Path, settings: FeatureSettings) -> dict[str, Path]:
    """A copy of a trailer for each change.

    Args:
        path: the trailer.
        folder: where the copies go; it is there and empty.
        settings: which ffmpeg, and the wall clock that one look may take: each copy takes as much at most.

    Raises:
        MediaError: the trailer cannot be used.
        ChildFailedError: ffmpeg could not make them.
        ChildTimeoutError: it was not done in time.
    """
    with open_media(path, settings, Deadline(settings.timeout_s)) as source:
        lines = min(_MAX_LINES, int(source.video.codec_context.height)) // 2 * 2
        picture, sound = source.video.index, source.audio.index if source.audio else None
    overlays = {"caption": folder / "caption.png", "logo": folder / "logo.png"}
    _draw_caption(lines).save(overlays["caption"])
    _draw_logo(lines).save(overlays["logo"])
    arguments = [find_ffmpeg(settings.ffmpeg_path), "-nostdin", "-y", "-v", "error", "-filter_complex_threads", "1"]
    arguments += ["-protocol_whitelist", PROTOCOLS, "-format_whitelist", FORMATS, "-i", f"file:{path.absolute()}"]
    for overlay in overlays.values():
        arguments += ["-i", str(overlay)]
    splits = "".join(f"[in{number}]" for number in range(len(CHANGES)))
    graph = [f"[0:{picture}]fps='min(source_fps,{_MAX_FPS})',scale=-2:{lines},setsar=1,split={len(CHANGES)}{splits}"]
    outputs: list[str] = []
    copies = {}
    for number, (name, change) in enumerate(CHANGES.items()):
        graph.append(_picture_chain(number, change, list(overlays)))
        copies[name] = folder / f"{number:02d}.mp4"
        if sound is not None:
            outputs += ["-map", f"0:{sound}", "-af", change.sound, "-c:a", "aac", "-b:a", "64k"]
        outputs += [
            "-map", f"[out{number}]", "-ss", str(change.start_s), "-c:v", "libx264", "-preset", "ultrafast",
            "-crf", str(change.quality), "-pix_fmt", "yuv420p", "-threads", "1", str(copies[name]),
        ]  # fmt: skip
    run_child([*arguments, "-filter_complex", ";".join(graph), *outputs], timeout_s=settings.timeout_s * len(CHANGES))
    return copies


def _picture_chain(number: int, change: Change, overlays: list[str]) -> str:
    if not change.overlay:
        return f"[in{number}]{change.picture}[out{number}]"
    place = "(W-w)/2:H-h-H/20" if change.overlay == "caption" else "W-w-H/25:H/25"
    return f"[in{number}][{1 + overlays.index(change.overlay)}:v]overlay={place}[out{number}]"


def _draw_caption(lines: int) -> Image.Image:
    """Two lines of white letters with a black rim, as subtitles are."""
    font, rim = ImageFont.load_default(lines / 14), max(1, lines // 180)
    measure = ImageDraw.Draw(Image.new("RGBA", (1, 1)))
    _, _, width, height = measure.multiline_textbbox((0, 0), _CAPTION, font=font, stroke_width=rim)
    picture = Image.new("RGBA", (int(width) + 2 * rim, int(height) + 2 * rim))
    ImageDraw.Draw(picture).multiline_text(
        (rim, rim), _CAPTION, "white", font, align="center", stroke_width=rim, stroke_fill="black"
    )
    return picture


def _draw_logo(lines: int) -> Image.Image:
    """A disc with letters, for a corner."""
    side = max(16, lines // 6)
    picture = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((0, 0, side - 1, side - 1), fill=(220, 30, 40, 230))
    draw.text((side / 2, side / 2), _LOGO, "white", ImageFont.load_default(side / 3), anchor="mm")
    return picture
