"""Memory of training and embedding with the number of trailers: 2,500 and 25,000 records, made from a few films.

A child process each computes a frozen backbone's features of all records and trains some steps on them, or embeds all
records; what is told is the peak of its anonymous memory (RssAnon). Pages of memory-mapped files do not count: they are
the page cache's, which gives them back when somebody else wants them.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.films import SET, find_film
from benchmarks.measure import table
from benchmarks.stored import put_catalog, put_shard
from trailer_ml.demo.services import run_seaweedfs
from trailer_ml.features.extract import extract_features
from trailer_ml.records import BatchRef, Receipt, Trailer
from trailer_ml.settings import FeatureSettings, ModelSettings, PhaseSettings, Settings, as_environment, load_settings
from trailer_ml.shards.schema import to_example
from trailer_ml.shards.tfrecord import decode_example, encode_example, write_record
from trailer_ml.storage import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES = (2_500, 25_000)
N_FILMS = 4
PER_SHARD = 500
STEPS = 50
DAY = dt.date(2026, 11, 22)
GENRES = ("Action", "Comedy", "Drama", "Horror", "Romance", "Western")
FEATURES = FeatureSettings(n_frames=2, image_size=64, interval_s=5.0)


def model_settings(cache_folder: Path) -> ModelSettings:
    return ModelSettings(
        backbone="MobileNet",
        backbone_arguments={"alpha": 0.25},
        backbone_layer="conv_pw_5_relu",
        weights="random",
        image_size=64,
        spectrogram_size=64,
        phases=(PhaseSettings(name="frozen", loss="triplet_semi_hard", epochs=1, learning_rate=1e-4),),
        cache_folder=cache_folder,
    )


def put_records(n: int, store: Store, folder: Path) -> None:
    """The films' records again and again, each under ids of its own, as shards; and their catalog."""
    receipt = Receipt(
        trailer_id="a", sha256="0" * 64, size_bytes=1, duration_s=30, streams=(), source_url="", downloader=""
    )
    some = Trailer(trailer_id="a", film_id="a", title="A film", genres=(), source="imdb", source_url="x", listed_on=DAY)
    films = [extract_features(find_film(film), FEATURES) for film in SET[:N_FILMS]]
    records = [decode_example(to_example(some, features, receipt, FEATURES)) for features in films]
    trailers = [
        some.model_copy(
            update={
                "trailer_id": f"imdb-vi{number:07d}",
                "film_id": f"imdb-tt{number:07d}",
                "genres": (GENRES[number % len(GENRES)],),
            }
        )
        for number in range(n)
    ]
    put_catalog(trailers, store)
    for number, start in enumerate(range(0, n, PER_SHARD)):
        members = trailers[start : start + PER_SHARD]
        path, batch = folder / "a.tfrecord", BatchRef(listed_on=DAY, number=number)
        with path.open("wb") as file:
            for place, trailer in enumerate(members):
                own = {"trailer_id": [trailer.trailer_id.encode()], "film_id": [trailer.film_id.encode()]}
                write_record(file, encode_example({**records[place % N_FILMS], **own}))
        put_shard(path, batch, members, FEATURES, store)


@contextmanager
def peak_anonymous() -> Iterator[dict[str, float]]:
    """MB of this process that no file stands behind: `begin`, and from the exit on `peak`."""

    def now() -> float:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("RssAnon:")[2].split()[0]) / 1024

    ends = threading.Event()
    told = {"begin": now(), "peak": now()}

    def watch() -> None:
        while not ends.wait(0.02):
            told["peak"] = max(told["peak"], now())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield told
    finally:
        ends.set()
        watcher.join()


def train() -> dict[str, float]:
    """Everything a frozen phase does: the data set, the kept features of all its trailers, steps on them."""
    from trailer_ml.model import train as training_module
    from trailer_ml.model.dataset import assemble_dataset
    from trailer_ml.model.examples import Examples

    settings = load_settings()
    store = Store(settings.store)
    plan_epoch = training_module.plan_epoch
    training_module.plan_epoch = lambda *args, **named: plan_epoch(*args, **named)[:STEPS]
    with peak_anonymous() as told:
        training = training_module._Training(assemble_dataset(settings, store), settings, store)
        with Examples(training.dataset, store, settings.model.cache_folder / "shards") as examples:
            training._open(examples)
            training._run_epoch(training._compile(training.model.phases[0]), 0, 0)
    return told


def embed() -> dict[str, float]:
    """Every shard through `_embed_shard`, by the untrained encoder that `train` left in the store."""
    from trailer_ml.embeddings.embed import _embed_shard
    from trailer_ml.model.encoder import Encoder
    from trailer_ml.shards.manifests import list_shards

    settings = load_settings()
    store = Store(settings.store)
    (key,) = (key for key in store.list_keys("models/") if key.endswith("initial.keras"))
    with tempfile.TemporaryDirectory() as folder, peak_anonymous() as told:
        path = Path(folder, "encoder.keras")
        store.read_file(key, path)
        encoder = Encoder.from_file(path, key.split("/")[1], FEATURES)
        for batch, shard in list_shards(store):
            _embed_shard(batch, shard, encoder, settings, store)
    return told


def in_child(what: str, settings: Settings) -> dict[str, float]:
    access, secret = settings.store.access_key_id, settings.store.secret_access_key
    assert access
    assert secret
    keys = {"AWS_ACCESS_KEY_ID": access.get_secret_value(), "AWS_SECRET_ACCESS_KEY": secret.get_secret_value()}
    environment = {**os.environ, **as_environment(settings), **keys}
    command = [sys.executable, "-m", "benchmarks.memory", what]
    ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(ended.stdout)
    return found


def run() -> str:
    rows, peaks = [], {}
    with tempfile.TemporaryDirectory() as name, run_seaweedfs(Path(name, "store")) as served:
        for n in SIZES:
            folder = Path(name, str(n))
            folder.mkdir()
            settings = Settings(
                store=served.model_copy(update={"prefix": f"{n}/"}),
                features=FEATURES,
                model=model_settings(folder / "cache"),
            )
            put_records(n, Store(settings.store), folder)
            for what in ("train", "embed"):
                peaks[what, n] = in_child(what, settings)["peak"]
    few, many = SIZES
    words = {"train": f"kept features of all, then {STEPS} steps of a frozen phase", "embed": "embedding of all"}
    for what, word in words.items():
        small, large = peaks[what, few], peaks[what, many]
        more = f"{large / small:.2f}× ({(large - small) * 1024 / (many - few):+.1f} kB a trailer)"
        rows.append([word, f"{small:.0f} MB", f"{large:.0f} MB", more])
    title = "Memory: peak of what no file stands behind (RssAnon), records made from four films"
    return table(title, ("", f"{few:,} trailers", f"{many:,} trailers", "ratio"), rows)


if __name__ == "__main__":
    calls: dict[str, Any] = {"train": train, "embed": embed}
    print(json.dumps(calls[sys.argv[1]]()))
