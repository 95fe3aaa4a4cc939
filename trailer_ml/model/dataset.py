"""A data set: which shards a model is trained on, split by film. Its version names the model too.

The version is a hash of everything that decides what comes out of training: the shards and their hashes, the trailers
taken down, the settings, the code's own number. The same of all that is the same model, and nothing is done twice.

Nothing is learned from the validation split, nor is it reported on: it is for those who choose between settings.

Does not belong here: the records themselves (examples.py). This module loads neither Keras nor TensorFlow.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trailer_ml.catalog.listing import read_taken_down, read_trailers
from trailer_ml.errors import CorruptShardError, DataError, MissingObjectError, SettingsError
from trailer_ml.model.batches import plan_epoch
from trailer_ml.records import BatchRef, DatasetRef, FilmId, Record, TrailerId, Version
from trailer_ml.settings import FeatureSettings, ModelSettings
from trailer_ml.shards.manifests import is_of_view, list_shards
from trailer_ml.shards.read import cached_shard
from trailer_ml.storage import encode_json, model_key, sha256_of, sha256_of_file, shard_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trailer_ml.records import ShardManifest
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)

CODE_SCHEMA = 6
"""Goes up when the same shards and settings would give another model."""

Split = Literal["train", "validation", "test"]

# What does not change a model: how few films and how many bad shards are accepted, and where copies lie here.
_NOT_IN_VERSION = {"min_films", "cache_folder", "max_bad_shards"}


class DatasetShard(Record):
    """A shard of a data set."""

    batch: BatchRef
    sha256: str


class DatasetVideo(Record):
    """A video file of a data set that was made without shards."""

    file: str
    """Its path in the data set's folder."""
    sha256: str


class DatasetTrailer(Record):
    """A trailer of a data set."""

    trailer_id: TrailerId
    film_id: FilmId
    genres: tuple[str, ...]
    split: Split
    shard: int
    """Which of the data set's shards it lies in; without shards, a part of its videos."""
    row: int
    """Its place among the shard's records; without shards, among all videos."""


class Dataset(Record):
    """What `models/<version>/dataset.json` holds."""

    version: Version
    genres: tuple[str, ...]
    """The label vocabulary, in order."""
    shards: tuple[DatasetShard, ...]
    trailers: tuple[DatasetTrailer, ...]
    n_without_genre: int
    """Left out: nothing can be learned from them. They have no genre, or only such as no other film has."""
    model: ModelSettings
    """The settings it was assembled with; training goes by these, whatever is set by then."""
    features: FeatureSettings
    videos: tuple[DatasetVideo, ...] = ()
    """The files it is made of, where there are no shards."""
    folder: str = ""
    """Where they are, on the machine that trains on them."""
    bad_shards: tuple[str, ...] = ()
    """Keys of the shards that were left out: their bytes were not those of their manifests."""

    @property
    def n_films(self) -> int:
        """Films, of all splits."""
        return len({trailer.film_id for trailer in self.trailers})

    @property
    def ref(self) -> DatasetRef:
        """What travels between tasks."""
        return DatasetRef(
            version=self.version,
            key=dataset_key(self.version),
            n_trailers=len(self.trailers),
            n_films=self.n_films,
            genres=self.genres,
        )


def dataset_key(version: str) -> str:
    """Where a data set is described."""
    return model_key(version, "dataset.json")


def assemble_dataset(settings: Settings, store: Store) -> DatasetRef:
    """Fix what the next model is trained on: every good shard there is now, without the trailers taken down.

    Each shard is fetched and checked, which training would do otherwise, minutes later.

    Raises:
        DataError: this cannot be learned from; the message says what is missing.
        CorruptShardError: more shards are bad than `model.max_bad_shards`.
    """
    shards, bad_shards = _check_shards(_usable_shards(list_shards(store), settings.features), settings.model, store)
    taken_down = read_taken_down(store) & {i for _, manifest in shards for i in manifest.trailer_ids}
    trailers, n_without_genre = _label(shards, taken_down, store, settings.model)
    trailers, n_alone = drop_lone_genres(trailers)
    dataset = describe(
        trailers,
        settings,
        n_without_genre=n_without_genre + n_alone,
        shards=[DatasetShard(batch=batch, sha256=manifest.sha256) for batch, manifest in shards],
        taken_down=taken_down,
        bad_shards=bad_shards,
    )
    write_dataset(dataset, settings, store)
    return dataset.ref


