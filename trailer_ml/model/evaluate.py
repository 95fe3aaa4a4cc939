"""Retrieval by genre on films that were never trained on, beside what it must beat.

A query is a trailer of a test film; its gallery is every trailer of another film; what shares a genre with it is
relevant. The same queries are put to the model before training, to the champion, and, exactly, to chance.

Does not belong here: the metrics themselves (vectors.py), and the verdict (registry.py).
"""

from __future__ import annotations

import importlib.metadata
import logging
import platform
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trailer_ml.errors import DataError, ModelMismatchError, NoModelError
from trailer_ml.model import archive, checkpoints
from trailer_ml.model.card import ModelCard, card_key
from trailer_ml.model.dataset import dataset_key, read_dataset
from trailer_ml.model.encoder import Encoder
from trailer_ml.model.examples import Examples
from trailer_ml.model.initial import read_or_make_initial, set_up_keras
from trailer_ml.model.registry import load_encoder, read_champion
from trailer_ml.model.towers import BATCH
from trailer_ml.model.train import read_histories
from trailer_ml.records import Evaluation
from trailer_ml.storage import model_key, sha256_of
from trailer_ml.vectors import average_precision_at_k, chance_average_precision_at_k, precision_at_k, recall_at_k

if TYPE_CHECKING:
    from collections.abc import Sequence

    import keras
    from numpy.typing import NDArray

    from trailer_ml.model.dataset import Dataset, DatasetTrailer
    from trailer_ml.records import DatasetRef
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)

K = 10


class Retrieval(NamedTuple):
    """Figures of one model on some queries."""

    n_queries: int
    map_at_k: float
    recall_at_k: float
    precision_at_k: float
    chance_map_at_k: float
    per_genre: dict[str, float]
    """Mean AP@k of the queries of each genre."""


def evaluate_model(dataset: DatasetRef, settings: Settings, store: Store) -> Evaluation:
    """Measure a trained model, and store it: `encoder.keras` first, its card last.

    The card says how it compares with the champion of that time. Where another one has come since, the same queries
    are put to that one too, and the result is kept beside the card, one for each champion.

    Raises:
        DataError: its training is not finished.
    """
    found = store.read_json_or_none(card_key(dataset.version))
    if found is None:
        return _measure_first(dataset, settings, store)
    measured = ModelCard.model_validate(found).evaluation
    champion = read_champion(store)
    if champion in {None, dataset.version, measured.champion}:
        return measured
    return _measure_against(champion, measured, settings, store)


def _measure_first(dataset: DatasetRef, settings: Settings, store: Store) -> Evaluation:
    described = read_dataset(dataset.version, store)
    cache_folder = settings.model.cache_folder.expanduser()
    set_up_keras(described.model)
    with Examples(described, store, cache_folder / "shards") as examples:
        initial = read_or_make_initial(described, examples, store)
        trained = _trained(described, initial.encoder, store)
        data = archive.to_bytes(trained)
        untrained = read_or_make_initial(described, examples, store).encoder
        encoders = {
            name: Encoder(model, described.version, described.features)
            for name, model in (("trained", trained), ("untrained", untrained))
        }
        champion = read_champion(store)
        if champion and (opponent := _opponent(champion, described, store, settings)):
            encoders["champion"] = opponent
        vectors = _embed_all(encoders, examples)
    figures = {name: measure_retrieval(v, described.trailers) for name, v in vectors.items()}
    ours = figures["trained"]
    evaluation = Evaluation(
        version=described.version,
        n_queries=ours.n_queries,
        k=K,
        map_at_k=ours.map_at_k,
        untrained_map_at_k=figures["untrained"].map_at_k,
        chance_map_at_k=ours.chance_map_at_k,
        recall_at_k=ours.recall_at_k,
        precision_at_k=ours.precision_at_k,
        per_genre=ours.per_genre,
        champion=champion,
        champion_map_at_k=figures["champion"].map_at_k if "champion" in figures else None,
    )
    key = model_key(described.version, "encoder.keras")
    if not store.create_bytes(key, data):  # an earlier try was killed before its card
        data = store.read_bytes(key)
    card = ModelCard(
        version=described.version,
        encoder_sha256=sha256_of(data),
        video_dim=encoders["trained"].video_dim,
        audio_dim=encoders["trained"].audio_dim,
        genres=described.genres,
        backbone=described.model.backbone,
        backbone_weights=initial.weights,
        model=described.model,
        features=described.features,
        dataset_key=dataset_key(described.version),
        shards=described.shards,
        n_trailers=dict(Counter(trailer.split for trailer in described.trailers)),
        n_films={split: len(films) for split, films in _films_by_split(described).items()},
        test_films=tuple(sorted(_films_by_split(described)["test"])),
        evaluation=evaluation,
        held_out_gallery=_among_held_out(vectors, described.trailers),
        history=read_histories(described.version, store),
        previous_champion=champion,
        software={name: importlib.metadata.version(name) for name in ("trailer-ml", "keras", "tensorflow", "numpy")}
        | {"python": platform.python_version()},
    )
    store.create_json(card_key(described.version), card.to_json())
    return evaluation


