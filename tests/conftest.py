"""What every test shares: a real SeaweedFS for the session, and for each test a store of its own in it."""

import contextlib
import datetime as dt
import http.server
import io
import itertools
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from trailer_ml.demo.services import run_seaweedfs
from trailer_ml.embeddings.stored import write_vectors
from trailer_ml.media.ffmpeg import find_ffmpeg
from trailer_ml.records import BatchRef, EmbeddedTrailer, Evaluation, ShardManifest, Trailer
from trailer_ml.settings import (
    FeatureSettings,
    IndexSettings,
    ModelSettings,
    Settings,
    SourcesSettings,
    StoreSettings,
)
from trailer_ml.storage import (
    CHAMPION_KEY,
    Store,
    batch_key,
    catalog_key,
    model_key,
    sha256_of,
    shard_key,
    shard_manifest_key,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_numbers = itertools.count()

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # So a shell starts what runs in the background, and the programs that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _loopback_only(socket_enabled: None) -> None:  # real limits are set in pytest_runtest_setup
    return


def pytest_runtest_setup() -> None:
    from pytest_socket import socket_allow_hosts

    socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """Nothing that is set on this machine names a real site, store or account to a test or to a child of one.

    For the whole session, so that it comes before what other fixtures of the session start.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("TRAILER_", "AWS_", "AIRFLOW_CONN_"))]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def store_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreSettings]:
    """A SeaweedFS that runs as long as the tests do."""
    with run_seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as settings:
        yield settings


@pytest.fixture
def settings(store_settings: StoreSettings, tmp_path: Path) -> Settings:
    """Default settings, with a part of the session's store and folders for copies that no other test sees."""
    return Settings(
        store=store_settings.model_copy(update={"prefix": f"test-{next(_numbers)}/"}),
        sources=SourcesSettings(cache_folder=tmp_path / "catalog-cache"),
        model=ModelSettings(cache_folder=tmp_path / "model-cache"),
        index=IndexSettings(cache_folder=tmp_path / "index-cache"),
    )


@pytest.fixture
def store(settings: Settings) -> Store:
    """An empty store."""
    return Store(settings.store)


class Canary:
    """A server on loopback that must not be called: it counts who connects, whatever they say."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        self.n_connections = 0
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.n_connections += 1
            connection.close()

    def close(self) -> None:
        """Nobody connects any more."""
        self._socket.close()


@pytest.fixture
def canary() -> Iterator[Canary]:
    """One for a test."""
    made = Canary()
    yield made
    made.close()


GENRES = ("Action", "Comedy", "Drama", "Horror", "Romance", "Western")
DAY = dt.date(2026, 11, 20)


@pytest.fixture
def put_embedded(store: Store) -> Callable[..., list[Trailer]]:
    """Puts trailers with given vectors into the store, as crawl, shards and embeddings of a champion leave them."""

    def put(
        vectors: np.ndarray,
        trailers: Sequence[Trailer] | None = None,
        *,
        day: dt.date = DAY,
        model: str = "m-1",
        batch_size: int = 64,
        video_dim: int | None = None,
    ) -> list[Trailer]:
        kept = list(trailers or (make_trailer(number, day) for number in range(len(vectors))))
        lines = "".join(f"{trailer.model_dump_json()}\n" for trailer in kept)
        store.put_bytes(catalog_key(day), lines.encode())
        for number, start in enumerate(range(0, len(kept), batch_size)):
            batch = BatchRef(listed_on=day, number=number)
            some = slice(start, start + batch_size)
            store.create_json(batch_key(batch), {"trailer_ids": [trailer.trailer_id for trailer in kept[some]]})
            store.create_json(shard_manifest_key(batch), _shard(batch, kept[some]).to_json())
            write_vectors(
                store,
                batch,
                np.asarray(vectors[some], dtype=np.float32),
                [
                    EmbeddedTrailer(**trailer.model_dump(include=set(EmbeddedTrailer.model_fields)))
                    for trailer in kept[some]
                ],
                model_version=model,
                video_dim=video_dim or vectors.shape[1] // 2,
                shard_sha256="0" * 64,
            )
        store.swap_pointer(CHAMPION_KEY, {"version": model}, store.read_pointer(CHAMPION_KEY))
        return kept

    return put


def make_trailer(number: int, day: dt.date = DAY, **facts: object) -> Trailer:
    """A trailer of a film of its own; ids sort as numbers do."""
    known: dict[str, object] = {
        "trailer_id": f"imdb-vi{number:07d}",
        "film_id": f"imdb-tt{number:07d}",
        "title": f"Film {number}",
        "genres": (GENRES[number % len(GENRES)],),
        "year": 2000 + number % 26,
        "source": "imdb",
        "source_url": f"http://127.0.0.1/video/vi{number}",
        "listed_on": day,
    }
    return Trailer.model_validate(known | facts)


@pytest.fixture(name="make_trailer")
def _make_trailer() -> Callable[..., Trailer]:
    return make_trailer


@pytest.fixture
def make_vectors() -> Callable[..., np.ndarray]:
    """Makes (n, dim) float32 unit rows in clusters; both halves of a row are equally long, as the towers leave them."""

    def make(n: int, dim: int = 16, *, n_clusters: int = 6, spread: float = 0.4, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(n_clusters, dim))
        rows = centres[np.arange(n) % n_clusters] + spread * rng.normal(size=(n, dim))
        halves = rows.reshape(n, 2, dim // 2)
        halves /= np.linalg.norm(halves, axis=2, keepdims=True) * np.sqrt(2)
        return halves.reshape(n, dim).astype(np.float32)

    return make


SMALL_VIEW = FeatureSettings(n_frames=4, image_size=48, start_s=0.5, interval_s=0.8, spectrogram_s=4.0)


@pytest.fixture(scope="session")
def encoder_bytes(store_settings: StoreSettings) -> bytes:
    """A real encoder, as small as they get and never trained, that looks at trailers by SMALL_VIEW."""
    from trailer_ml.model import archive
    from trailer_ml.model.backbones import calibrate, load_backbone
    from trailer_ml.model.initial import set_up_keras
    from trailer_ml.model.towers import build_encoder

    set_up_keras(SMALL_MODEL)
    backbone = load_backbone(SMALL_MODEL, Store(store_settings)).layer
    blocks = np.random.default_rng(0).integers(0, 256, (64, 4, 4, 3), dtype=np.uint8)
    calibrate(backbone, blocks.repeat(12, axis=1).repeat(12, axis=2))
    return archive.to_bytes(build_encoder(backbone, SMALL_MODEL, SMALL_VIEW))


SMALL_MODEL = ModelSettings(
    backbone="MobileNet",
    backbone_arguments={"alpha": 0.25},
    weights="random",
    image_size=48,
    spectrogram_size=48,
    lstm_units=16,
    video_dim=8,
    audio_dim=8,
    plain_half=False,  # its directions are found in training trailers, and here are none
)


@pytest.fixture
def put_champion(store: Store, encoder_bytes: bytes) -> Callable[..., str]:
    """Puts that encoder into the store as the champion."""
    from trailer_ml.model.card import ModelCard, card_key

    def put(version: str = "m-1") -> str:
        figures = dict.fromkeys(
            ("map_at_k", "untrained_map_at_k", "chance_map_at_k", "recall_at_k", "precision_at_k"), 0.5
        )
        card = ModelCard(
            version=version,
            encoder_sha256=sha256_of(encoder_bytes),
            video_dim=8,
            audio_dim=8,
            genres=GENRES,
            backbone="MobileNet",
            backbone_weights="random",
            model=SMALL_MODEL,
            features=SMALL_VIEW,
            dataset_key="",
            shards=(),
            n_trailers={},
            n_films={},
            test_films=(),
            evaluation=Evaluation(version=version, n_queries=1, k=10, **figures),
            held_out_gallery={},
            history=(),
            previous_champion=None,
            software={},
        )
        store.put_bytes(model_key(version, "encoder.keras"), encoder_bytes)
        store.put_json(card_key(version), card.to_json())
        store.swap_pointer(CHAMPION_KEY, {"version": version}, store.read_pointer(CHAMPION_KEY))
        return version

    return put


def _shard(batch: BatchRef, trailers: Sequence[Trailer]) -> ShardManifest:
    return ShardManifest(
        key=shard_key(batch),
        sha256="0" * 64,
        size_bytes=1,
        count=len(trailers),
        trailer_ids=tuple(trailer.trailer_id for trailer in trailers),
        film_ids=tuple(trailer.film_id for trailer in trailers),
        sampler="exact",
        features={},
        schema_version=1,
        extractor_version="1",
    )


HUGE = 30_000


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _say_huge(jpegs: bytes) -> bytes:
    """Every JPEG in it says that it is HUGE wide and high."""
    return re.sub(rb"(\xff\xc0\x00\x11\x08)....", rb"\g<1>" + struct.pack(">HH", HUGE, HUGE), jpegs, flags=re.DOTALL)


def _huge_sequence_header() -> bytes:
    """A sequence parameter set of H.264, Baseline: 1,000 x 1,000 macroblocks, the most that FFmpeg believes."""
    golomb = [f"{value + 1:b}" for value in (0, 0, 2, 1)], [f"{value + 1:b}" for value in (999, 999)]
    first, second = ("".join("0" * (len(bits) - 1) + bits for bits in some) for some in golomb)
    bits = f"{66:08b}{0:08b}{62:08b}" + first + "0" + second + "11001"
    bits += "0" * (-len(bits) % 8)
    return b"\x67" + int(bits, 2).to_bytes(len(bits) // 8, "big")


@pytest.fixture(scope="session")
def bombs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """Small files whose pictures would take gigabytes, by name, and the reason for which each is to be refused."""
    folder = tmp_path_factory.mktemp("bombs")
    still = {kind: io.BytesIO() for kind in ("JPEG", "GIF", "WEBP")}
    for kind, file in still.items():
        Image.new("RGB", (64, 64), "red").save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    jpeg, gif, webp = (bytearray(file.getvalue()) for file in still.values())
    gif[6:10] = struct.pack("<HH", HUGE, HUGE)
    webp[21:25] = struct.pack("<I", 16382 | 16382 << 14)
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(HUGE // 8 + 1) * 1000) for _ in range(HUGE // 1000)) + packer.flush()
    header = struct.pack(">IIBBBBB", HUGE, HUGE, 1, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")
    made = {"a.png": png, "a.jpg": _say_huge(bytes(jpeg)), "a.gif": gif, "a.webp": webp}
    reasons = dict.fromkeys(made, "not_a_video")
    for name, content in made.items():
        (folder / name).write_bytes(content)

    def run(*arguments: object) -> None:
        command = [find_ffmpeg(None), "-nostdin", "-v", "panic", "-y", *map(str, arguments)]
        subprocess.run(command, check=True)

    source = ("-f", "lavfi", "-i", "testsrc2=size=64x64:rate=10:duration=5")
    run(*source, "-c:v", "mjpeg", folder / "mjpeg.mkv")
    run(*source, "-c:v", "libx264", "-profile:v", "baseline", "-g", 10, "-pix_fmt", "yuv420p", folder / "h264.h264")
    units = re.split(rb"\x00\x00\x00?\x01", (folder / "h264.h264").read_bytes())[1:]
    stream = b"".join(b"\x00\x00\x00\x01" + (_huge_sequence_header() if u[:1] == b"\x67" else u) for u in units)
    (folder / "h264.h264").write_bytes(stream)
    for end in ("mp4", "mkv"):
        run(
            "-max_pixels",
            10**6,
            "-f",
            "h264",
            "-r",
            10,
            "-i",
            folder / "h264.h264",
            "-c",
            "copy",
            folder / f"h264-huge.{end}",
        )
        run("-i", folder / "mjpeg.mkv", "-c", "copy", folder / f"mjpeg-huge.{end}")
        jpegs = folder / f"mjpeg-huge.{end}"
        jpegs.write_bytes(_say_huge(jpegs.read_bytes()))
        reasons |= {f"h264-huge.{end}": "too_large", f"mjpeg-huge.{end}": "corrupt"}
    return {name: (folder / name, reason) for name, reason in reasons.items()}


class Webhook(NamedTuple):
    """Who was told: the bodies that were posted, and the variables that have Airflow post there."""

    told: list[dict[str, str]]
    environ: dict[str, str]


@pytest.fixture(scope="session")
def run_webhook() -> Callable[..., contextlib.AbstractContextManager[Webhook]]:
    """An address that takes what the notifier posts; a secret is in it, as in those of real ones."""

    @contextlib.contextmanager
    def run(secret: str = "hook-secret") -> Iterator[Webhook]:
        told = []

        class Hook(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            connection = {"conn_type": "http", "password": f"http://127.0.0.1:{server.server_port}/{secret}"}
            environ = {
                "AIRFLOW__TRAILER_ML__NOTIFIER": "trailer_airflow.notify.WebhookNotifier",
                "AIRFLOW_CONN_TRAILER_WEBHOOK": json.dumps(connection),
            }
            yield Webhook(told, environ)
            server.shutdown()

    return run


class Statsd(NamedTuple):
    """What Airflow has counted: every line that was sent, and the variables that have it sent here."""

    listener: socket.socket
    environ: dict[str, str]

    def lines(self) -> list[str]:
        """What has come so far, such as `airflow.ti.finish,dag_id=d,task_id=t,state=success:1|c`."""
        self.listener.setblocking(False)
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found += self.listener.recv(65536).decode().splitlines()
        return found


@pytest.fixture(scope="session")
def run_statsd() -> Callable[[], contextlib.AbstractContextManager[Statsd]]:
    """A StatsD that keeps everything."""

    @contextlib.contextmanager
    def run() -> Iterator[Statsd]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)
            listener.bind(("127.0.0.1", 0))
            environ = {
                "AIRFLOW__METRICS__STATSD_ON": "True",
                "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
                "AIRFLOW__METRICS__STATSD_PORT": str(listener.getsockname()[1]),
            }
            yield Statsd(listener, environ)

    return run


@pytest.fixture(scope="session")
def shots() -> Path:
    """Where screenshots are left: in screenshots/ of CI_ARTIFACTS, or of .cache where that is not set."""
    folder = Path(os.environ.get("CI_ARTIFACTS") or Path(__file__).parents[1] / ".cache") / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")  # while it runs there is an event loop in this thread, and can be no other
def browser() -> Iterator["Browser"]:
    """Chromium; without one nothing is tested here, and CI fails."""
    from playwright.sync_api import expect, sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "there is no Chromium here; fix: sudo apt-get install chromium"
        )
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        # Nothing but this machine's own pages is opened, and CI runs as root, where the sandbox does not start.
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


PATIENCE_MS = 60_000
SIZES = {"desktop": {"width": 1280, "height": 860}, "phone": {"width": 390, "height": 844}}


@pytest.fixture
def open_page(browser: "Browser") -> Iterator[Callable[..., "Page"]]:
    """Opens pages that fail the test when the console says anything is wrong: `open_page("phone", "dark")`."""
    said, contexts = [], []

    def open_one(size: str = "desktop", scheme: str = "light") -> "Page":
        context = browser.new_context(viewport=SIZES[size], color_scheme=scheme, reduced_motion="reduce")
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text) if message.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: None if "127.0.0.1" in request.url else said.append(request.url))
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert said == []
