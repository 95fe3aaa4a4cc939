"""The card of a model: everything there is to know about it, written last, so that where it is the model is whole.

Does not belong here: computing any of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from trailer_ml.errors import MissingObjectError, ModelMismatchError, NoModelError
from trailer_ml.model.dataset import DatasetShard
from trailer_ml.records import CopyFigures, Estimate, Evaluation, Record, Version
from trailer_ml.settings import FeatureSettings, ModelSettings
from trailer_ml.storage import model_key

if TYPE_CHECKING:
    from trailer_ml.storage import Store


class PhaseHistory(Record):
    """What a phase of training went through: `phases/<number>.json`."""

    phase: str
    epochs: tuple[dict[str, float], ...]
    """Loss and metrics of each epoch; of a triplet phase also the share of active pairs and the mean pair distance."""


class ModelFigures(Record):
    """All that was measured of one model."""

    retrieval: dict[str, Estimate]
    """By metric: map, recall, precision and ndcg, each at k."""
    per_genre: dict[str, dict[str, Estimate]] = Field(default_factory=dict)
    """The same of the queries of each genre."""
    copies: dict[str, CopyFigures] = Field(default_factory=dict)
    """Near-duplicates, by change, and `all` of them; empty where they were not measured."""


class ModelCard(Record):
    """What `models/<version>/card.json` holds."""

    version: Version
    encoder_sha256: str
    video_dim: int
    """The first `video_dim` numbers of a vector are its video part."""
    audio_dim: int
    genres: tuple[str, ...]
    backbone: str
    backbone_weights: str
    """What training began with: imagenet, random, or file <sha256>."""
    model: ModelSettings
    features: FeatureSettings
    """How a trailer has to be looked at before this model can embed it."""
    dataset_key: str
    shards: tuple[DatasetShard, ...]
    bad_shards: tuple[str, ...] = ()
    """Keys of those that were left out: their bytes were not those of their manifests."""
    n_trailers: dict[str, int]
    """By split."""
    n_films: dict[str, int]
    test_films: tuple[str, ...]
    evaluation: Evaluation
    figures: dict[str, ModelFigures] = Field(default_factory=dict)
    """Side by side: trained, champion, mean_pooled, untrained, chance."""
    held_out_gallery: dict[str, float]
    """The same queries among held-out films only: map_at_k, untrained_map_at_k, chance_map_at_k."""
    history: tuple[PhaseHistory, ...]
    previous_champion: Version | None
    """Who was in use when this was evaluated."""
    software: dict[str, str]


def card_key(version: str) -> str:
    """Where the card of a model is."""
    return model_key(version, "card.json")


def read_card(version: str, store: Store) -> ModelCard:
    """The card of a model.

    Raises:
        NoModelError: there is no such model, or it has not been evaluated.
        ModelMismatchError: it was written by code of another schema.
    """
    try:
        return ModelCard.model_validate(store.read_json(card_key(version)))
    except MissingObjectError as error:
        raise NoModelError(f"there is no model {version}: `trailer-ml train` makes one") from error
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ModelMismatchError(
            f"{card_key(version)} was written by another version of the code ({where}: {error.errors()[0]['msg']}): "
            "train a model with this one, or go on with that version"
        ) from error