def _measure_against(champion: str, measured: Evaluation, settings: Settings, store: Store) -> Evaluation:
    """What was measured before, beside another champion: the model and the queries are what they were."""
    key = model_key(measured.version, f"evaluations/{champion}.json")
    kept = store.read_json_or_none(key)
    if kept is not None:
        return Evaluation.model_validate(kept)
    described = read_dataset(measured.version, store)
    figure = None
    if opponent := _opponent(champion, described, store, settings):
        with Examples(described, store, settings.model.cache_folder.expanduser() / "shards") as examples:
            vectors = _embed_all({"champion": opponent}, examples)
        figure = measure_retrieval(vectors["champion"], described.trailers).map_at_k
    evaluation = measured.model_copy(update={"champion": champion, "champion_map_at_k": figure})
    store.create_json(key, evaluation.to_json())
    return evaluation


def measure_retrieval(
    vectors: NDArray[np.float32], trailers: Sequence[DatasetTrailer], *, only_held_out: bool = False, k: int = K
) -> Retrieval:
    """How well the trailers of test films find trailers of other films that share a genre.

    Args:
        vectors: (n, d) unit rows, one a trailer.
        trailers: (n) what they are of.
        only_held_out: whether the gallery is held out as well; otherwise it is every trailer.
        k: depth.
    """
    is_test = np.array([trailer.split == "test" for trailer in trailers])
    gallery = np.flatnonzero(is_test) if only_held_out else np.arange(len(trailers))
    films = np.array([trailer.film_id for trailer in trailers])
    genre_names = sorted({genre for trailer in trailers for genre in trailer.genres})
    has_genre = np.array([[genre in trailer.genres for genre in genre_names] for trailer in trailers], bool)
    hits, n_relevant, n_gallery, queries = [], [], [], []
    for query in np.flatnonzero(is_test):
        others = gallery[films[gallery] != films[query]]
        relevant = (has_genre[others] & has_genre[query]).any(axis=1)
        if not relevant.any():
            continue
        order = np.argsort(-(vectors[others] @ vectors[query]), kind="stable")[:k]
        hits.append(np.pad(relevant[order], (0, k - len(order))))
        n_relevant.append(int(relevant.sum()))
        n_gallery.append(len(others))
        queries.append(query)
    if not queries:
        raise DataError(
            "no held-out trailer shares a genre with a trailer of another film: there is nothing to measure"
        )
    precision = average_precision_at_k(hits, n_relevant, k)
    of_queries = has_genre[queries]
    return Retrieval(
        n_queries=len(queries),
        map_at_k=float(precision.mean()),
        recall_at_k=float(recall_at_k(hits, n_relevant, k).mean()),
        precision_at_k=float(precision_at_k(hits, k).mean()),
        chance_map_at_k=float(chance_average_precision_at_k(n_relevant, n_gallery, k).mean()),
        per_genre={
            genre: float(precision[of_queries[:, i]].mean())
            for i, genre in enumerate(genre_names)
            if of_queries[:, i].any()
        },
    )


def _trained(dataset: Dataset, encoder: keras.Model, store: Store) -> keras.Model:
    """The encoder as the last phase left it."""
    last = len(dataset.model.phases) - 1
    latest = checkpoints.read_latest(store, dataset.version)
    is_finished = store.exists(model_key(dataset.version, f"phases/{last:02d}.json"))
    end = (last, dataset.model.phases[last].epochs)
    if latest is None or not is_finished or (latest.phase, latest.n_epochs) != end:
        raise DataError(f"the training of {dataset.version} is not finished: `trailer-ml train` goes on with it")
    checkpoints.restore(latest, {"encoder": encoder.variables})
    return encoder


def _opponent(champion: str, dataset: Dataset, store: Store, settings: Settings) -> Encoder | None:
    """The champion, if it can look at these trailers.

    Only what will never change is taken for an answer, for the answer is kept: a store that does not answer is none.
    """
    try:
        encoder = load_encoder(store, champion, settings.model.cache_folder)
    except (NoModelError, ModelMismatchError) as error:
        logger.warning("the champion %s cannot be compared: %s", champion, error)
        return None
    if encoder.feature_settings.view != dataset.features.view:
        logger.warning("the champion %s was trained on other features and cannot be compared", champion)
        return None
    return encoder


def _embed_all(encoders: dict[str, Encoder], examples: Examples) -> dict[str, NDArray[np.float32]]:
    """The vectors of every trailer by every encoder, each trailer being read once."""
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in encoders}
    for start in range(0, len(examples), BATCH):
        arrays = examples.read(range(start, min(start + BATCH, len(examples))))
        for name, encoder in encoders.items():
            parts[name].append(encoder.embed(*arrays))
    return {name: np.concatenate(vectors) for name, vectors in parts.items()}


def _among_held_out(vectors: dict[str, NDArray[np.float32]], trailers: Sequence[DatasetTrailer]) -> dict[str, float]:
    """The stricter figures; none where the held-out films are too few to have anything in common."""
    try:
        figures = {name: measure_retrieval(v, trailers, only_held_out=True) for name, v in vectors.items()}
    except DataError:
        return {}
    return {
        "map_at_k": figures["trained"].map_at_k,
        "untrained_map_at_k": figures["untrained"].map_at_k,
        "chance_map_at_k": figures["trained"].chance_map_at_k,
        "n_queries": float(figures["trained"].n_queries),
    }


def _films_by_split(dataset: Dataset) -> defaultdict[str, set[str]]:
    films: defaultdict[str, set[str]] = defaultdict(set)
    for trailer in dataset.trailers:
        films[trailer.split].add(trailer.film_id)
    return films
