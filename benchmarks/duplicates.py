"""Near-duplicates among 25,000 trailers, in two catalogues: one in clusters, and one that training has drawn together.

The vectors, the manifests of the shards and the prints are made up and lie where the pipeline leaves them; no video is
decoded. One trailer in a hundred is a copy of another one, darker, cut at its edges or begun later, and must be found;
nothing else may be. What a print costs is measured on real records. A process of its own finds the copies.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.measure import cpu_seconds, table
from benchmarks.memory import peak_anonymous
from benchmarks.stored import put_catalog
from trailer_ml.demo.services import run_seaweedfs
from trailer_ml.embeddings.stored import write_vectors
from trailer_ml.features.extract import Features
from trailer_ml.index.build import build_index
from trailer_ml.index.publish import publish_index
from trailer_ml.records import BatchRef, EmbeddedTrailer, Receipt, ShardManifest, Trailer
from trailer_ml.search.duplicates import find_duplicates
from trailer_ml.search.evidence import compare_traits, find_traits
from trailer_ml.search.prints import COLUMNS, PITCHES, SIDE, ZOOMS, Print, make_print, path_of_prints, to_rows
from trailer_ml.settings import FeatureSettings, IndexSettings, Settings, as_environment, load_settings
from trailer_ml.shards.schema import SCHEMA_VERSION, from_example, to_example
from trailer_ml.storage import CHAMPION_KEY, Store, shard_key, shard_manifest_key
from trailer_ml.vectors import normalise

if TYPE_CHECKING:
    from numpy.typing import NDArray

N, DIM, BATCH, COPIED = 25_000, 256, 64, 100
CATALOGUES = {"200 clusters": (200, 1.0), "20 genres, drawn together": (20, 0.12)}
"""How many centres, and how far from them the trailers lie: of the second, thousands are nearer than 0.97."""
DAY = dt.date(2026, 1, 1)
COARSE = 6  # a made-up frame is so many soft blots wide


def run() -> str:
    rows = [["a print, of a record of 10 frames", f"{_measure_print():.1f} ms of CPU, once on each machine"]]
    rows.append(["two prints compared, one pair after the other", f"{_measure_comparison():.2f} ms of CPU"])
    for number, (name, shape) in enumerate(CATALOGUES.items()):
        with tempfile.TemporaryDirectory() as folder, run_seaweedfs(Path(folder, "store")) as served:
            settings = Settings(store=served, index=IndexSettings(cache_folder=Path(folder, "cache")))
            truth = _put_catalogue(*shape, settings, seed=number)
            found = _find_apart(settings)
        pairs = {tuple(sorted(pair)) for pair in found["pairs"]}
        rows += [
            [f"{name}: `find_duplicates`", f"{found['wall_s']:.0f} s, {found['cpu_s']:.0f} s of CPU"],
            [f"{name}: memory beside files", f"{found['peak']:.0f} MB, {found['begin']:.0f} of it before"],
            [f"{name}: copies found; wrong", f"{len(pairs & truth)} of {len(truth)}; {len(pairs - truth)}"],
        ]
    return table(f"Near-duplicates: {N:,} trailers, vectors of {DIM} numbers", ("", "measured"), rows)


def _put_catalogue(n_centres: int, spread: float, settings: Settings, *, seed: int) -> set[tuple[str, ...]]:
    """The pairs that are to be found."""
    rng, store = np.random.default_rng(seed), Store(settings.store)
    originals = rng.permutation(N)[: 2 * N // COPIED].reshape(-1, 2)
    centres = rng.normal(size=(n_centres, DIM))
    vectors = (centres[rng.integers(0, n_centres, N)] + spread * rng.normal(size=(N, DIM))).astype(np.float32)
    vectors[originals[:, 1]] = vectors[originals[:, 0]] + 0.1 * spread * rng.normal(size=(len(originals), DIM))
    vectors = normalise(vectors)
    copied = {copy: original for original, copy in originals.tolist()}
    features = FeatureSettings()
    trailers = [
        Trailer(
            trailer_id=_name(row), film_id=_name(row), title=f"Film {row}", source="imdb", source_url="x", listed_on=DAY
        )
        for row in range(N)
    ]
    put_catalog(trailers, store)
    for number, start in enumerate(range(0, N, BATCH)):
        rows = range(start, min(start + BATCH, N))
        batch = BatchRef(listed_on=DAY, number=number)
        some = [trailers[row] for row in rows]
        shard = ShardManifest(
            key=shard_key(batch), sha256=f"{number:064x}"[::-1], size_bytes=1, count=len(some),
            trailer_ids=tuple(each.trailer_id for each in some), film_ids=tuple(each.film_id for each in some),
            sampler=features.sampler, features=features.model_dump(mode="json"), schema_version=SCHEMA_VERSION,
            extractor_version=features.extractor_version,
        )  # fmt: skip
        store.put_json(shard_manifest_key(batch), shard.to_json())
        path = path_of_prints(settings.index.cache_folder / "prints", batch, shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, to_rows({_name(row): _invent_print(row, copied.get(row), seed) for row in rows}))
        fields = set(EmbeddedTrailer.model_fields)
        write_vectors(
            store, batch, vectors[rows.start : rows.stop],
            [EmbeddedTrailer(**each.model_dump(include=fields)) for each in some],
            model_version="m-1", video_dim=DIM // 2, shard_sha256=shard.sha256,
        )  # fmt: skip
    store.swap_pointer(CHAMPION_KEY, {"version": "m-1"}, None)
    publish_index(build_index(settings, store).version, settings, store, is_forced=True)
    return {tuple(sorted((_name(original), _name(copy)))) for copy, original in copied.items()}


def _name(row: int) -> str:
    return f"imdb-vi{row:07d}"


def _invent_print(row: int, original: int | None, seed: int) -> Print:
    """Ten frames of soft blots and a sound; of a copy those of its original, changed."""
    rng = np.random.default_rng([seed, row if original is None else original])
    zooms = np.arange(len(ZOOMS))
    if original is not None and row % 3 == 0:  # its edges are cut off: what was seen at 0.9 is the whole now
        zooms = np.minimum(zooms + 2, len(ZOOMS) - 1)
    blots = rng.uniform(0, 255, (10, COARSE, COARSE))
    looked = np.array([_view(ZOOMS[zoom]) for zoom in zooms])
    frames = np.einsum("zic,fcd,zjd->fzij", looked, blots, looked)
    loudness = rng.gamma(0.8, 60, COLUMNS + 8) + rng.gamma(0.8, 30, (PITCHES, COLUMNS + 8))
    late = 0 if original is None else row % 8
    if original is not None and row % 3 == 1:
        frames *= 0.6
    sound = np.minimum(loudness[:, late : late + COLUMNS], 255)
    return Print(frames.astype(np.uint8), 5.0 + 12 * np.arange(10), sound.astype(np.uint8))


def _view(zoom: float) -> NDArray[np.float64]:
    """(SIDE, COARSE): how much of each blot there is at a place that is so much of the whole, from its middle."""
    at = ((np.arange(SIDE) + 0.5) / SIDE - 0.5) * zoom * (COARSE - 1) + (COARSE - 1) / 2
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(COARSE)))


def _measure_print(n: int = 60) -> float:
    """CPU ms for a record that is decoded and made a print of."""
    settings, rng = FeatureSettings(), np.random.default_rng(0)
    small = rng.integers(0, 256, (11, 16, 16, 3), np.uint8)
    large = small.repeat(settings.image_size // 16, axis=1).repeat(settings.image_size // 16, axis=2)
    features = Features(
        frames=large[:10], frame_times_s=5.0 + 12 * np.arange(10), spectrogram=large[10], has_audio=True,
        duration_s=140.0, sampler="exact", extractor_version=settings.extractor_version,
    )  # fmt: skip
    trailer = Trailer(trailer_id="a", film_id="a", title="A", source="imdb", source_url="x", listed_on=DAY)
    receipt = Receipt(
        trailer_id="a", sha256="0" * 64, size_bytes=1, duration_s=140, streams=(), source_url="", downloader=""
    )
    data = to_example(trailer, features, receipt, settings)
    times = {"start_s": settings.start_s, "spectrogram_s": settings.spectrogram_s}
    return 1000 * cpu_seconds(lambda: [make_print(from_example(data), **times) for _ in range(n)]) / n


def _measure_comparison(n: int = 200) -> float:
    seen = [find_traits(_invent_print(row, None, 0)) for row in range(n)]
    return 1000 * cpu_seconds(lambda: [compare_traits(seen[0], each) for each in seen]) / n


def _find_apart(settings: Settings) -> dict:
    key, secret = settings.store.access_key_id, settings.store.secret_access_key
    keys = {"AWS_ACCESS_KEY_ID": key.get_secret_value(), "AWS_SECRET_ACCESS_KEY": secret.get_secret_value()}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.duplicates"],
        check=True, stdout=subprocess.PIPE, text=True, env=os.environ | as_environment(settings) | keys,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def _measure(settings: Settings) -> dict:
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    with peak_anonymous() as memory:
        groups = find_duplicates(settings, Store(settings.store))
    wall_s, spent = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    return {
        "wall_s": wall_s,
        "cpu_s": spent.ru_utime + spent.ru_stime - before.ru_utime - before.ru_stime,
        **memory,
        "pairs": [pair[:2] for group in groups for pair in group.pairs],
    }


if __name__ == "__main__":
    print(json.dumps(_measure(load_settings())))
