"""Films that are as hard to decode and to encode as trailers: made once, and kept in .cache/bench-features.

A shot is a picture of dead leaves (opaque blobs of all sizes with texture, whose edges and spectrum are those of
photographs) under a moving camera, with something that moves before it; hard cuts every 1 to 5 s, black, and grain.
Bit rates, B-frames and keyframes every 2 to 5 s are as usual on the web.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from trailer_ml.media.ffmpeg import find_ffmpeg
from trailer_ml.processes import run_child

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).resolve().parents[1] / ".cache" / "bench-features"
FPS = 24
_N_PICTURES = 10
_SOUND = "aevalsrc=0.3*sin(440*t*t/9)*gt(mod(t\\,3)\\,1)+0.1*random(0)*gt(mod(t\\,7)\\,2)|0.3*sin(200*t):s={rate}"
_OPTIONS = {
    "H.264": ("libx264", ".mp4", {"preset": "veryfast", "forced-idr": "1", "keyint_min": str(2 * FPS)}),
    "VP9": ("libvpx-vp9", ".webm", {"deadline": "realtime", "cpu-used": "8", "row-mt": "1"}),
    "AV1": ("libsvtav1", ".mp4", {"preset": "10"}),
}
_KEYFRAMES_S = 2, 5
"""No keyframe sooner, then at the next cut, and no later."""


class Film(NamedTuple):
    """One of the set."""

    height: int
    codec: str
    seconds: int
    kilobits: int

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.height}p {self.codec}, {self.seconds} s"


SET = (
    Film(360, "H.264", 30, 600),
    Film(360, "H.264", 150, 600),
    Film(360, "H.264", 240, 600),
    Film(720, "H.264", 150, 2000),
    Film(1080, "H.264", 60, 4000),
    Film(720, "VP9", 90, 1500),
    Film(720, "AV1", 60, 1200),
)


def find_film(film: Film) -> Path:
    """The file of it, made if it is not there yet."""
    codec, suffix, options = _OPTIONS[film.codec]
    path = FOLDER / f"{film.height}p-{film.codec}-{film.seconds}s{suffix}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = path.with_name(f"picture-{path.name}")
        _encode(film, picture, codec, options)
        sound = ("-c:a", "libopus") if suffix == ".webm" else ("-c:a", "aac", "-b:a", "128k")
        rate = 48000 if suffix == ".webm" else 44100
        inputs = ["-i", str(picture), "-f", "lavfi", "-i", _SOUND.format(rate=rate)]
        whole = path.with_name(f"whole-{path.name}")
        ffmpeg = [find_ffmpeg(), "-nostdin", "-v", "error", "-y", *inputs, "-c:v", "copy", *sound]
        run_child([*ffmpeg, "-t", str(film.seconds), "-movflags", "+faststart", str(whole)], timeout_s=600)
        picture.unlink()
        whole.replace(path)
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # SVT-AV1 makes root's process a real-time one
    return path


def _encode(film: Film, path: Path, codec: str, options: dict[str, str]) -> None:
    height, width = film.height, film.height * 16 // 9
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", film.kilobits * 1000
        stream.codec_context.gop_size = _KEYFRAMES_S[1] * FPS
        graph = av.filter.Graph()
        source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=Fraction(1, FPS))
        sink = graph.add("buffersink")
        yuv, grain = graph.add("format", "yuv420p"), graph.add("noise", "alls=6:allf=t")
        graph.link_nodes(source, yuv, grain, sink).configure()
        since_keyframe = 0
        for number, (pixels, is_cut) in enumerate(draw_frames(width, height, film.seconds * FPS)):
            source.push(av.VideoFrame.from_ndarray(pixels, format="rgb24"))
            frame = sink.pull()
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            if is_cut and since_keyframe >= _KEYFRAMES_S[0] * FPS:
                frame.pict_type, since_keyframe = av.video.frame.PictureType.I, 0
            since_keyframe += 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def draw_frames(width: int, height: int, n: int) -> Iterator[tuple[np.ndarray, bool]]:
    """`n` pictures without grain, (height, width, 3) uint8, RGB, and whether a shot begins with it."""
    rng = np.random.default_rng(height)
    pictures = [draw_leaves(rng, width * 5 // 4, height * 5 // 4) for _ in range(_N_PICTURES)]
    mask = _draw_mask(height // 2)
    left = 0
    for _ in range(n):
        is_cut = left == 0
        if is_cut:
            left = n_shot = int(rng.integers(FPS, 5 * FPS))
            far, near = (pictures[i][..., rng.permutation(3)] for i in rng.choice(_N_PICTURES, 2, replace=False))
            corners = rng.uniform(0, 0.2, (4, 2)) * (height, width)
            is_black = rng.random() < 0.04
        share = 1 - left / n_shot
        left -= 1
        y, x = (corners[0] + (corners[1] - corners[0]) * share).astype(int)
        pixels = far[y : y + height, x : x + width].copy()
        y, x = (corners[2] * 2.5 + (corners[3] - corners[2]) * 2.5 * share).astype(int)
        behind = pixels[y : y + len(mask), x : x + len(mask)]
        behind[:] = (behind + mask * (near[: len(mask), : len(mask)].astype(np.float32) - behind)).astype(np.uint8)
        yield pixels // 16 if is_black else pixels, is_cut


def draw_leaves(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A picture with the edges and the spectrum of a photograph: (height, width, 3) uint8, RGB."""
    picture = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(picture)
    smallest, largest = height / 60, height / 1.5
    for _ in range(1500):
        # As many leaves of a size as cover the same area at every size.
        radius = 1 / np.sqrt(rng.uniform(largest**-2, smallest**-2))
        x, y, stretch = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.5, 2)
        grey, tint = rng.uniform(5, 200), rng.normal(0, 20, 3)
        colour = tuple(int(value) for value in np.clip(grey + tint, 0, 255))
        draw.ellipse((x - radius * stretch, y - radius, x + radius * stretch, y + radius), fill=colour)
    soft = np.asarray(picture.filter(ImageFilter.GaussianBlur(height / rng.uniform(80, 700))), np.float32)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]) + 1 / width
    noise = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(height, width))) / frequency, s=(height, width))
    texture = 1 + 0.08 * noise / noise.std()
    return np.clip(soft * texture[..., None], 0, 255).astype(np.uint8)


def _draw_mask(size: int) -> np.ndarray:
    """(size, size, 1) float32: a soft ellipse."""
    mask = Image.new("L", (size, size))
    ImageDraw.Draw(mask).ellipse((size // 6, size // 20, size - size // 6, size - size // 20), fill=255)
    return np.asarray(mask.filter(ImageFilter.GaussianBlur(size / 100)), np.float32)[..., None] / 255


if __name__ == "__main__":
    for each in SET:
        find_film(each)
