"""Ten frames and a spectrogram: ours against the seed recipe (two ffmpeg processes that decode the whole segment)."""

from __future__ import annotations

import math
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.measure import interleaved, table
from trailer_ml.features.extract import extract_features
from trailer_ml.media.ffmpeg import find_ffmpeg
from trailer_ml.processes import run_child
from trailer_ml.settings import FeatureSettings

SIZES = {"360p H.264": (640, 360), "720p H.264": (1280, 720)}
SECONDS = 150


def make_video(path: Path, width: int, height: int) -> None:
    """Hard cuts between moving pictures with grain, keyframes every 2-5 s, two voices of sound."""
    size = f"s={width}x{height}:r=24"
    shots = [
        f"testsrc2={size}:d=11",
        f"mandelbrot={size}",
        f"life={size}:mold=10:ratio=0.3",
        f"gradients={size}:speed=0.05",
    ]
    inputs = [argument for shot in shots for argument in ("-f", "lavfi", "-t", "10", "-i", shot)]
    graph = "".join(f"[{i}:v]noise=alls=12:allf=t,format=yuv420p,setsar=1[v{i}];" for i in range(len(shots)))
    graph += "".join(f"[v{i}]" for i in range(len(shots))) + f"concat=n={len(shots)}:v=1,loop=-1:960[v]"
    sound = ["-f", "lavfi", "-i", "aevalsrc=sin(440*t*t/9)|random(0)/4:s=44100"]
    encode = ["-c:v", "libx264", "-preset", "veryfast", "-g", "120", "-keyint_min", "48", "-c:a", "aac"]
    select = ["-filter_complex", graph, "-map", "[v]", "-map", f"{len(shots)}:a", "-t", str(SECONDS)]
    ffmpeg = [find_ffmpeg(None), "-nostdin", "-v", "error", "-y"]
    run_child([*ffmpeg, *inputs, *sound, *select, *encode, "-movflags", "+faststart", str(path)], timeout_s=600)


def seed_recipe(path: Path) -> None:
    segment = [find_ffmpeg(None), "-nostdin", "-v", "error", "-y", "-ss", "5", "-t", "125", "-i", str(path)]
    with tempfile.TemporaryDirectory() as folder:
        run_child(
            [*segment, "-r", "1/12", "-vf", "scale=560:-2,crop=224:224:168:45", f"{folder}/%03d.png"], timeout_s=300
        )
        run_child(
            [*segment, "-lavfi", "showspectrumpic=s=224x224:legend=0", f"{folder}/spectrogram.png"], timeout_s=300
        )


def run() -> str:
    exact, keyframe = FeatureSettings(), FeatureSettings(sampler="keyframe")
    rows: list[list[object]] = []
    ratios: dict[str, list[float]] = {"exact": [], "keyframe": []}
    with tempfile.TemporaryDirectory() as folder:
        for name, (width, height) in SIZES.items():
            path = Path(folder, f"{height}.mp4")
            make_video(path, width, height)
            seconds = interleaved(
                {
                    "seed": partial(seed_recipe, path),
                    "exact": partial(extract_features, path, exact),
                    "keyframe": partial(extract_features, path, keyframe),
                },
                rounds=1,
            )
            for ours, values in ratios.items():
                values.append(seconds["seed"] / seconds[ours])
            rows.append([name, *(f"{seconds[n]:.2f} s" for n in ("seed", "exact", "keyframe")),
                         *(f"{values[-1]:.1f}×" for values in ratios.values())])  # fmt: skip
    means = [f"{math.prod(values) ** (1 / len(values)):.1f}×" for values in ratios.values()]
    rows.append(["geometric mean", "", "", "", *means])
    header = ("150 s of", "seed recipe", "exact", "keyframe", "exact is", "keyframe is")
    return table("Features: CPU seconds for one trailer", header, rows)
