"""A trained model measured on films that were never trained on, beside what it must beat.

Two questions: does a trailer find others of its genres (retrieval.py), and does a changed copy find its original
(near_duplicates.py). Both are put to the trained model, the untrained one, the frozen backbone's vectors averaged over
the frames, the champion and, exactly, to chance.

Does not belong here: the metrics themselves (vectors.py), the page (page.py), and the verdict (registry.py).
"""

from __future__ import annotations

import importlib.metadata
import logging
import platform
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
from keras import ops

from trailer_ml.errors import DataError, ModelMismatchError, NoModelError
from trailer_ml.model import archive, checkpoints
from trailer_ml.model.card import ModelCard, ModelFigures, card_key
from trailer_ml.model.dataset import dataset_key, read_dataset
from trailer_ml.model.encoder import Encoder
from trailer_ml.model.examples import Examples
from trailer_ml.model.initial import read_or_make_initial, set_up_keras
from trailer_ml.model.layers import MaskedMean, UnitVector
from trailer_ml.model.near_duplicates import ALL, chance_of_finding, embed_copies, find_originals
from trailer_ml.model.page import write_page
from trailer_ml.model.registry import load_encoder, read_champion
from trailer_ml.model.retrieval import METRICS, K, estimate_means, measure_retrieval
from trailer_ml.model.tensorboard import write_event_files
from trailer_ml.model.towers import BATCH
from trailer_ml.model.train import read_histories
from trailer_ml.records import Estimate, Evaluation
from trailer_ml.storage import model_key, sha256_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trailer_ml.model.dataset import Dataset, DatasetTrailer
    from trailer_ml.model.examples import Arrays
    from trailer_ml.model.near_duplicates import Copies, Found
    from trailer_ml.model.retrieval import Retrieval
    from trailer_ml.records import DatasetRef
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

    Vectors = dict[str, NDArray[np.float32]]

logger = logging.getLogger(__name__)

OURS, CHAMPION, POOLED, UNTRAINED, CHANCE = "trained", "champion", "mean_pooled", "untrained", "chance"


class Measured(NamedTuple):
    """What some models answered to the same queries and to the same copies."""

    retrieval: dict[str, Retrieval]
    copies: Copies | None
    found: dict[str, Found]
    """Empty where there are no copies."""
    n_trailers: int

    def figures(self) -> dict[str, ModelFigures]:
        """Side by side, chance last."""
        figures = {
            name: ModelFigures(
                retrieval=answers.overall(),
                per_genre=answers.per_genre(),
                copies=self.found[name].figures() if self.found else {},
            )
            for name, answers in self.retrieval.items()
        }
        chance = next(iter(self.retrieval.values())).chance.mean(axis=0)
        figures[CHANCE] = ModelFigures(
            retrieval={name: Estimate(value=float(value)) for name, value in zip(METRICS, chance, strict=True)},
            copies=chance_of_finding(self.copies, self.n_trailers) if self.copies else {},
        )
        return figures


