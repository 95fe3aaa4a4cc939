"""The encoder before training: made once, kept in the store, where training starts and the yardstick of it.

Does not belong here: what the encoder is made of (towers.py, backbones.py).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from trailer_ml.errors import DataError, SettingsError
from trailer_ml.model import archive
from trailer_ml.model.backbones import CALIBRATION_FRAMES, calibrate, load_backbone
from trailer_ml.model.towers import BATCH, build_encoder, frame_model
from trailer_ml.scratch import scratch_folder
from trailer_ml.storage import model_key, sha256_of, sha256_of_file

if TYPE_CHECKING:
    from trailer_ml.model.dataset import Dataset
    from trailer_ml.model.examples import Arrays, Examples
    from trailer_ml.settings import ModelSettings
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)

_SAMPLE_TRAILERS = 64
"""So many training trailers, drawn by the seed, set the scale of what comes out of the backbone."""


class Initial(NamedTuple):
    """A fresh encoder."""

    encoder: keras.Model
    weights: str
    """What the backbone's weights are: imagenet, random, or file <sha256>."""


def set_up_keras(settings: ModelSettings) -> None:
    """Make what follows depend on the settings only.

    Python, numpy and TensorFlow are seeded, no operation may race, and layers get the precision asked for.

    Raises:
        SettingsError: several accelerators were asked for.
    """
    if settings.use_distribution:
        raise SettingsError(
            "TRAILER_MODEL_USE_DISTRIBUTION: Keras has no data parallelism on the TensorFlow backend; "
            "train on one accelerator"
        )
    keras.utils.set_random_seed(settings.seed)
    keras.mixed_precision.set_global_policy("mixed_float16" if settings.mixed_precision else "float32")
    tf.config.experimental.enable_op_determinism()


def read_or_make_initial(dataset: Dataset, examples: Examples, store: Store) -> Initial:
    """The encoder that training starts from.

    Raises:
        SettingsError: the settings name a backbone that cannot be used.
        DataError: its ImageNet weights cannot be had.
    """
    described = store.read_json_or_none(_key(dataset, "json"))
    if described is None:
        encoder, weights = _make(dataset, examples, store)
        data = archive.to_bytes(encoder)
        is_ours = store.create_bytes(_key(dataset, "keras"), data)
        if (
            not is_ours
        ):  # an earlier try was killed, or another is at it: on other hardware, weights may differ a little
            data = store.read_bytes(_key(dataset, "keras"))
        described = {"sha256": sha256_of(data), "weights": weights}
        store.create_json(_key(dataset, "json"), described)
        logger.info("model %s begins: %s, %s weights", dataset.version, dataset.model.backbone, weights)
        if is_ours:
            return Initial(encoder, weights)
    with scratch_folder("trailer-ml-initial-") as folder:
        path = folder / "initial.keras"
        store.read_file(_key(dataset, "keras"), path)
        if sha256_of_file(path) != described["sha256"]:
            raise DataError(f"the initial encoder of {dataset.version} in the store is not the one that was written")
        return Initial(archive.load(path), described["weights"])


def _make(dataset: Dataset, examples: Examples, store: Store) -> Initial:
    sample = _sample(dataset, examples)
    keras.utils.clear_session()  # names count up from the first model on, and they are part of the archive
    set_up_keras(dataset.model)  # after reading: boto3 draws from the same random numbers
    backbone = load_backbone(dataset.model, store)
    if backbone.weights == "random":
        shown = sample.frames[sample.frame_mask]
        order = np.random.default_rng(dataset.model.seed).permutation(len(shown))
        calibrate(backbone.layer, shown[order[:CALIBRATION_FRAMES]])
    set_up_keras(dataset.model)
    encoder = build_encoder(backbone.layer, dataset.model, dataset.features)
    _standardise(encoder, sample)
    return Initial(encoder, backbone.weights)


def _sample(dataset: Dataset, examples: Examples) -> Arrays:
    training = [number for number, trailer in enumerate(dataset.trailers) if trailer.split == "train"]
    rng = np.random.default_rng(dataset.model.seed)
    return examples.read([int(n) for n in rng.permutation(training)[:_SAMPLE_TRAILERS]])


def _standardise(encoder: keras.Model, sample: Arrays) -> None:
    """Give each channel that leaves the backbone mean 0 and variance 1 over the frames of the sample."""
    look = frame_model(encoder)
    vectors = [
        look.predict_on_batch(sample.frames[start : start + BATCH])[sample.frame_mask[start : start + BATCH]]
        for start in range(0, len(sample.frames), BATCH)
    ]
    encoder.get_layer("video_tower").get_layer("standardise").adapt(np.concatenate(vectors)[None])


def _key(dataset: Dataset, ending: str) -> str:
    return model_key(dataset.version, f"initial.{ending}")
