"""Downloads from a server on loopback: against one curl for all of them, and what taking the small format saves."""

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

from benchmarks.measure import table, wall_seconds
from trailer_ml.media.download import download_videos
from trailer_ml.media.fetch import fetch_each
from trailer_ml.media.ffmpeg import find_ffmpeg
from trailer_ml.processes import clean_environment, run_child
from trailer_ml.settings import MediaSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

N, ROUNDS = 12, 3
LINKS = {"50 Mbit/s": 50e6 / 8, "100 Mbit/s": 100e6 / 8, "loopback": None}
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
        for sent in range(0, len(data), CHUNK):
            piece = data[sent : sent + CHUNK]
            if speed:
                time.sleep(max(0.0, start + (sent + len(piece)) / speed - time.perf_counter()))
            self.wfile.write(piece)

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


def ours_s(url: str, folder: Path) -> float:
    """Seconds for all but the first, before which the child process starts."""
    outcomes = fetch_each([(f"film{n}", f"{url}/{n}.mp4") for n in range(N + 1)], folder, settings_for(url))
    next(outcomes)
    start = time.perf_counter()
    if missing := [outcome for outcome in outcomes if outcome.path is None]:
        raise RuntimeError(f"it did not come: {missing}")
    return time.perf_counter() - start


def curl_s(url: str, folder: Path) -> float:
    files = [word for n in range(N) for word in ("-o", str(folder / f"{n}"), f"{url}/{n}.mp4")]
    return wall_seconds(partial(run_child, ["curl", "-s", "--fail", "--noproxy", "*", *files], timeout_s=600))


def throughput(folder: Path) -> list[list[object]]:
    film = make_film(folder / "film.mp4", "360", 30)
    pages = {f"/{n}.mp4": ("video/mp4", film) for n in range(N + 1)}
    rows: list[list[object]] = []
    with serve(pages) as url:
        for link, speed in LINKS.items():
            Handler.bytes_per_s = speed
            pairs = [(curl_s(url, folder), ours_s(url, folder)) for _ in range(ROUNDS)]
            curl, ours = (N * len(film) / min(values) / 1e6 for values in zip(*pairs, strict=True))
            rows.append([f"{N} files of {len(film) / 1e6:.1f} MB, {link}", f"{curl:.1f} MB/s", f"{ours:.1f} MB/s",
                         f"{ours / curl:.0%}"])  # fmt: skip
    Handler.bytes_per_s = None
    return rows


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
        rows = [*throughput(Path(name)), small_format(Path(name))]
    rows[-1][0] = f"{rows[-1][0]}, against yt-dlp's own choice"
    return table(
        "Downloads: against one curl for all of them, the start of the child apart",
        ("", f"curl {curl}", "ours", "ours is"),
        rows,
    )
