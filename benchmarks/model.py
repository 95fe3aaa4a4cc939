"""The model: reading for training, epochs with and without kept features, trailers a second.

Data and weights are random. What is timed is the code that trains: `Examples`, `keep_frozen`, a phase's own epoch.
TRAILER_MODEL_BACKBONE=/path/to/a.keras measures another backbone than the default one.
"""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from PIL import Image, ImageFilter

from benchmarks.gpu import count_flops
from benchmarks.measure import interleaved, table, wall_seconds
from benchmarks.stored import put_catalog, put_shard
from trailer_ml.demo.services import run_seaweedfs
from trailer_ml.features.extract import Features
from trailer_ml.model.augment import drop_frames, vary_frames, vary_spectrograms
from trailer_ml.model.dataset import assemble_dataset
from trailer_ml.model.encoder import Encoder
from trailer_ml.model.examples import Examples
from trailer_ml.model.towers import BATCH, frame_model, small_spectrogram_model
from trailer_ml.model.train import _Training, label_outputs
from trailer_ml.records import BatchRef, Receipt, Trailer
from trailer_ml.settings import PhaseSettings, Settings, load_settings
from trailer_ml.shards.schema import decode_picture, to_example
from trailer_ml.shards.tfrecord import decode_example, read_raw_records, write_record
from trailer_ml.storage import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from trailer_ml.model.batches import Batch

N = 60
DAY = dt.date(2026, 11, 22)
KEPT_EPOCHS = 5  # one is over before it can be timed
GENRES = ("Action", "Comedy", "Drama", "Horror", "Romance", "Western")
HAS_GPU = bool(keras.distribution.list_devices("gpu"))
PHASES = (
    PhaseSettings(name="warm-up", loss="classifier", epochs=1, learning_rate=1e-3),
    PhaseSettings(name="triplet-frozen", loss="triplet_semi_hard", epochs=1, learning_rate=5e-4),
    PhaseSettings(name="triplet-top", loss="triplet_semi_hard", epochs=1, learning_rate=1e-4, trainable_layers=30),
    PhaseSettings(name="triplet-all", loss="triplet_semi_hard", epochs=1, learning_rate=1e-5, trainable_layers=-1),
)[: 4 if HAS_GPU else 3]
"""Without a GPU the last would take minutes a step and more memory than most machines have."""


def make_features(number: int) -> Features:
    """Soft random pictures with grain: as hard to encode as film, roughly."""
    rng = np.random.default_rng(number)

    def picture() -> np.ndarray:
        coarse = Image.fromarray(rng.integers(0, 255, (14, 14, 3), np.uint8)).resize((224, 224))
        grain = rng.normal(0, 4, (224, 224, 1))
        return np.clip(np.asarray(coarse.filter(ImageFilter.GaussianBlur(1))) + grain, 0, 255).astype(np.uint8)

    times = 5.0 + 12.0 * np.arange(10)
    frames = np.stack([picture() for _ in times])
    return Features(frames, times, picture(), 150.0, has_audio=True, sampler="exact", extractor_version="pyav-2")


def put_trailers(store: Store, folder: Path, settings: Settings) -> Path:
    """One shard of N random trailers, each a film of its own, and their catalog."""
    path, trailers = folder / "a.tfrecord", []
    with path.open("wb") as file:
        for number in range(N):
            ids = {"trailer_id": f"imdb-vi{number:04d}", "film_id": f"imdb-tt{number:04d}"}
            genres = (GENRES[number % len(GENRES)],)
            trailers.append(Trailer(title="A film", genres=genres, source="imdb", source_url="x", listed_on=DAY, **ids))
            receipt = Receipt(
                trailer_id="a", sha256="0" * 64, size_bytes=1, duration_s=150, streams=(), source_url="", downloader=""
            )
            write_record(file, to_example(trailers[-1], make_features(number), receipt, settings.features))
    put_catalog(trailers, store)
    put_shard(path, BatchRef(listed_on=DAY, number=0), trailers, settings.features, store)
    return path


def measure_reading(examples: Any, path: Path) -> list[list[str]]:
    """What training is given, against the same decoder on the same threads, to which the bytes are handed."""
    pictures = []
    for raw in read_raw_records(path):
        fields = decode_example(raw.data)
        pictures += [*fields["frames"], *fields["spectrogram"]]
    numbers = list(range(len(examples)))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        calls: dict[str, Callable[[], object]] = {
            "read": lambda: [examples.read(numbers[start : start + 8]) for start in range(0, len(numbers), 8)],
            "decoder": lambda: [None for _ in pool.map(decode_picture, pictures)],
        }
        seconds, cpu = interleaved(calls, rounds=7, measure=wall_seconds), interleaved(calls, rounds=3)
    rates = {name: len(numbers) / value for name, value in seconds.items()}
    share = f"{rates['read'] / rates['decoder']:.0%} of the decoder alone (by CPU {cpu['decoder'] / cpu['read']:.0%})"
    return [
        ["records read back for training", f"{rates['read']:.0f} records/s", share],
        ["the decoder alone, as many threads", f"{rates['decoder']:.0f} records/s", ""],
    ]