def evaluate_model(dataset: DatasetRef, settings: Settings, store: Store) -> Evaluation:
    """Measure a trained model, and store it: `encoder.keras` first, then what is there to look at, its card last.

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
    set_up_keras(described.model)
    champion = read_champion(store)
    with Examples(described, store, settings.model.cache_folder.expanduser() / "shards") as examples:
        initial = read_or_make_initial(described, examples, store)
        trained = _trained(described, initial.encoder, store)
        data = archive.to_bytes(trained)
        encoder = Encoder(trained, described.version, described.features)
        opponent = _opponent(champion, described, store, settings) if champion else None
        models = _Models(encoder, opponent, read_or_make_initial(described, examples, store).encoder)
        vectors = _embed_all(models, examples)
        measured = _measure(models, vectors, described, settings, store)
    evaluation = _evaluation(described.version, measured, champion)
    key = model_key(described.version, "encoder.keras")
    if not store.create_bytes(key, data):  # an earlier try was killed before its card
        data = store.read_bytes(key)
    card = ModelCard(
        version=described.version,
        encoder_sha256=sha256_of(data),
        video_dim=encoder.video_dim,
        audio_dim=encoder.audio_dim,
        genres=described.genres,
        backbone=described.model.backbone,
        backbone_weights=initial.weights,
        model=described.model,
        features=described.features,
        dataset_key=dataset_key(described.version),
        shards=described.shards,
        bad_shards=described.bad_shards,
        n_trailers=dict(Counter(trailer.split for trailer in described.trailers)),
        n_films={split: len(films) for split, films in _films_by_split(described).items()},
        test_films=tuple(sorted(_films_by_split(described)["test"])),
        evaluation=evaluation,
        figures=measured.figures(),
        held_out_gallery=_among_held_out(vectors, described.trailers),
        history=read_histories(described.version, store),
        previous_champion=champion,
        software={name: importlib.metadata.version(name) for name in ("trailer-ml", "keras", "tensorflow", "numpy")}
        | {"python": platform.python_version()},
    )
    write_event_files(card.version, card.history, store)
    write_page(card, vectors[OURS], measured.retrieval[OURS], described.trailers, store)
    store.create_json(card_key(described.version), card.to_json())
    return evaluation


def _measure_against(champion: str, measured: Evaluation, settings: Settings, store: Store) -> Evaluation:
    """What was measured before, beside another champion: the model and the queries are what they were."""
    key = model_key(measured.version, f"evaluations/{champion}.json")
    kept = store.read_json_or_none(key)
    if kept is not None:
        return Evaluation.model_validate(kept)
    described = read_dataset(measured.version, store)
    cleared = dict.fromkeys(("champion_map_at_k", "champion_gain", "champion_copies", "champion_copies_gain"))
    evaluation = measured.model_copy(update={**cleared, "champion": champion})
    if opponent := _opponent(champion, described, store, settings):
        ours = load_encoder(store, measured.version, settings.model.cache_folder)
        models = _Models(ours, opponent)
        with Examples(described, store, settings.model.cache_folder.expanduser() / "shards") as examples:
            both = _measure(models, _embed_all(models, examples), described, settings, store)
        evaluation = evaluation.model_copy(update=_beside_champion(both))
    store.create_json(key, evaluation.to_json())
    return evaluation


class _Models:
    """The models that are measured together, each trailer being read once for all of them.

    Args:
        ours: the trained one.
        opponent: the champion, if it can be compared.
        untrained: where training began; its backbone is the frozen one.
    """

    def __init__(self, ours: Encoder, opponent: Encoder | None, untrained: keras.Model | None = None) -> None:
        self._encoders = {OURS: ours} | ({CHAMPION: opponent} if opponent else {})
        self._untrained = None if untrained is None else _with_pooled(untrained)

    def embed(self, arrays: Arrays) -> Vectors:
        """At most BATCH trailers -> their vectors by each model."""
        vectors = {name: encoder.embed(*arrays) for name, encoder in self._encoders.items()}
        if self._untrained is not None:
            vectors[POOLED], vectors[UNTRAINED] = self._untrained.predict_on_batch(list(arrays))
        return vectors


def _with_pooled(untrained: keras.Model) -> keras.Model:
    """An encoder that also answers with the mean over the frames of what its backbone says, as a unit vector."""
    frame_mask = untrained.inputs[1]
    mean = MaskedMean()(untrained.get_layer("backbone").output, frame_mask)
    pooled = UnitVector(dtype="float32")(mean, ops.any(frame_mask, axis=1))
    return keras.Model(untrained.inputs, [pooled, untrained.output], name="untrained")


def _measure(models: _Models, vectors: Vectors, dataset: Dataset, settings: Settings, store: Store) -> Measured:
    copies = embed_copies(dataset, models.embed, settings, store)
    if copies is None:
        logger.warning("near-duplicates are not measured for %s: no media of held-out trailers", dataset.version)
    return Measured(
        retrieval={name: measure_retrieval(v, dataset.trailers) for name, v in vectors.items()},
        copies=copies,
        found={name: find_originals(copies, name, v, dataset) for name, v in vectors.items()} if copies else {},
        n_trailers=len(dataset.trailers),
    )


def _evaluation(version: str, measured: Measured, champion: str | None) -> Evaluation:
    """What the gate judges by."""
    ours = measured.retrieval[OURS]
    overall = ours.overall()
    low, high = overall["map"].low, overall["map"].high
    return Evaluation(
        version=version,
        n_queries=len(ours.films),
        k=K,
        map_at_k=overall["map"].value,
        map_interval=(low, high) if low is not None and high is not None else None,
        untrained_map_at_k=measured.retrieval[UNTRAINED].map_at_k,
        mean_pooled_map_at_k=measured.retrieval[POOLED].map_at_k,
        chance_map_at_k=float(ours.chance[:, METRICS.index("map")].mean()),
        recall_at_k=overall["recall"].value,
        precision_at_k=overall["precision"].value,
        ndcg_at_k=overall["ndcg"].value,
        per_genre={genre: metrics["map"].value for genre, metrics in ours.per_genre().items()},
        copies=measured.found[OURS].figures()[ALL] if measured.found else None,
        champion=champion,
        **(_beside_champion(measured) if CHAMPION in measured.retrieval else {}),
    )


def _beside_champion(measured: Measured) -> dict[str, Any]:
    """The champion's figures, and how far above them ours are: the same queries, so the interval is of the pairs."""
    ours, theirs = measured.retrieval[OURS], measured.retrieval[CHAMPION]
    beside: dict[str, Any] = {
        "champion_map_at_k": theirs.map_at_k,
        "champion_gain": estimate_means(ours.values - theirs.values, ours.films, METRICS)["map"],
    }
    if measured.found:
        ours_found, their_found = measured.found[OURS], measured.found[CHAMPION]
        gains = (ours_found.values - their_found.values)[:, :1]
        beside["champion_copies"] = their_found.figures()[ALL]
        beside["champion_copies_gain"] = estimate_means(gains, ours_found.films, ["recall_at_1"])["recall_at_1"]
    return beside


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


def _embed_all(models: _Models, examples: Examples) -> Vectors:
    """The vectors of every trailer by every model."""
    parts = [
        models.embed(examples.read(range(start, min(start + BATCH, len(examples)))))
        for start in range(0, len(examples), BATCH)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _among_held_out(vectors: Vectors, trailers: Sequence[DatasetTrailer]) -> dict[str, float]:
    """The stricter figures; none where the held-out films are too few to have anything in common."""
    try:
        ours, untrained = (measure_retrieval(vectors[name], trailers, only_held_out=True) for name in (OURS, UNTRAINED))
    except DataError:
        return {}
    return {
        "map_at_k": ours.map_at_k,
        "untrained_map_at_k": untrained.map_at_k,
        "chance_map_at_k": float(ours.chance[:, METRICS.index("map")].mean()),
        "n_queries": float(len(ours.films)),
    }


def _films_by_split(dataset: Dataset) -> defaultdict[str, set[str]]:
    films: defaultdict[str, set[str]] = defaultdict(set)
    for trailer in dataset.trailers:
        films[trailer.split].add(trailer.film_id)
    return films
