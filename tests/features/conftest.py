"""Small films that ffmpeg makes, each by the arguments it is asked for, once a session."""

import functools
import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
Make = Callable[..., Path]
Rgb = Callable[..., np.ndarray]

PICTURE = "testsrc2=s={size}:r=25,hue=H=2*PI*t/9"
SOUND = "aevalsrc=0.4*sin(2*PI*t*(300+80*t))+0.1*random(0)|0.3*sin(2*PI*660*t):s=44100"


def run_ffmpeg(*arguments: object) -> bytes:
    command = [FFMPEG, "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, timeout=120).stdout


@pytest.fixture(scope="session")
def ffmpeg() -> Callable[..., bytes]:
    return run_ffmpeg


@pytest.fixture
def remux(tmp_path: Path) -> Callable[..., Path]:
    """The same streams in another container."""

    def copy(path: Path, name: str) -> Path:
        run_ffmpeg("-i", path, "-c", "copy", tmp_path / name)
        return tmp_path / name

    return copy


@pytest.fixture(scope="session")
def make_video(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """`make_video(size, seconds, sound=True, video=(...), name="x.mp4")`: a clip, made once."""
    folder = tmp_path_factory.mktemp("videos")

    def make(
        size: str = "320x180",
        seconds: float = 27,
        *,
        sound: bool = True,
        video: tuple[object, ...] = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "60"),
        filters: str = "null",
        name: str = "clip.mp4",
    ) -> Path:
        key = hashlib.sha256(repr((size, seconds, sound, video, filters)).encode()).hexdigest()[:12]
        path = folder / key / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            # Noise substitution makes up its noise anew in each decoder.
            codec = ("-c:a", "libopus") if name.endswith(".webm") else ("-c:a", "aac", "-aac_pns", "0")
            audio = ("-f", "lavfi", "-i", SOUND, *codec) if sound else ()
            inputs = ("-f", "lavfi", "-i", f"{PICTURE.format(size=size)},{filters}", *audio[:4])
            run_ffmpeg(*inputs, "-t", seconds, "-pix_fmt", "yuv420p", *video, *audio[4:], path)
        return path

    return make


@pytest.fixture(scope="session")
def ffmpeg_frames() -> Rgb:
    """What ffmpeg shows first at or after each instant, decoding everything: (n, size, size, 3) uint8."""

    @functools.cache
    def show(path: Path, instants_s: tuple[float, ...], chain: str, size: int = 224) -> np.ndarray:
        edges = [t - 1e-4 for t in instants_s]
        first_after = "+".join(f"gte(t,{t})*(isnan(prev_selected_t)+lt(prev_selected_t,{t}))" for t in edges)
        raw = run_ffmpeg(
            "-i", path, "-vf", f"select='{first_after}',{chain}", "-fps_mode", "passthrough",
            "-f", "rawvideo", "-pix_fmt", "rgb24", "-",
        )  # fmt: skip
        return np.frombuffer(raw, np.uint8).reshape(-1, size, size, 3)

    return show


@pytest.fixture(scope="session")
def ffmpeg_spectrogram() -> Rgb:
    """The picture of the sound that ffmpeg's own program draws: (size, size, 3) uint8."""

    def draw(path: Path, start_s: float, duration_s: float, size: int = 224) -> np.ndarray:
        raw = run_ffmpeg(
            "-ss", start_s, "-t", duration_s, "-i", path, "-lavfi", f"showspectrumpic=s={size}x{size}:legend=disabled",
            "-f", "rawvideo", "-pix_fmt", "rgb24", "-",
        )  # fmt: skip
        return np.frombuffer(raw, np.uint8).reshape(size, size, 3)

    return draw
