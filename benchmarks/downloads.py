"""Downloads from a server on loopback, against curl in our process model, and what taking the small format saves.

The model: each item has a child of its own group that may be killed, is asked for twice (a look, then the file), and
lies in a file at the end. curl's child is new for each item; ours is warm, believes nothing before it has looked at the
file, and starts once a batch, which is measured apart. Files of several sizes part what an item costs whatever its
size from what its bytes cost, which is the slope of a line through the quickest of each size.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np

from benchmarks.measure import cpu_seconds, table, wall_seconds
from trailer_ml.media.download import download_videos
from trailer_ml.media.fetch import fetch_each
from trailer_ml.media.ffmpeg import find_ffmpeg
from trailer_ml.media.probe import probe_media
from trailer_ml.processes import clean_environment, run_child
from trailer_ml.settings import MediaSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

N, ROUNDS = 6, 3
LINKS = {"50 Mbit/s": 50e6 / 8, "100 Mbit/s": 100e6 / 8}
PADDING = {"S": 0, "M": 30_000_000, "L": 100_000_000}
"""What the film of each size has behind it: a box that mp4 says nobody reads."""
SLOPE_ROUNDS = 20
SIZES = {"360": (640, 360, "700k"), "720": (1280, 720, "2500k"), "1080": (1920, 1080, "5000k")}
"""Height: width, height and the bit rate that is usual on the web."""
CHUNK = 2**16


class Handler(BaseHTTPRequestHandler):
    """Sends pages, no faster than the link that is played."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    pages: dict[str, tuple[str, bytes]]
    bytes_per_s: float | None = None

    def do_GET(self) -> None:  # noqa: D102 - the name is http.server's
        kind, data = self.pages[urlsplit(self.path).path]
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        start, speed = time.perf_counter(), Handler.bytes_per_s
        if self.command == "HEAD":
            return
        if not speed:
            self.wfile.write(data)
            return
        for sent in range(0, len(data), CHUNK):
            piece = data[sent : sent + CHUNK]
            time.sleep(max(0.0, start + (sent + len(piece)) / speed - time.perf_counter()))
            self.wfile.write(piece)

    do_HEAD = do_GET  # noqa: N815 - nor this one

    def log_message(self, *_: object) -> None:  # noqa: D102 - nor this one
        return


