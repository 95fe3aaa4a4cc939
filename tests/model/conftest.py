"""A film world of arrays, put into the store as real shards: each genre has a texture and a tone, and noise."""

import datetime as dt
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from trailer_ml.features.extract import Features
from trailer_ml.records import BatchRef, Receipt, ShardManifest, Trailer
from trailer_ml.settings import FeatureSettings, ModelSettings, PhaseSettings, Settings, StoreSettings
from trailer_ml.shards.schema import SCHEMA_VERSION, to_example
from trailer_ml.shards.tfrecord import write_record
from trailer_ml.storage import Store, catalog_key, sha256_of_file, shard_key, shard_manifest_key

DAY = dt.date(2026, 11, 20)
GENRES = ("Action", "Comedy", "Drama", "Horror")
SIZE = 48
N_FRAMES = 4

World = list[tuple[Trailer, Features]]

_numbers = itertools.count()


def make_trailer(number: int, genres: Sequence[str], film: int | None = None) -> Trailer:
    return Trailer(
        trailer_id=f"imdb-vi{number:07d}",
        film_id=f"imdb-tt{number if film is None else film:07d}",
        title=f"Film {number}",
        genres=tuple(genres),
        source="imdb",
        source_url="http://127.0.0.1/x.mp4",
        listed_on=DAY,
    )


def make_features(look: int, rng: np.random.Generator, n_frames: int = N_FRAMES, *, has_audio: bool = True) -> Features:
    """Stripes of a direction for the picture and a band of a height for the sound; colour, phase and noise are free."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    angle = look * np.pi / len(GENRES)
    frames = []
    for _ in range(n_frames):
        wave = np.sin((rows * np.sin(angle) + columns * np.cos(angle)) * rng.uniform(0.5, 0.8) + rng.uniform(0, 6))
        colour = rng.uniform(60, 200, 3)
        frames.append(np.clip(wave[..., None] * 50 + colour + rng.normal(0, 10, (SIZE, SIZE, 3)), 0, 255))
    sound = rng.uniform(0, 60, (SIZE, SIZE, 3))
    centre = (look + 0.5) * SIZE / len(GENRES) + rng.uniform(-2, 2)
    sound += 180 * np.exp(-(((rows - centre) / 2.5) ** 2))[..., None]
    return Features(
        frames=np.array(frames).astype(np.uint8),
        frame_times_s=np.arange(n_frames, dtype=float),
        spectrogram=(sound * has_audio).astype(np.uint8),
        duration_s=60.0,
        has_audio=has_audio,
        sampler="exact",
        extractor_version="pyav-2",
    )


def make_world(n_films: int = 40, seed: int = 0) -> World:
    rng = np.random.default_rng(seed)
    return [
        (make_trailer(number, [GENRES[number % len(GENRES)]]), make_features(number % len(GENRES), rng))
        for number in range(n_films)
    ]


def put_world(
    store: Store, folder: Path, world: World, settings: FeatureSettings, per_shard: int = 16, day: dt.date = DAY
) -> None:
    """The catalog and the shards of these trailers, as the earlier stages write them."""
    lines = "".join(trailer.model_dump_json() + "\n" for trailer, _ in world)
    store.put_bytes(catalog_key(day), lines.encode())
    for number, start in enumerate(range(0, len(world), per_shard)):
        members = world[start : start + per_shard]
        path = folder / f"{number}.tfrecord"
        with path.open("wb") as file:
            for trailer, features in members:
                receipt = Receipt(
                    trailer_id=trailer.trailer_id,
                    sha256="0" * 64,
                    size_bytes=1,
                    duration_s=60.0,
                    streams=(),
                    source_url=trailer.source_url,
                    downloader="test",
                )
                write_record(file, to_example(trailer, features, receipt, settings))
        batch = BatchRef(listed_on=day, number=number)
        store.put_file(shard_key(batch), path)
        manifest = ShardManifest(
            key=shard_key(batch),
            sha256=sha256_of_file(path),
            size_bytes=path.stat().st_size,
            count=len(members),
            trailer_ids=tuple(trailer.trailer_id for trailer, _ in members),
            film_ids=tuple(trailer.film_id for trailer, _ in members),
            sampler="exact",
            features=settings.model_dump(mode="json"),
            schema_version=SCHEMA_VERSION,
            extractor_version="pyav-2",
        )
        store.put_json(shard_manifest_key(batch), manifest.to_json())


@pytest.fixture(name="make_trailer")
def _make_trailer() -> Callable[..., Trailer]:
    return make_trailer


@pytest.fixture(name="make_features")
def _make_features() -> Callable[..., Features]:
    return make_features


@pytest.fixture(name="make_world")
def _make_world() -> Callable[..., World]:
    return make_world


def small_settings(settings: Settings, cache_folder: Path) -> Settings:
    """Settings of a model that trains in seconds."""
    phases = (
        PhaseSettings(name="warm-up", loss="classifier", epochs=6, learning_rate=3e-3),
        PhaseSettings(name="frozen", loss="triplet_semi_hard", epochs=3, learning_rate=1e-3),
        PhaseSettings(name="top", loss="triplet_semi_hard", epochs=2, learning_rate=1e-4, trainable_layers=6),
    )
    return settings.model_copy(
        update={
            "features": FeatureSettings(n_frames=N_FRAMES, image_size=SIZE),
            "model": ModelSettings(
                backbone="MobileNet",
                backbone_arguments={"alpha": 0.25},
                backbone_layer="conv_pw_5_relu",
                weights="random",
                image_size=SIZE,
                spectrogram_size=SIZE,
                lstm_units=16,
                video_dim=8,
                audio_dim=8,
                plain_half=False,  # it tells these genres apart without learning
                phases=phases,
                genres_per_batch=4,
                trailers_per_genre=4,
                min_films=8,
                cache_folder=cache_folder,
            ),
        }
    )


@pytest.fixture
def small(settings: Settings, tmp_path: Path) -> Settings:
    return small_settings(settings, tmp_path / "cache")


@pytest.fixture
def fill(store: Store, small: Settings, tmp_path: Path) -> Callable[[World], None]:
    """Put a world into the store."""

    def put(world: World) -> None:
        put_world(store, tmp_path, world, small.features)

    return put


@pytest.fixture(name="put_world")
def _put_world() -> Callable[..., None]:
    return put_world


@pytest.fixture(scope="module")
def module_settings(store_settings: StoreSettings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Like `small`, with a store that the tests of a module share and the odd world in it."""
    prefix = f"module-{next(_numbers)}/"
    folder = tmp_path_factory.mktemp("module")
    settings = Settings(store=store_settings.model_copy(update={"prefix": prefix}))
    settings = small_settings(settings, folder / "cache")
    put_world(Store(settings.store), folder, odd_world(), settings.features)
    return settings


def odd_world() -> World:
    """48 films, one of them silent, one with two frames, one of two genres, and a teaser of one more."""
    world = make_world(48)
    rng = np.random.default_rng(9)
    world[4] = (world[4][0], make_features(0, rng, has_audio=False))
    world[9] = (world[9][0], make_features(1, rng, n_frames=2))
    world[14] = (make_trailer(14, ["Drama", "Horror"]), world[14][1])
    return [*world, (make_trailer(100, world[19][0].genres, film=19), make_features(3, rng))]


@pytest.fixture(name="odd_world")
def _odd_world() -> World:
    return odd_world()
