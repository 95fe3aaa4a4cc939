"""Commercials in worlds of other seeds, each with a model of its own that saw nothing else: own genre first?

A world is 42 films with trailers of 16 s, and a commercial for each genre; films are ranked by an index, as for
`ads_match`. Training is that of the demo without its
last phase, which moves the backbone and takes most of the time: a model here is less than the demo's own. `--n` says
how many worlds; the first has seed 101.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path

import keras
import numpy as np

from benchmarks.measure import table
from benchmarks.stored import put_catalog, put_shard
from trailer_ml.demo.profile import demo_settings
from trailer_ml.demo.services import run_seaweedfs
from trailer_ml.demo.studio import make_world
from trailer_ml.embeddings.embed import embed_features
from trailer_ml.embeddings.stored import write_vectors
from trailer_ml.features.extract import Features
from trailer_ml.features.pool import extract_many
from trailer_ml.index.build import build_index
from trailer_ml.index.publish import publish_index
from trailer_ml.index.serve import open_current_index
from trailer_ml.model.dataset import assemble_dataset
from trailer_ml.model.encoder import Encoder
from trailer_ml.model.train import _Training
from trailer_ml.records import BatchRef, EmbeddedTrailer, Receipt, Trailer
from trailer_ml.search.neighbours import find_neighbours
from trailer_ml.settings import Settings
from trailer_ml.shards.schema import to_example
from trailer_ml.shards.tfrecord import write_record
from trailer_ml.storage import CHAMPION_KEY, Store

N_FILMS, SECONDS, FIRST_SEED, N = 42, 16.0, 101, 3
DAY = dt.date(2026, 11, 22)


def run(n: int = N) -> str:
    rows, right = [], []
    for seed in range(FIRST_SEED, FIRST_SEED + n):
        with tempfile.TemporaryDirectory() as name, run_seaweedfs(Path(name, "store")) as served:
            settings = demo_settings(served, "http://127.0.0.1:1")
            index = settings.index.model_copy(update={"cache_folder": Path(name, "index")})
            good, of = measure_world(seed, Path(name), settings.model_copy(update={"index": index}))
        right.append(good / of)
        rows.append([f"seed {seed}", f"{good} of {of}"])
        print(*rows[-1], flush=True)
    spread = f"{np.mean(right):.3f}, from {min(right):.3f} to {max(right):.3f}"
    rows.append([f"mean of {n} worlds", spread])
    return table("Commercials of other worlds, a model trained for each: own genre first", ("", "measured"), rows)


def measure_world(seed: int, folder: Path, settings: Settings) -> tuple[int, int]:
    """How many commercials have a film of their genre first, and how many there are."""
    world = make_world(folder / "world", n_films=N_FILMS, seed=seed, seconds=SECONDS, odd=False)
    looked = list(extract_many([folder / "world" / clip.file for clip in world.clips], settings.features))
    seen = [(clip, each) for clip, each in zip(world.clips, looked, strict=True) if isinstance(each, Features)]
    trailers = [
        Trailer(
            trailer_id=f"imdb-{clip.video_id}", film_id=f"imdb-{clip.film_id}", title=clip.name, source="imdb",
            genres=world.film(clip.film_id).genres, source_url="x", listed_on=DAY,
        )
        for clip, _ in seen
    ]  # fmt: skip
    features = [each for _, each in seen]
    encoder = train_encoder(trailers, features, folder / "trained", settings)
    publish_vectors(trailers, embed_features(features, encoder), encoder, settings)
    ads = list(extract_many([folder / "world" / ad.file for ad in world.ads], settings.features))
    n_right = 0
    with open_current_index(Store(settings.store), settings.index.cache_folder) as index:
        for ad, each in zip(world.ads, ads, strict=True):
            assert isinstance(each, Features)
            (vector,) = embed_features([each], encoder)
            (best,) = find_neighbours(index, vector, 1, model_version=encoder.version, one_per_film=True)
            n_right += ad.genre in best.genres
    keras.utils.clear_session()
    return n_right, len(world.ads)


def publish_vectors(trailers: list[Trailer], vectors: np.ndarray, encoder: Encoder, settings: Settings) -> None:
    """The index of some trailers, served."""
    store = Store(settings.store)
    fields = set(EmbeddedTrailer.model_fields)
    write_vectors(
        store, BatchRef(listed_on=DAY, number=0), vectors,
        [EmbeddedTrailer(**trailer.model_dump(include=fields)) for trailer in trailers],
        model_version=encoder.version, video_dim=encoder.video_dim, shard_sha256="0" * 64,
    )  # fmt: skip
    store.swap_pointer(CHAMPION_KEY, {"version": encoder.version}, None)
    publish_index(build_index(settings, store).version, settings, store)


def train_encoder(trailers: list[Trailer], features: list[Features], folder: Path, settings: Settings) -> Encoder:
    """A model that has seen these trailers, trained in all phases but the last."""
    folder.mkdir()
    model = settings.model.model_copy(
        update={"min_films": 4, "phases": settings.model.phases[:-1], "cache_folder": folder / "cache"}
    )
    settings = settings.model_copy(update={"model": model})
    store = Store(settings.store)
    put_trailers(trailers, features, folder / "a.tfrecord", settings, store)
    dataset = assemble_dataset(settings, store)
    _Training(dataset, settings, store).run(is_warm_up=True)
    training = _Training(dataset, settings, store)
    training.run(is_warm_up=False)
    return Encoder(training.encoder, dataset.version, training.dataset.features)


def put_trailers(
    trailers: list[Trailer], features: list[Features], path: Path, settings: Settings, store: Store
) -> None:
    """The catalog of a day, and one shard with all of it."""
    receipt = Receipt(
        trailer_id="a", sha256="0" * 64, size_bytes=1, duration_s=SECONDS, streams=(), source_url="", downloader=""
    )
    with path.open("wb") as file:
        for trailer, each in zip(trailers, features, strict=True):
            write_record(file, to_example(trailer, each, receipt, settings.features))
    put_catalog(trailers, store)
    put_shard(path, BatchRef(listed_on=DAY, number=0), trailers, settings.features, store)
