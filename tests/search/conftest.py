"""A published index, and a few small videos of known looks."""

import http.server
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from trailer_ml.embeddings.embed import embed_features
from trailer_ml.features.extract import extract_features
from trailer_ml.index.build import build_index
from trailer_ml.index.publish import publish_index
from trailer_ml.media.ffmpeg import find_ffmpeg
from trailer_ml.model.registry import load_encoder
from trailer_ml.records import Trailer

LOOKS = {
    "bars": ("smptebars=size=96x96:rate=10", "sine=frequency=220"),
    "plasma": ("mandelbrot=size=96x96:rate=10", "anoisesrc=color=pink:amplitude=0.4:seed=3"),
    "test": ("testsrc2=size=96x96:rate=10", "sine=frequency=3000:beep_factor=4"),
    "blend": ("gradients=size=96x96:rate=10:seed=5:c0=red:c1=navy", "sine=frequency=900"),
}


def make_video(path: Path, look: str, *filters: str) -> Path:
    picture, sound = LOOKS[look]
    arguments = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, *filters, "-t", "5", "-y", str(path)]
    subprocess.run([find_ffmpeg(None), "-v", "error", "-nostdin", *arguments], check=True)
    return path


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One video of each look, with another encoding of it under `<look>-again`."""
    folder = tmp_path_factory.mktemp("videos")
    made = {look: make_video(folder / f"{look}.mp4", look) for look in LOOKS}
    again = {f"{look}-again": make_video(folder / f"{look}-again.mp4", look, "-crf", "25") for look in LOOKS}
    return made | again


@pytest.fixture
def publish(settings, store) -> Callable[[], str]:
    """Builds and publishes an index of what is embedded."""

    def build_and_publish() -> str:
        summary = publish_index(build_index(settings, store).version, settings, store)
        assert summary.is_published
        return summary.version

    return build_and_publish


@pytest.fixture
def video_world(settings, store, videos, put_champion, put_embedded, make_trailer, publish) -> list[Trailer]:
    """A champion, and an index of the four looks, two trailers of a film for each: the second is mirrored by noise."""
    put_champion()
    encoder = load_encoder(store, "m-1", settings.model.cache_folder)
    seen = [extract_features(videos[look], encoder.feature_settings) for look in LOOKS]
    vectors = embed_features(seen, encoder)
    other = vectors + np.random.default_rng(0).normal(0, 0.02, vectors.shape).astype(np.float32)
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    trailers = [make_trailer(n, film_id=f"imdb-tt{n % 4}", title=list(LOOKS)[n % 4]) for n in range(8)]
    put_embedded(np.concatenate([vectors, other]), trailers)
    publish()
    return trailers


class Quiet(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if not self.path.startswith("/to/"):
            super().do_GET()
            return
        self.send_response(302)
        self.send_header("Location", unquote(self.path.removeprefix("/to/"), "latin-1"))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def site(videos, settings):
    """Serves the videos, and sends on whoever asks for /to/<address>; settings that may fetch from it."""
    folder = next(iter(videos.values())).parent
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    host = f"127.0.0.1:{server.server_port}"
    media = settings.media.model_copy(update={"allowed_private_hosts": (host,), "attempts": 1, "item_timeout_s": 60.0})
    yield f"http://{host}", settings.model_copy(update={"media": media})
    server.shutdown()
    thread.join()
    server.server_close()
