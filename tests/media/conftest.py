"""Small real videos, and a loopback server that can do wrong in every way that downloads meet."""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from trailer_ml.media.ffmpeg import find_ffmpeg
from trailer_ml.records import BatchRef, Quarantine, Trailer
from trailer_ml.settings import CatalogSettings, MediaSettings, Settings, as_environment
from trailer_ml.storage import Store, batch_key, catalog_key


def run_ffmpeg(*arguments: object, to: Path) -> Path:
    """Make a file."""
    subprocess.run([find_ffmpeg(), "-nostdin", "-v", "error", "-y", *map(str, arguments), str(to)], check=True)
    return to


PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=12:duration=4")
SOUND = ("-f", "lavfi", "-i", "sine=frequency=330:duration=4")
DOWNLOAD = """
import sys
from trailer_ml.media.download import download_batch
from trailer_ml.records import BatchRef
from trailer_ml.settings import load_settings
from trailer_ml.storage import Store
settings = load_settings()
download_batch(BatchRef.from_path(sys.argv[1]), settings, Store(settings.store))
"""
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "24", "-movflags", "+faststart")


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By name: normal (4 s), silent, audio, webm, long (12 s), ts (HLS with its playlist beside it)."""
    folder = tmp_path_factory.mktemp("videos")
    made = {
        "normal": run_ffmpeg(*PICTURE, *SOUND, *H264, "-c:a", "aac", to=folder / "normal.mp4"),
        "silent": run_ffmpeg(*PICTURE, *H264, to=folder / "silent.mp4"),
        "audio": run_ffmpeg(*SOUND, "-c:a", "aac", to=folder / "audio.mp4"),
        "webm": run_ffmpeg(*PICTURE, *SOUND, "-c:v", "libvpx", "-c:a", "libopus", to=folder / "film.webm"),
        "long": run_ffmpeg(
            "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=12:duration=12", *H264, to=folder / "long.mp4"
        ),
    }
    run_ffmpeg(
        "-i", made["normal"], "-c", "copy", "-f", "hls", "-hls_time", "2", "-hls_playlist_type", "vod",
        to=folder / "list.m3u8",
    )  # fmt: skip
    made["playlist"] = folder / "list.m3u8"
    return made


@pytest.fixture(scope="session", name="run_ffmpeg")
def _run_ffmpeg() -> Callable[..., Path]:
    """Run ffmpeg with these arguments, to a file."""
    return run_ffmpeg


class Handler(BaseHTTPRequestHandler):
    """Asks the site what to do with each request."""

    protocol_version = "HTTP/1.1"
    server: "FaultServer"

    def do_GET(self) -> None:
        site = self.server.site
        site.seen[self.path] += 1
        site.ranges.append((self.path, self.headers.get("Range")))
        answers = site.answers.get(self.path, [send(b"", status=404)])
        answers[min(site.seen[self.path], len(answers)) - 1](self)

    def log_message(self, *args: object) -> None:  # noqa: ARG002
        return


class FaultServer(ThreadingHTTPServer):
    daemon_threads = True
    site: "FaultSite"

    def handle_error(self, *args: object) -> None:  # noqa: ARG002 - clients that were killed are what is tested
        return


Answer = Callable[[Handler], None]


def send(data: bytes, *, status: int = 200, content_type: str = "video/mp4", **headers: str) -> Answer:
    """Answer with all of it, or with the range that was asked for."""

    def answer(handler: Handler) -> None:
        body, code = data, status
        wanted = handler.headers.get("Range")
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        if wanted and status == 200:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            if start >= len(data):
                code, body = 416, b""
                extra["Content-Range"] = f"bytes */{len(data)}"
            else:
                code, body = 206, data[start:]
                extra["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        handler.send_response(code)
        for name, value in {"Content-Type": content_type, "Accept-Ranges": "bytes", **extra}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def send_part(data: bytes, n_bytes: int, *, announce: bool = True, then: Callable[[], None] = lambda: None) -> Answer:
    """Send the first bytes of what was asked for, do something, and hang up."""

    def answer(handler: Handler) -> None:
        start = int((handler.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Type", "video/mp4")
        handler.send_header("Accept-Ranges", "bytes")
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if announce:
            handler.send_header("Content-Length", str(len(data) - start))
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(data[start : start + n_bytes])
        handler.wfile.flush()
        then()
        handler.close_connection = True

    return answer


class FaultSite:
    """What each path answers, one answer after the other, the last for ever; `seen` counts, `ranges` remembers."""

    send = staticmethod(send)
    send_part = staticmethod(send_part)

    def __init__(self, server: FaultServer) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.seen: Counter[str] = Counter()
        self.ranges: list[tuple[str, str | None]] = []
        self.host = f"127.0.0.1:{server.server_port}"
        self.url = f"http://{self.host}"
        self.stopped = threading.Event()

    def put(self, path: str, *answers: Answer) -> str:
        """Set the answers of a path; its URL."""
        self.answers[path] = list(answers)
        return self.url + path

    def stall(self) -> None:
        """Say nothing until the test ends."""
        self.stopped.wait(60)

    def wait_for(self, path: str, process: subprocess.Popen[bytes]) -> None:
        """Until somebody asks for the path."""
        deadline = time.monotonic() + 60
        while not self.seen[path]:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)


@contextmanager
def run_fault_site() -> Iterator[FaultSite]:
    """A server on loopback."""
    server = FaultServer(("127.0.0.1", 0), Handler)
    server.site = FaultSite(server)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.site
    finally:
        server.site.stopped.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def fault_site() -> Iterator[FaultSite]:
    """One for a test."""
    with run_fault_site() as site:
        yield site


@pytest.fixture(scope="module")
def two_sites() -> Iterator[tuple[FaultSite, FaultSite]]:
    """Two for a module."""
    with run_fault_site() as first, run_fault_site() as second:
        yield first, second


@pytest.fixture
def media_settings(settings: Settings, fault_site: FaultSite) -> Settings:
    """Settings that may fetch from the fault server, and lose patience soon."""
    media = MediaSettings(
        turn_every_s={},
        min_free_bytes=0,
        allowed_private_hosts=(fault_site.host,),
        allowed_extractors=("generic", "html5"),
        backoff_s=0.05,
        max_wait_s=3.0,
        attempts=3,
        item_timeout_s=60.0,
    )
    catalog = CatalogSettings(user_agent="test-downloader/1")
    return settings.model_copy(update={"media": media, "catalog": catalog})


def put_batch(store: Store, urls: dict[str, str], day: int) -> BatchRef:
    """Put trailers with these URLs, by id, into the catalog and one batch of a day of November."""
    batch = BatchRef(listed_on=f"2026-11-{day}", number=0)  # type: ignore[arg-type]
    lines = []
    for trailer_id, url in urls.items():
        trailer = Trailer(
            trailer_id=trailer_id, film_id=f"film-{trailer_id}", title="A Title: with / odd * signs", source="imdb",
            source_url=url, listed_on=batch.listed_on,
        )  # fmt: skip
        lines.append(json.dumps(trailer.to_json()))
    store.create_bytes(catalog_key(batch.listed_on), "\n".join(lines).encode())
    store.create_json(batch_key(batch), {"trailer_ids": list(urls)})
    return batch


@pytest.fixture
def make_batch(store: Store) -> Callable[..., BatchRef]:
    """Put trailers with these URLs, by id, into the catalog and one batch."""
    numbers = itertools.count(20)
    return lambda urls: put_batch(store, urls, next(numbers))


@pytest.fixture
def start_download(media_settings: Settings, tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Download a batch in a process of its own that runs some code `first`; its temporary files are in tmp_path."""

    def start(batch: BatchRef, first: str = "") -> subprocess.Popen[bytes]:
        keys = {
            "AWS_ACCESS_KEY_ID": media_settings.store.access_key_id.get_secret_value(),
            "AWS_SECRET_ACCESS_KEY": media_settings.store.secret_access_key.get_secret_value(),
            "TMPDIR": str(tmp_path),
        }
        return subprocess.Popen(
            [sys.executable, "-c", f"{first}\n{DOWNLOAD}", batch.path],
            env={**os.environ, **as_environment(media_settings), **keys},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    return start


@pytest.fixture(scope="session")
def with_media() -> Callable[..., Settings]:
    """Settings with other values of `media`."""
    return lambda settings, **changes: settings.model_copy(update={"media": settings.media.model_copy(update=changes)})


@pytest.fixture(scope="session")
def quarantined() -> Callable[[Store], dict[str, Quarantine]]:
    """What did not come, by id."""

    def read(store: Store) -> dict[str, Quarantine]:
        entries = (Quarantine.model_validate(store.read_json(key)) for key in store.list_keys("quarantine/download/"))
        return {entry.id: entry for entry in entries}

    return read


@pytest.fixture(scope="session", name="put_batch")
def _put_batch() -> Callable[..., BatchRef]:
    return put_batch
