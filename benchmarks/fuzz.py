"""Files made to hurt: a thousand seeded mutations of good films, and what the extracting process says of each.

`strace`, where it is installed, tells which files and addresses the processes touched; a film of the name `canary` is
what the disguised playlists point at, and nobody may open it.
"""

from __future__ import annotations

import logging
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from benchmarks.measure import table
from trailer_ml.errors import MediaError
from trailer_ml.features.extract import extract_features
from trailer_ml.features.pool import extract_many
from trailer_ml.media.ffmpeg import find_ffmpeg
from trailer_ml.media.probe import probe_media
from trailer_ml.media.remux import remux
from trailer_ml.processes import run_child
from trailer_ml.settings import FeatureSettings, MediaSettings

N_FILES = 1000
SETTINGS = FeatureSettings(start_s=0.5, interval_s=0.5, n_frames=4, spectrogram_s=2.0, timeout_s=10.0)
LOOKS = (
    SETTINGS,
    SETTINGS.model_copy(update={"sampler": "keyframe"}),
    SETTINGS.model_copy(update={"sampler": "scene", "spectrogram": "log_mel"}),
    SETTINGS.model_copy(update={"engine": "ffmpeg"}),
)
"""The files take turns, and no kind is always looked at in the same way."""
STRANGE = 20
"""So far a kept picture may be from those of the good film; a grey one is a hundred."""
CANARY = "canary.mp4"
SHOWN = "shown.mp4"
"""The same film, which may be opened: what pictures that are kept are compared with."""
FILMS = {
    "a.mp4": ["-c:v", "libx264", "-preset", "ultrafast", "-g", "12", "-c:a", "aac"],
    "b.mp4": ["-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-c:a", "aac", "-movflags", "+faststart"],
    "c.webm": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"],
    "d.mkv": ["-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"],
    "e.ts": ["-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"],
    "f.flv": ["-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-ar", "44100"],
}
PLAYLISTS = (
    "#EXTM3U\n#EXT-X-TARGETDURATION:30\n#EXTINF:3,\nfile://{canary}\n#EXT-X-ENDLIST\n",
    '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="file://{canary}"\n#EXTINF:3,\n{canary}\n#EXT-X-ENDLIST\n',
    "ffconcat version 1.0\nfile {canary}\n",
    "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><BaseURL>{canary}</BaseURL></Period></MPD>',
    "[playlist]\nFile1=file://{canary}\n",
)


def make_films(folder: Path) -> list[bytes]:
    """Small good films, one a container, and the canary beside them."""
    ffmpeg = [find_ffmpeg(None), "-nostdin", "-v", "error", "-y"]
    inputs = ["-f", "lavfi", "-i", "testsrc2=s=160x90:r=12", "-f", "lavfi", "-i", "sine=330"]
    for name, codecs in {**FILMS, CANARY: FILMS["a.mp4"]}.items():
        run_child([*ffmpeg, *inputs, "-t", "3", "-pix_fmt", "yuv420p", *codecs, str(folder / name)], timeout_s=60)
    return [(folder / name).read_bytes() for name in FILMS]


def mutate(kind: str, films: list[bytes], dice: random.Random, canary: Path) -> bytes:
    """One file of a kind of `KINDS`."""
    data = bytearray(dice.choice(films))
    if kind == "flipped":
        for _ in range(dice.choice([1, 8, 64, 512])):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    elif kind == "cut":
        start = dice.choice([0, 0, dice.randrange(len(data))])
        del data[dice.randrange(start, len(data)) :]
        del data[:start]
    elif kind == "spliced":
        other = dice.choice(films)
        start, length = dice.randrange(len(other)), dice.randrange(1, 8192)
        at = dice.randrange(len(data))
        data[at : at + dice.choice([0, length])] = other[start : start + length]
    elif kind == "forged":
        _forge(data, dice)
    else:
        text = dice.choice(PLAYLISTS).format(canary=canary).encode()
        data = bytearray(dice.choice([b"", b"\xef\xbb\xbf", bytes(data[: dice.choice([0, 32])])]) + text)
    return bytes(data)


KINDS = ("flipped", "cut", "spliced", "forged", "playlist")


def _forge(data: bytearray, dice: random.Random) -> None:
    """Numbers that no honest header has, at and after the names of boxes, else somewhere at the start."""
    boxes = [
        found.end() for found in re.finditer(rb"stsz|stco|stts|stsc|ctts|mdhd|mvhd|tkhd|elst|avc1|stsd|moov", data)
    ]
    for _ in range(dice.choice([1, 2, 6])):
        at = dice.choice(boxes) + dice.choice([-8, 0, 4, 8, 12, 16, 24]) if boxes else dice.randrange(600)
        number = dice.choice([0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF0000, dice.getrandbits(32)])
        if 0 <= at <= len(data) - 4:
            struct.pack_into(">I", data, at, number)


def write_mutants(folder: Path, n: int, seed: int) -> list[Path]:
    """`n` mutated files, the same ones for the same seed; every kind as often."""
    (folder / "good").mkdir()
    films = make_films(folder / "good")
    shutil.copy(folder / "good" / CANARY, folder / SHOWN)
    paths = []
    for i in range(n):
        path = folder / f"{i:04d}-{KINDS[i % len(KINDS)]}.mp4"
        path.write_bytes(mutate(KINDS[i % len(KINDS)], films, random.Random(f"{seed}-{i}"), folder / "good" / CANARY))
        paths.append(path)
    return paths