def measure_phases(training: Any) -> list[list[str]]:
    """An epoch of each phase; of a frozen one also as it is without kept features."""
    rows, look, shrink = [], frame_model(training.encoder), small_spectrogram_model(training.encoder)
    for number, phase in enumerate(training.model.phases):
        trainer = training._compile(phase)
        plan = training._plan(number, 0)
        shown = sum(len(batch.numbers) for batch in plan)
        is_frozen = not phase.trainable_layers
        load = training._load_frozen() if is_frozen else training._load_frames
        n_epochs = KEPT_EPOCHS if is_frozen else 1
        calls = {"epoch": lambda: [run_epoch(trainer, plan, load) for _ in range(n_epochs)]}  # noqa: B023 - called here
        if is_frozen:
            calls["recomputed"] = lambda: run_epoch(trainer, plan, partial(recompute_vectors, training, look, shrink))  # noqa: B023
        wall = interleaved(calls, rounds=1, measure=wall_seconds)
        epoch_s = wall["epoch"] / n_epochs
        ratio = ""
        if is_frozen:
            cpu = interleaved(calls, rounds=1, warm_up=False)
            by_cpu = cpu["recomputed"] / cpu["epoch"] * n_epochs
            ratio = f"{wall['recomputed'] / epoch_s:.0f}× faster (by CPU seconds {by_cpu:.0f}×)"
        kind = ", features kept" if is_frozen else ""
        rows.append([f"epoch of {phase.name}{kind}", f"{epoch_s:.2f} s, {shown / epoch_s:.1f} trailers/s", ratio])
        if is_frozen:
            speed = f"{wall['recomputed']:.1f} s, {shown / wall['recomputed']:.1f} trailers/s"
            rows.append([f"epoch of {phase.name}, recomputed", speed, ""])
    return rows


def run_epoch(trainer: Any, plan: list[Batch], load: Callable[..., list[np.ndarray]]) -> None:
    for place, batch in enumerate(plan):
        inputs = load(batch, np.random.default_rng(place))
        trainer.train_on_batch(inputs, label_outputs(trainer, batch))


def recompute_vectors(
    training: Any, look: keras.Model, shrink: keras.Model, batch: Batch, rng: np.random.Generator
) -> list[np.ndarray]:
    """What `_load_frozen` gives, without having kept anything."""
    arrays = training.examples.read([int(number) for number in batch.numbers])
    frames = vary_frames(arrays.frames, rng)
    vectors = [look.predict_on_batch(frames[start : start + BATCH]) for start in range(0, len(frames), BATCH)]
    kept, mask = drop_frames(np.concatenate(vectors), arrays.frame_mask, rng)
    small = np.rint(shrink.predict_on_batch(arrays.spectrogram)).astype(np.uint8)
    return [kept, mask, vary_spectrograms(small, rng), arrays.has_audio]


def measure_embedding(training: Any) -> list[list[str]]:
    """Whole trailers to vectors, and the arithmetic of the backbone in it."""
    arrays = training.examples.read(range(BATCH))
    encoder = Encoder(training.encoder, "m-0", training.dataset.features)
    seconds = interleaved({"embed": lambda: encoder.embed(*arrays)}, rounds=3, measure=wall_seconds)["embed"]
    flops = count_flops(training.encoder.get_layer("backbone").backbone) * arrays.frames.shape[1] * BATCH
    return [["embedding", f"{BATCH / seconds:.2f} trailers/s", f"{flops / seconds / 1e9:.1f} GFLOP/s"]]


def run() -> str:
    asked = load_settings().model
    settings = Settings(
        model=asked.model_copy(
            update={
                "weights": "random",
                "phases": PHASES,
                "min_films": 4,
                "validation_share": 0.0,
            }
        )
    )
    with tempfile.TemporaryDirectory() as name, run_seaweedfs(Path(name, "store")) as served:
        folder = Path(name)
        settings = settings.model_copy(
            update={"store": served, "model": settings.model.model_copy(update={"cache_folder": folder / "cache"})}
        )
        store = Store(served)
        path = put_trailers(store, folder, settings)
        training = _Training(assemble_dataset(settings, store), settings, store)
        with Examples(training.dataset, store, folder / "shards") as examples:
            training._open(examples)
            rows = [*measure_reading(examples, path), *measure_embedding(training), *measure_phases(training)]
    backbone = Path(settings.model.backbone).name
    return table(f"Model: {N} trailers, {backbone}, weights random or the file's", ("", "measured", "ratio"), rows)