class Server(ThreadingHTTPServer):
    """Says nothing of clients that hang up once they know what it is."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:  # noqa: D102 - socketserver's name
        return


@contextmanager
def serve(pages: dict[str, tuple[str, bytes]]) -> Iterator[str]:
    server = Server(("127.0.0.1", 0), type("Site", (Handler,), {"pages": pages}))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def make_film(path: Path, size: str, seconds: int) -> bytes:
    width, height, rate = SIZES[size]
    picture = f"testsrc2=s={width}x{height}:r=24,noise=alls=8:allf=t,format=yuv420p"
    sound = ("-f", "lavfi", "-i", "sine=220", "-c:a", "aac", "-b:a", "96k")
    video = ("-c:v", "libx264", "-preset", "veryfast", "-b:v", rate, "-maxrate", rate, "-bufsize", rate, "-g", "48")
    ffmpeg = [find_ffmpeg(), "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", picture]
    run_child([*ffmpeg, *sound, *video, "-t", str(seconds), "-movflags", "+faststart", str(path)], timeout_s=600)
    return path.read_bytes()


def settings_for(url: str) -> Settings:
    media = MediaSettings(allowed_extractors=("generic", "html5"), allowed_private_hosts=(urlsplit(url).netloc,))
    return Settings(media=media)


def ours_s(url: str, folder: Path) -> list[float]:
    """Seconds of each film after the first, before which the child process starts."""
    taken = []
    start = time.perf_counter()
    for outcome in fetch_each([(f"film{n}", f"{url}/{n}.mp4") for n in range(N + 1)], folder, settings_for(url)):
        taken.append(time.perf_counter() - start)
        if outcome.path is None:
            raise RuntimeError(f"it did not come: {outcome}")
        outcome.path.unlink()
        start = time.perf_counter()
    return taken[1:]


def curl_s(url: str, folder: Path) -> float:
    """Seconds of one file, in a child of its own: a look, then the file."""
    common = ["-s", "--fail", "--noproxy", "*"]
    command = ["curl", *common, "-I", "-o", "/dev/null", url, "--next", *common, "-o", str(folder / "curl"), url]
    return wall_seconds(partial(run_child, command, timeout_s=600))


def links(folder: Path, film: bytes) -> list[list[object]]:
    """Small films through a link of a usual width: all that an item takes."""
    pages = {f"/{n}.mp4": ("video/mp4", film) for n in range(N + 1)}
    rows: list[list[object]] = []
    with serve(pages) as url:
        for link, speed in LINKS.items():
            Handler.bytes_per_s = speed
            rounds = [
                (sum(curl_s(f"{url}/{n}.mp4", folder) for n in range(N)), sum(ours_s(url, folder)))
                for _ in range(ROUNDS)
            ]
            curl, ours = (N * len(film) / min(values) / 1e6 for values in zip(*rounds, strict=True))
            rows.append([f"{N} films of {len(film) / 1e6:.1f} MB, {link}, all in", f"{curl:.1f} MB/s",
                         f"{ours:.1f} MB/s", f"{ours / curl:.0%}"])  # fmt: skip
    Handler.bytes_per_s = None
    return rows


def padded(film: bytes, n_bytes: int) -> bytes:
    return film + n_bytes.to_bytes(4, "big") + b"free" + bytes(n_bytes - 8) if n_bytes else film


def slope(folder: Path, film: bytes) -> list[list[object]]:
    """What a byte costs, and what an item costs beside its bytes."""
    sizes = {name: len(film) + n_bytes for name, n_bytes in PADDING.items()}
    pages = {f"/{name}.mp4": ("video/mp4", padded(film, n_bytes)) for name, n_bytes in PADDING.items()}
    order = ["S", *(name for _ in range(SLOPE_ROUNDS) for name in sizes)]
    taken: dict[tuple[str, str], list[float]] = {(who, name): [] for who in ("curl", "ours") for name in sizes}
    with serve(pages) as url:
        items = [(f"film{number}", f"{url}/{name}.mp4") for number, name in enumerate(order)]
        outcomes = fetch_each(items, folder, settings_for(url))
        for number, name in enumerate(order):
            start = time.perf_counter()
            outcome = next(outcomes)
            seconds = time.perf_counter() - start
            if outcome.path is None or outcome.path.stat().st_size != sizes[name]:
                raise RuntimeError(f"it did not come: {outcome}")
            outcome.path.unlink()
            if number == 0:
                start_s = seconds
            else:
                taken["ours", name].append(seconds)
                taken["curl", name].append(curl_s(f"{url}/{name}.mp4", folder))
    quickest = {key: min(values) for key, values in taken.items()}
    curl, ours = (
        np.polyfit(list(sizes.values()), [quickest[who, name] for name in sizes], 1)[0] for who in ("curl", "ours")
    )
    curl_item_s, ours_item_s = (
        quickest[who, "S"] - sizes["S"] * a_byte_s for who, a_byte_s in (("curl", curl), ("ours", ours))
    )
    many = ", ".join(f"{size / 1e6:.0f}" for size in sizes.values())
    return [
        [f"the bytes: slope over films of {many} MB", f"{1e-6 / curl:.0f} MB/s", f"{1e-6 / ours:.0f} MB/s",
         f"{curl / ours:.0%}"],
        ["a film of 3 MB beside its bytes", f"{curl_item_s * 1e3:.0f} ms", f"{ours_item_s * 1e3:.0f} ms",
         f"{(ours_item_s - curl_item_s) * 1e3:+.0f} ms"],
        ["of that, CPU time of the look at the file", "", f"{probe_s(folder, film) * 1e3:.0f} ms", ""],
        ["the start of the child, once a batch", "", f"{start_s - min(taken['ours', 'S']):.1f} s", ""],
    ]  # fmt: skip


def probe_s(folder: Path, film: bytes) -> float:
    path = folder / "probed.mp4"
    path.write_bytes(film)
    return min(cpu_seconds(partial(probe_media, path, MediaSettings())) for _ in range(5))


def small_format(folder: Path) -> list[object]:
    films = {size: make_film(folder / f"{size}.mp4", size, 20) for size in SIZES}
    sources = "".join(f'<source src="{size}.mp4" type="video/mp4" label="{size}p">' for size in films)
    page = f"<!doctype html><html><body><video>{sources}</video></body></html>".encode()
    pages = {"/film": ("text/html", page)} | {f"/{size}.mp4": ("video/mp4", data) for size, data in films.items()}
    with serve(pages) as url:
        (ours,) = download_videos([("ours", f"{url}/film")], folder, settings_for(url))
        theirs = folder / "theirs.mp4"
        command = [sys.executable, "-m", "yt_dlp", "--quiet", "--proxy", "", "-o", str(theirs), f"{url}/film"]
        run_child(command, timeout_s=600, env=clean_environment())
    if ours.path is None:
        raise RuntimeError(f"it did not come: {ours}")
    sizes = [path.stat().st_size for path in (theirs, ours.path)]
    return [f"a page with {', '.join(films)} lines", *(f"{size / 1e6:.1f} MB" for size in sizes),
            f"{1 - sizes[1] / sizes[0]:.0%} less"]  # fmt: skip


def run() -> str:
    curl = run_child(["curl", "--version"], timeout_s=60).stdout.decode().split()[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film = make_film(folder / "film.mp4", "360", 30)
        rows = [*slope(folder, film), *links(folder, film), small_format(folder)]
    rows[-1][0] = f"{rows[-1][0]}, against yt-dlp's own choice"
    return table(
        "Downloads from loopback: against curl in a child of its own for each file",
        ("", f"curl {curl}", "ours", "ours is"),
        rows,
    )
