"""Near-duplicates in worlds by which no threshold was chosen: true copies, changed in one way each, found or not.

A world is 20 films with trailers of 14 s and a model of its own, trained as in `worlds`. Of each trailer ffmpeg makes
ten copies, as for the evaluation of a model. One change at a time, the copies are put beside the originals as trailers
of other films, indexed and published, and `find_duplicates` is asked as it stands. A pair that it links is right where
both are, in the end, of one trailer: copy, teaser or recut of it. `--n` says how many worlds; the first has seed 901.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import keras
import numpy as np

from benchmarks.measure import table
from benchmarks.worlds import put_trailers, train_encoder
from trailer_ml.demo.profile import demo_settings
from trailer_ml.demo.services import run_seaweedfs
from trailer_ml.demo.studio import make_world
from trailer_ml.embeddings.embed import embed_features
from trailer_ml.embeddings.stored import write_vectors
from trailer_ml.features.extract import Features
from trailer_ml.features.pool import extract_many
from trailer_ml.index.build import build_index
from trailer_ml.index.publish import publish_index
from trailer_ml.model.alterations import CHANGES, make_altered_copies
from trailer_ml.records import BatchRef, EmbeddedTrailer, Trailer
from trailer_ml.search.duplicates import find_duplicates
from trailer_ml.settings import IndexSettings
from trailer_ml.storage import CHAMPION_KEY, Store

if TYPE_CHECKING:
    from trailer_ml.demo.world import Clip, World
    from trailer_ml.settings import Settings

N_FILMS, SECONDS, FIRST_SEED, N = 20, 14.0, 901, 3
DAY = dt.date(2026, 11, 22)
COPY = "-copy"


class Counts(NamedTuple):
    """Of one change: how many copies there are and how many are found, how many links there are and are right."""

    n_copies: int
    n_found: int
    n_links: int
    n_right: int


def run(n: int = N) -> str:
    totals = dict.fromkeys(CHANGES, Counts(0, 0, 0, 0))
    for seed in range(FIRST_SEED, FIRST_SEED + n):
        with tempfile.TemporaryDirectory() as name, run_seaweedfs(Path(name, "store")) as served:
            found = measure_world(seed, Path(name), demo_settings(served, "http://127.0.0.1:1"))
        print(f"seed {seed}", {change: tuple(counts) for change, counts in found.items()}, flush=True)
        totals = {
            change: Counts(*map(sum, zip(totals[change], counts, strict=True))) for change, counts in found.items()
        }
    rows = [[change, *_describe(counts)] for change, counts in totals.items()]
    rows.append(["all", *_describe(Counts(*map(sum, zip(*totals.values(), strict=True))))])
    seeds = f"seeds {FIRST_SEED} to {FIRST_SEED + n - 1}"
    return table(f"Near-duplicates in {n} other worlds ({seeds})", ("copies", "found", "links that are right"), rows)


def _describe(counts: Counts) -> list[str]:
    recall, precision = counts.n_found / counts.n_copies, counts.n_right / max(counts.n_links, 1)
    return [
        f"{counts.n_found} of {counts.n_copies} ({recall:.3f})",
        f"{counts.n_right} of {counts.n_links} ({precision:.3f})",
    ]


def measure_world(seed: int, folder: Path, settings: Settings) -> dict[str, Counts]:
    """What is found of each change in the world of a seed."""
    world = make_world(folder / "world", n_films=N_FILMS, seed=seed, seconds=SECONDS)
    paths = [folder / "world" / clip.file for clip in world.clips if clip.oddity != "gone"]
    clips = [clip for clip in world.clips if clip.oddity != "gone"]
    looked = list(extract_many(paths, settings.features))
    kept = [place for place, each in enumerate(looked) if isinstance(each, Features)]
    trailers = [make_trailer(clips[place], world) for place in kept]
    originals = [each for each in looked if isinstance(each, Features)]
    encoder = train_encoder(trailers, originals, folder / "trained", settings)
    copies: dict[str, list[Features]] = {change: [] for change in CHANGES}
    for place in kept:
        with tempfile.TemporaryDirectory() as aside:
            made = make_altered_copies(paths[place], Path(aside), settings.features)
            for change, each in zip(made, extract_many(made.values(), settings.features), strict=True):
                assert isinstance(each, Features), (clips[place], change, each)
                copies[change].append(each)
    family = {
        trailer.trailer_id: find_family(clips[place], world) for place, trailer in zip(kept, trailers, strict=True)
    }
    vectors = embed_features(originals, encoder)
    found = {}
    for change, changed in copies.items():
        aside = settings.model_copy(
            update={
                "store": settings.store.model_copy(update={"prefix": f"{change.replace(' ', '-')}/"}),
                "index": IndexSettings(cache_folder=folder / change),
            }
        )
        both = np.concatenate([vectors, embed_features(changed, encoder)])
        found[change] = measure_change(trailers, [*originals, *changed], both, family, aside)
    keras.utils.clear_session()
    return found


def measure_change(
    trailers: list[Trailer], features: list[Features], vectors: np.ndarray, family: dict[str, str], settings: Settings
) -> Counts:
    """Index originals and copies, and compare what is found with what is so."""
    store = Store(settings.store)
    copied = [
        trailer.model_copy(update={"trailer_id": trailer.trailer_id + COPY, "film_id": trailer.film_id + COPY})
        for trailer in trailers
    ]
    everything = [*trailers, *copied]
    settings.index.cache_folder.mkdir(parents=True)
    put_trailers(everything, features, settings.index.cache_folder / "a.tfrecord", settings, store)
    fields = set(EmbeddedTrailer.model_fields)
    embedded = [EmbeddedTrailer(**trailer.model_dump(include=fields)) for trailer in everything]
    write_vectors(
        store, BatchRef(listed_on=DAY, number=0), vectors, embedded,
        model_version="m-1", video_dim=vectors.shape[1] // 2, shard_sha256="0" * 64,
    )  # fmt: skip
    store.swap_pointer(CHAMPION_KEY, {"version": "m-1"}, None)
    publish_index(build_index(settings, store).version, settings, store, is_forced=True)
    groups = find_duplicates(settings, store)
    together = [{trailer.trailer_id for trailer in group.trailers} for group in groups]
    links = [pair[:2] for group in groups for pair in group.pairs]
    wrong = [pair for pair in links if len({family[name.removesuffix(COPY)] for name in pair}) > 1]
    missed = [
        trailer.trailer_id
        for trailer in trailers
        if not any({trailer.trailer_id, trailer.trailer_id + COPY} <= group for group in together)
    ]
    print(settings.store.prefix, "missed", missed, "wrong", wrong, flush=True)
    return Counts(len(trailers), len(trailers) - len(missed), len(links), len(links) - len(wrong))


def make_trailer(clip: Clip, world: World) -> Trailer:
    return Trailer(
        trailer_id=f"imdb-{clip.video_id}", film_id=f"imdb-{clip.film_id}", title=clip.name, source="imdb",
        genres=world.film(clip.film_id).genres, source_url="x", listed_on=DAY,
    )  # fmt: skip


def find_family(clip: Clip, world: World) -> str:
    """The trailer that this one is, or is cut from."""
    is_variant = clip.oddity in {"teaser", "recut"}
    return (world.clips_of(clip.film_id)[0] if is_variant else clip).video_id