class Outcome(NamedTuple):
    """What became of a file."""

    path: Path
    reason: str
    """`kept`, or why not."""
    seconds: float
    """Since the one before it was done."""
    seen_as: str = ""
    """Engine and codec."""
    off: float = 0.0
    """Mean difference, of 255, of the kept picture that is least like any of the good film."""


def extract_all(paths: list[Path]) -> list[Outcome]:
    """Look at each file in its way, in order."""
    film = show_film(paths[0].with_name(SHOWN))
    outcomes: dict[Path, Outcome] = {}
    for number, look in enumerate(LOOKS):
        since, turn = time.monotonic(), paths[number :: len(LOOKS)]
        for path, result in zip(turn, extract_many(turn, look), strict=True):
            now = time.monotonic()
            if isinstance(result, MediaError):
                outcomes[path] = Outcome(path, result.reason, now - since)
            else:
                with av.open(path, metadata_errors="replace") as container:
                    codec = container.streams.video[0].codec_context.name
                seen_as = f"{result.extractor_version.partition('-')[0]} {codec}"
                outcomes[path] = Outcome(path, "kept", now - since, seen_as, how_far_off(result.frames, film))
            since = now
    return [outcomes[path] for path in paths]


def show_film(path: Path) -> np.ndarray:
    """(n, 224, 224, 3) uint8: every picture of the good films, which all show the same."""
    every = SETTINGS.model_copy(update={"start_s": 0.0, "interval_s": 1 / 12, "n_frames": 36})
    return extract_features(path, every).frames


def how_far_off(frames: np.ndarray, film: np.ndarray) -> float:
    """Timestamps may be forged, so each may be any of the film; looked at coarsely."""
    small = film[:, ::4, ::4].astype(np.int16)
    return max(float(np.abs(small - frame[::4, ::4]).mean(axis=(1, 2, 3)).min()) for frame in frames)


def put_together(path: Path) -> str:
    """What the looks and the remux of a download say of it."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            probe_media(path, MediaSettings(min_duration_s=0.1))
            remux([path], Path(folder, "one.mp4"))
        except MediaError as error:
            return error.reason
    return "kept"


def touched_besides(trace: str, folder: Path) -> list[str]:
    """The lines of a trace that open one of the good films, the canary among them, or reach for an address."""
    opened = re.compile(rf'open(?:at)?\([^"]*"{re.escape(str(folder))}/good/')
    return [line for line in trace.splitlines() if opened.search(line) or "sa_family=AF_INET" in line]


def run() -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_mutants(folder, N_FILES, seed=7)
        trace = folder / "trace.txt"
        command = [sys.executable, "-m", "benchmarks.fuzz", *map(str, paths)]
        if strace := shutil.which("strace"):
            command[:0] = [strace, "-f", "--seccomp-bpf", "-qq", "-e", "trace=openat,open,connect", "-o", str(trace)]
        said = subprocess.run(command, check=True, capture_output=True, text=True)
        lines = [line.split("\t") for line in said.stdout.splitlines()]
        outcomes = [
            Outcome(Path(path), reason, float(s), seen_as, float(off)) for path, reason, s, seen_as, off, _ in lines
        ]
        counts = Counter((outcome.path.stem.partition("-")[2], outcome.reason) for outcome in outcomes)
        reasons = sorted({reason for _, reason in counts})
        rows: list[list[object]] = [[kind, *(counts[kind, reason] for reason in reasons)] for kind in KINDS]
        touched = touched_besides(trace.read_text(errors="replace"), folder) if strace else None
        looked = "not looked for: no strace" if touched is None else f"{len(touched)}"
    worst = max(outcome.seconds for outcome in outcomes)
    said_of = ", ".join(f"{n} {reason}" for reason, n in Counter(last for *_, last in lines).most_common())
    seen = Counter(outcome.seen_as for outcome in outcomes if outcome.seen_as)
    strange = Counter(outcome.seen_as for outcome in outcomes if outcome.off > STRANGE)
    return table(f"{N_FILES:,} mutated files: what became of them", ["", *reasons], rows) + (
        f"\nOf six small films, 3 s each, with a budget of {SETTINGS.timeout_s:g} s a file; the slowest took "
        f"{worst:.1f} s. Sampler, spectrogram and engine change from file to file.\n"
        f"Kept with a picture that is more than {STRANGE} of 255 from any of the film: "
        f"{', '.join(f'{strange[seen_as]} of {n} ({seen_as})' for seen_as, n in sorted(seen.items()))}.\n"
        f"What the looks and the remux of a download say: {said_of}.\n"
        f"Other films opened, or addresses reached for: {looked}. "
        f"Tried once more: {said.stderr.count('tried once more')}.\n"
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)  # on stderr: what was tried once more
    for outcome in extract_all([Path(argument) for argument in sys.argv[1:]]):
        shown = f"{outcome.seconds:.3f}", outcome.seen_as, f"{outcome.off:.1f}"
        print(outcome.path, outcome.reason, *shown, put_together(outcome.path), sep="\t")