def describe(
    trailers: Sequence[DatasetTrailer],
    settings: Settings,
    *,
    n_without_genre: int,
    shards: Sequence[DatasetShard] = (),
    taken_down: frozenset[str] = frozenset(),
    videos: Sequence[DatasetVideo] = (),
    folder: str = "",
    bad_shards: Sequence[str] = (),
) -> Dataset:
    """A data set of these trailers, which lie in shards or are videos of a folder; its version follows from them."""
    return Dataset(
        version=_version(shards, videos, trailers, taken_down, bad_shards, settings),
        genres=tuple(sorted({genre for trailer in trailers for genre in trailer.genres})),
        shards=tuple(shards),
        trailers=tuple(trailers),
        n_without_genre=n_without_genre,
        model=ModelSettings(**settings.model.model_dump(exclude=_NOT_IN_VERSION)),
        features=FeatureSettings(**settings.features.view),
        videos=tuple(videos),
        folder=folder,
        bad_shards=tuple(bad_shards),
    )


def write_dataset(dataset: Dataset, settings: Settings, store: Store) -> None:
    """Put a data set into the store, if it can be learned from.

    Raises:
        DataError: it cannot; the message says what is missing.
    """
    check_learnable(dataset, settings.model)
    if store.create_json(dataset_key(dataset.version), dataset.to_json()):
        logger.info("data set %s: %d trailers of %d films", dataset.version, len(dataset.trailers), dataset.n_films)


def read_dataset(version: str, store: Store) -> Dataset:
    """The data set of a model.

    Raises:
        DataError: there is none of this name.
    """
    try:
        return Dataset.model_validate(store.read_json(dataset_key(version)))
    except MissingObjectError as error:
        raise DataError(f"there is no data set {version}: assemble one with `trailer-ml train`") from error


def split_of(film_id: str, settings: ModelSettings) -> Split:
    """The split a film belongs to: by a hash of its id and nothing else, so that it never moves.

    >>> from trailer_ml.settings import ModelSettings
    >>> split_of("imdb-tt0000002", ModelSettings(test_share=1.0))
    'test'
    """
    place = int(sha256_of(film_id.encode())[:13], 16) / 16**13
    if place < settings.test_share:
        return "test"
    return "validation" if place < settings.test_share + settings.validation_share else "train"


def check_learnable(dataset: Dataset, settings: ModelSettings) -> None:
    """Refuse before minutes are spent.

    Raises:
        DataError: too few films, one genre only, a split without films, no two genres to make batches of.
    """
    if dataset.n_films < settings.min_films:
        raise DataError(
            f"{dataset.n_films} films with a genre that another has too are too few to train on, "
            f"{settings.min_films} are wanted: download more, or lower TRAILER_MODEL_MIN_FILMS"
        )
    if len(dataset.genres) < 2:  # noqa: PLR2004 - one class cannot be told apart from itself
        raise DataError(f"no genre but {dataset.genres[0]} has two films: nothing can be told apart")
    splits = Counter(trailer.split for trailer in dataset.trailers)
    for split in ("train", "test"):
        if not splits[split]:
            raise DataError(f"no film falls into the {split} split: add films, or change TRAILER_MODEL_TEST_SHARE")
    plan_epoch(dataset.trailers, dataset.genres, settings, phase=0, epoch=0)
    known = _films_by_genre(t for t in dataset.trailers if t.split == "train")
    if unseen := [genre for genre in dataset.genres if not known[genre]]:
        logger.warning("no film to train on for %s: %s", dataset.version, ", ".join(unseen))


def _films_by_genre(trailers: Iterable[DatasetTrailer]) -> defaultdict[str, set[str]]:
    films: defaultdict[str, set[str]] = defaultdict(set)
    for trailer in trailers:
        for genre in trailer.genres:
            films[genre].add(trailer.film_id)
    return films


def _usable_shards(
    shards: Sequence[tuple[BatchRef, ShardManifest]], features: FeatureSettings
) -> list[tuple[BatchRef, ShardManifest]]:
    """Those that were made with the features asked for; a model sees all trailers alike."""
    if not shards:
        raise DataError("there are no shards yet: `trailer-ml shard` makes them, after `crawl` and `download`")
    wanted = features.view
    usable = [(batch, manifest) for batch, manifest in shards if is_of_view(manifest, wanted)]
    if not usable:
        raise DataError(
            f"none of the {len(shards)} shards was made with these TRAILER_FEATURES_ settings: {wanted}; "
            f"the first with {shards[0][1].features}"
        )
    if len(usable) < len(shards):
        logger.warning(
            "%d of %d shards were made with other features and stay out", len(shards) - len(usable), len(shards)
        )
    return sorted(usable, key=lambda shard: shard[0].path)


