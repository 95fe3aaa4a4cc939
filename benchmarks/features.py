"""Ten frames and a spectrogram: ours beside the seed recipe, the least that has to be decoded, and other libraries."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.films import FOLDER, SET, find_film
from benchmarks.measure import interleaved, table, wall_seconds
from trailer_ml.features.audio import draw_spectrogram
from trailer_ml.features.container import Deadline, Source, open_media, time_base_of
from trailer_ml.features.extract import Features, _crop_all, extract_features
from trailer_ml.features.pool import extract_many
from trailer_ml.features.sampling import plan_instants
from trailer_ml.features.video import Looked, VideoReader
from trailer_ml.media.ffmpeg import find_ffmpeg
from trailer_ml.processes import keep_freed_memory, run_child
from trailer_ml.settings import FeatureSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from benchmarks.films import Film

EXACT = FeatureSettings()
KEYFRAME = FeatureSettings(sampler="keyframe")
ROUNDS = 3
STAGE_ROUNDS = 5
PEERS = {"opencv": "OpenCV", "decord2": "decord2", "pyav": "PyAV, plain", "torchcodec": "torchcodec"}
PEERS_OFF = 2.0
"""The mean of a picture may be so far from ours: they scale in other ways."""
PEERS_FOLDER = FOLDER.with_name("peers")
PEERS_PYTHON = PEERS_FOLDER / "bin" / "python"
N_FILES = 1000
N_PAIRED = 40
SEED_SEGMENT = ("-ss", "5", "-t", "125")
SEED_CHAIN = "scale=560:-1,crop=224:224:168:45"
SEED_SPECTRUM = "showspectrumpic=s=224x224:legend=0"


def seed_recipe(path: Path) -> None:
    """Two ffmpeg processes that decode the whole segment."""
    segment = [find_ffmpeg(), "-nostdin", "-v", "error", "-y", *SEED_SEGMENT, "-i", str(path)]
    with tempfile.TemporaryDirectory() as folder:
        run_child([*segment, "-r", "1/12", "-vf", SEED_CHAIN, f"{folder}/%03d.png"], timeout_s=600)
        run_child([*segment, "-lavfi", SEED_SPECTRUM, f"{folder}/spectrogram.png"], timeout_s=600)


def floor(path: Path, settings: FeatureSettings) -> None:
    """Demultiplexing, and decoding of the sound and of those frames that the wanted ones are made from."""
    with open_media(path, settings, Deadline(600)) as source:
        source.keep_only(source.video)
        decode_wanted(source, plan_instants(settings, source.duration_s), settings.sampler)
        decode_sound(source, settings)


def decode_sound(source: Source, settings: FeatureSettings) -> None:
    sound = source.audio
    assert sound is not None
    source.keep_only(sound)
    time_base = time_base_of(sound)
    end = math.ceil((settings.start_s + settings.spectrogram_s) / time_base)
    source.container.seek(round(settings.start_s / time_base), stream=sound)
    for packet in source.container.demux(sound):
        if packet.pts is not None and packet.pts >= end:
            break
        sound.codec_context.decode(packet if packet.size else None)


def decode_wanted(source: Source, instants_s: Sequence[float], sampler: str) -> None:
    codec, time_base = source.video.codec_context, time_base_of(source.video)
    early = "DEFAULT" if codec.name == "libdav1d" else "NONREF"
    last = None
    for instant_s in instants_s:
        target = math.ceil((instant_s - 1e-4) / time_base)
        source.container.seek(target, stream=source.video)
        for packet in source.container.demux(source.video):
            if sampler == "keyframe":
                codec.skip_frame = "NONKEY"
                if packet.pts != last:
                    codec.decode(packet) or codec.decode(None)
                last = packet.pts
                break
            codec.skip_frame = early if packet.pts is not None and packet.pts < target else "DEFAULT"
            if any(frame.pts >= target for frame in codec.decode(packet if packet.size else None)):
                break


def pictures_alone(path: Path) -> list[NDArray[np.uint8]]:
    """What a peer does: the frames, and no sound."""
    from av.video.reformatter import VideoReformatter

    from trailer_ml.features.geometry import Box, crop_frame, plan_crop, shape_of

    with open_media(path, EXACT, Deadline(600)) as source:
        reader = VideoReader(source, Deadline(600))
        reformatter, pictures = VideoReformatter(), []
        for grabbed in reader.grab_exact(plan_instants(EXACT, source.duration_s)):
            crop = plan_crop(shape_of(grabbed.frame, 1.0), EXACT.image_size, Box())
            pictures.append(crop_frame(grabbed.frame, crop, EXACT.image_size, reformatter))
        return pictures


def peer_seconds(name: str, path: Path, instants_s: Sequence[float], means: Sequence[float]) -> float:
    """Nan where it is not installed, cannot do it, or shows pictures whose means are not those of ours."""
    script = str(Path(__file__).with_name("peers.py"))
    command = [str(PEERS_PYTHON), script, name, str(path), ",".join(map(str, instants_s))]
    if not PEERS_PYTHON.exists():
        return math.nan
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        return math.nan
    seconds, _, theirs = done.stdout.partition(" ")
    found = json.loads(theirs)
    if len(found) != len(means) or np.abs(np.subtract(found, means)).max() > PEERS_OFF:
        return math.nan
    return float(seconds)


def speed_row(film: Film) -> tuple[list[object], list[float]]:
    path = find_film(film)
    calls: dict[str, Callable[[], object]] = {
        "seed": partial(seed_recipe, path),
        "exact": partial(extract_features, path, EXACT),
        "floor": partial(floor, path, EXACT),
        "keyframe": partial(extract_features, path, KEYFRAME),
        "keyframe's floor": partial(floor, path, KEYFRAME),
    }
    took = interleaved(calls, rounds=ROUNDS, warm_up=False)
    ratios = [took["seed"] / took["exact"], took["seed"] / took["keyframe"],
              took["exact"] / took["floor"], took["keyframe"] / took["keyframe's floor"]]  # fmt: skip
    per_hour = [3600 / took[name] for name in ("exact", "keyframe")]
    row = [film.name, *(f"{took[name]:.2f} s" for name in ("seed", "exact", "keyframe")),
           *(f"{ratio:.1f}×" for ratio in ratios[:2]), *(f"{ratio:.2f}×" for ratio in ratios[2:]),
           *(f"{number:,.0f}" for number in per_hour)]  # fmt: skip
    return row, ratios


def speed() -> str:
    rows, ratios = zip(*(speed_row(film) for film in SET), strict=True)
    means = [math.prod(column) ** (1 / len(column)) for column in zip(*ratios, strict=True)]
    mean_row = ["geometric mean", "", "", "", *(f"{mean:.1f}×" for mean in means[:2]),
                *(f"{mean:.2f}×" for mean in means[2:]), "", ""]  # fmt: skip
    header = ("", "seed recipe", "exact", "keyframe", "exact is", "keyframe is", "exact takes, of its floor",
              "keyframe takes, of its floor", "exact, trailers a core-hour", "keyframe")  # fmt: skip
    return table("Features: CPU seconds for one trailer", header, [*rows, mean_row])


def stages() -> str:
    rows = []
    for film in SET:
        rounds = [stage_seconds(find_film(film)) for _ in range(STAGE_ROUNDS)]
        medians = np.median(rounds, axis=0)
        rows.append([film.name, *(f"{1000 * seconds:.0f} ms" for seconds in medians)])
    header = ("", "opening", "pictures", "sound: decoding", "sound: showspectrumpic", "scaling and cutting")
    return table("Features: where the CPU time of `keyframe` goes", header, rows)


def stage_seconds(path: Path) -> tuple[float, ...]:
    """One trailer step by step; the sound is decoded once more, alone, and the filter is what is left."""
    marks = [time.process_time()]
    with open_media(path, KEYFRAME, Deadline(600)) as source:
        marks.append(time.process_time())
        grabbed = list(VideoReader(source, Deadline(600)).grab_keyframes(plan_instants(KEYFRAME, source.duration_s)))
        marks.append(time.process_time())
        decode_sound(source, KEYFRAME)
        marks.append(time.process_time())
        span = {"start_s": KEYFRAME.start_s, "duration_s": KEYFRAME.spectrogram_s}
        picture = draw_spectrogram(source, "showspectrumpic", **span, size=224, deadline=Deadline(600))
        marks.append(time.process_time())
        _crop_all(Looked(grabbed, 1.0, picture, 0), 224)
        marks.append(time.process_time())
    opening, pictures, decoding, sound, cutting = np.diff(marks).tolist()
    return opening, pictures, decoding, sound - decoding, cutting


def peers() -> str:
    has_torchcodec = any(PEERS_FOLDER.glob("lib/python*/site-packages/torchcodec"))
    names = [name for name in PEERS if has_torchcodec or name != "torchcodec"]
    rows = []
    for film in SET:
        path = find_film(film)
        instants_s = [t for t in EXACT.instants_s if t < film.seconds]
        means = [float(picture.mean()) for picture in pictures_alone(path)]
        ours, theirs = [], {name: [] for name in names}
        for _ in range(ROUNDS):
            ours.append(interleaved({"": partial(pictures_alone, path)}, rounds=1, warm_up=False)[""])
            for name, values in theirs.items():
                values.append(peer_seconds(name, path, instants_s, means))
        best = {name: min(values) for name, values in theirs.items()}
        fastest = min((value for value in best.values() if not math.isnan(value)), default=math.nan)
        shown = ["cannot" if math.isnan(value) else f"{value:.2f} s" for value in best.values()]
        rows.append([film.name, f"{min(ours):.2f} s", *shown, f"{fastest / min(ours):.2f}×"])
    header = ("", "ours", *(PEERS[name] for name in names), "ours, against the fastest")
    return table("Features: the same pictures by others, one thread, without sound", header, rows)


def likeness() -> str:
    rows = []
    for film in SET:
        path = find_film(film)
        features = extract_features(path, EXACT)
        expected, spectrogram = ffmpeg_features(path, features)
        off = np.abs(features.frames.astype(int) - expected).mean(axis=(1, 2, 3)).max()
        correlation = np.corrcoef(features.spectrogram.ravel(), spectrogram.ravel())[0, 1]
        sound_off = np.abs(features.spectrogram.astype(int) - spectrogram).mean()
        rows.append([film.name, f"{off:.2f}", f"{correlation:.5f}", f"{sound_off:.2f}"])
    header = ("", "worst frame: mean difference of 255", "spectrogram: correlation", "mean difference of 255")
    return table("Features: against the pictures of ffmpeg's own program", header, rows)


def ffmpeg_features(path: Path, features: Features) -> tuple[np.ndarray, np.ndarray]:
    """The first frame at or after each instant, found by decoding everything, and the spectrogram."""
    ffmpeg, raw = [find_ffmpeg(), "-nostdin", "-v", "error"], ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    edges = [t - 1e-4 for t in EXACT.instants_s[: len(features.frames)]]
    first_after = "+".join(f"gte(t,{t})*(isnan(prev_selected_t)+lt(prev_selected_t,{t}))" for t in edges)
    chain = f"select='{first_after}',{SEED_CHAIN}"
    command = [*ffmpeg, "-i", str(path), "-vf", chain, "-fps_mode", "passthrough", *raw]
    frames = run_child(command, timeout_s=600).stdout
    # Opus begins 7 ms before 0, which is where -ss counts from in some versions of ffmpeg and not in others.
    command = [*ffmpeg, "-copyts", "-i", str(path), "-lavfi", f"atrim=5:130,{SEED_SPECTRUM}", *raw]
    sound = run_child(command, timeout_s=600).stdout
    return (np.frombuffer(frames, np.uint8).reshape(features.frames.shape),
            np.frombuffer(sound, np.uint8).reshape(features.spectrogram.shape))  # fmt: skip


def many() -> str:
    """Memory of a process over one and over many files, and what a second process adds."""
    short, tall = find_film(SET[0]), find_film(next(film for film in SET if film.height == 1080))
    jobs = {
        "peak of a worker, 1080p exact": (tall, "exact", 3),
        "after 20 files of 360p": (short, "keyframe", 20),
        f"after {N_FILES:,}": (short, "keyframe", N_FILES),
        f"after {2 * N_FILES:,}": (short, "keyframe", 2 * N_FILES),
    }
    rows = []
    for name, (path, sampler, n) in jobs.items():
        child = [sys.executable, "-m", "benchmarks.features", str(path), sampler, str(n)]
        rows.append([name, f"{float(run_child(child, timeout_s=600).stdout):.0f} MB"])
    rows.append([f"two processes, {N_PAIRED} films of 150 s, exact", f"{gain_of_a_second():.2f} × one"])
    return table("Features: many files", ("", "measured"), rows)


def gain_of_a_second() -> float:
    """Wall time of one process over that of two, on idle cores; the films are long, so that starting hardly counts."""
    film = find_film(next(film for film in SET if film.seconds == 150))
    calls = {str(n): partial(extract_all, [film] * N_PAIRED, n) for n in (1, 2)}
    took = interleaved(calls, rounds=ROUNDS, warm_up=False, measure=wall_seconds)
    return took["1"] / took["2"]


def extract_all(paths: Sequence[Path], workers: int) -> None:
    for features in extract_many(paths, EXACT, workers):
        if not isinstance(features, Features):
            raise features


def run() -> str:
    keep_freed_memory()  # as the worker does
    return "\n".join((speed(), stages(), peers(), likeness(), many()))


def show_peak(path: Path, sampler: str, n: int) -> None:
    """How much memory a worker took at most for the same file `n` times."""
    results = extract_many([path] * n, KEYFRAME if sampler == "keyframe" else EXACT)
    for _ in range(n):
        next(results)
    (worker,) = {pid for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()}
    # Not ru_maxrss, which begins with what the starting process had.
    status = Path(f"/proc/{worker}/status").read_text(encoding="ascii")
    print(int(status.split("VmHWM:")[1].split()[0]) / 1000)
    results.close()


if __name__ == "__main__":
    show_peak(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