def _check_shards(
    shards: Sequence[tuple[BatchRef, ShardManifest]], settings: ModelSettings, store: Store
) -> tuple[list[tuple[BatchRef, ShardManifest]], list[str]]:
    """Those whose bytes are what their manifests say, and the keys of the others, each named in the log."""
    folder = settings.cache_folder.expanduser() / "shards"
    good, bad = [], []
    for batch, manifest in shards:
        try:
            cached_shard(store, batch, manifest, folder)
        except CorruptShardError as error:
            bad.append(manifest.key)
            if len(bad) > settings.max_bad_shards:
                raise CorruptShardError(
                    f"{error}; {len(bad)} bad shards are more than TRAILER_MODEL_MAX_BAD_SHARDS allows: "
                    "`trailer-ml verify` names all"
                ) from error
            logger.warning("left out: %s", error)
        else:
            good.append((batch, manifest))
    return good, bad


def _label(
    shards: Sequence[tuple[BatchRef, ShardManifest]], taken_down: frozenset[str], store: Store, settings: ModelSettings
) -> tuple[list[DatasetTrailer], int]:
    """The trailers of all shards with what the catalog calls them, and how many have no genre."""
    genres = {trailer.trailer_id: trailer.genres for trailer in read_trailers(store)}
    trailers, seen, n_without_genre = [], set(taken_down), 0
    for number, (_, manifest) in enumerate(shards):
        for row, (trailer_id, film_id) in enumerate(zip(manifest.trailer_ids, manifest.film_ids, strict=True)):
            if trailer_id in seen:
                continue
            seen.add(trailer_id)
            if not genres.get(trailer_id):
                n_without_genre += 1
                continue
            trailers.append(
                DatasetTrailer(
                    trailer_id=trailer_id,
                    film_id=film_id,
                    genres=tuple(sorted(genres[trailer_id])),
                    split=split_of(film_id, settings),
                    shard=number,
                    row=row,
                )
            )
    return trailers, n_without_genre


def drop_lone_genres(trailers: Sequence[DatasetTrailer]) -> tuple[list[DatasetTrailer], int]:
    """The trailers with such of their genres as two films have at least, and how many are left with none.

    A film that is alone in its genre has nothing to be similar to; that is no reason to train no model at all.
    """
    films = _films_by_genre(trailers)
    lone = {genre: members for genre, members in films.items() if len(members) < 2}  # noqa: PLR2004 - needs another
    for genre, (film_id,) in sorted(lone.items()):
        logger.warning("genre %s has one film only (%s) and is left out", genre, film_id)
    kept = [
        trailer.model_copy(update={"genres": tuple(genre for genre in trailer.genres if genre not in lone)})
        for trailer in trailers
        if not lone.keys() >= set(trailer.genres)
    ]
    return kept, len(trailers) - len(kept)


def _version(
    shards: Sequence[DatasetShard],
    videos: Sequence[DatasetVideo],
    trailers: Sequence[DatasetTrailer],
    taken_down: frozenset[str],
    bad_shards: Sequence[str],
    settings: Settings,
) -> str:
    facts: dict[str, Any] = {
        "schema": CODE_SCHEMA,
        "shards": [[shard_key(shard.batch), shard.sha256] for shard in shards],
        "labels": [[trailer.trailer_id, *trailer.genres] for trailer in trailers],
        "taken_down": sorted(taken_down),
        "model": settings.model.model_dump(mode="json", exclude=_NOT_IN_VERSION),
        "backbone_file": _backbone_digest(settings.model),
        "features": settings.features.view,
    }
    if bad_shards:
        facts["bad_shards"] = list(bad_shards)
    if videos:
        facts["videos"] = [video.sha256 for video in videos]
    return f"m-{hashlib.sha256(encode_json(facts)).hexdigest()[:12]}"


def _backbone_digest(settings: ModelSettings) -> str | None:
    """A `.keras` file is named by what is in it: its path may later hold another."""
    if not settings.backbone.endswith(".keras"):
        return None
    path = Path(settings.backbone).expanduser()
    if not path.is_file():
        raise SettingsError(f"TRAILER_MODEL_BACKBONE: there is no file {path}")
    return sha256_of_file(path)
