"""The encoder before training: made once, kept in the store, where training starts and the yardstick of it.

Does not belong here: what the encoder is made of (towers.py, backbones.py).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from trailer_ml.errors import DataError
from trailer_ml.model import archive
from trailer_ml.model.backbones import CALIBRATION_FRAMES, calibrate, load_backbone
from trailer_ml.model.devices import is_compiled
from trailer_ml.model.towers import (
    BATCH,
    MAX_DEVIATIONS,
    build_encoder,
    frame_model,
    n_learned,
    small_spectrogram_model,
)
from trailer_ml.scratch import scratch_folder
from trailer_ml.storage import model_key, sha256_of, sha256_of_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trailer_ml.model.dataset import Dataset
    from trailer_ml.model.examples import Arrays, Examples
    from trailer_ml.settings import ModelSettings
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)

_SHORTEST = 0.01
"""Of the length of the longest direction: what is shorter is noise and is not made longer any more."""
_EPSILON = 1e-12
_SAMPLE_TRAILERS = 64
"""So many training trailers, drawn by the seed, set the scale of what comes out of the backbone."""


class Initial(NamedTuple):
    """A fresh encoder."""

    encoder: keras.Model
    weights: str
    """What the backbone's weights are: imagenet, random, or file <sha256>."""


def set_up_keras(settings: ModelSettings) -> None:
    """Make what follows depend on the settings only.

    Python, numpy and TensorFlow are seeded, no operation may race, and new layers are of float32. Operations
    may race where XLA is asked for: Keras has the one or the other.
    """
    keras.utils.set_random_seed(settings.seed)
    keras.mixed_precision.set_global_policy("float32")
    if not is_compiled(settings):
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
    """Give what leaves the backbone, and the spectrum of the sound, mean 0 and variance 1 over the sample."""
    look = frame_model(encoder)
    vectors = [
        look.predict_on_batch(sample.frames[start : start + BATCH])[sample.frame_mask[start : start + BATCH]]
        for start in range(0, len(sample.frames), BATCH)
    ]
    _fit(encoder.get_layer("video_tower"), "video", np.concatenate(vectors)[None])
    audio = encoder.get_layer("audio_tower")
    if sample.has_audio.any() and n_learned(encoder, "audio") < audio.output_shape[-1]:
        small = small_spectrogram_model(encoder).predict_on_batch(sample.spectrogram[sample.has_audio])
        look = keras.Model(audio.inputs[0], audio.get_layer("spectrum").output)
        _fit(audio, "audio", look.predict_on_batch(small))


def _fit(tower: keras.Model, name: str, rows: NDArray[np.float32]) -> None:
    """Standardise by rows (..., c), and project what is not learned on their principal directions."""
    standardise = tower.get_layer("standardise")
    standardise.adapt(rows)
    if tower.get_layer(f"{name}_projection").units < tower.output_shape[-1]:
        kernel = tower.get_layer(f"{name}_directions").kernel
        standard = np.clip(keras.ops.convert_to_numpy(standardise(rows)), -MAX_DEVIATIONS, MAX_DEVIATIONS)
        kernel.assign(find_directions(standard.reshape(-1, rows.shape[-1]), kernel.shape[1]))


def find_directions(rows: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """The n directions in which rows vary most, each divided by the root of how much: so none drowns the others.

    Args:
        rows: (m, c) float, of mean 0.
        n: directions.

    Returns:
        (c, n) float; zeros where there are not that many.
    """
    _, lengths, directions = np.linalg.svd(rows, full_matrices=False)
    lengths = np.maximum(lengths / max(lengths[0], _EPSILON), _SHORTEST)
    kernel = (directions / np.sqrt(lengths)[:, None])[:n].T
    return np.pad(kernel, ((0, 0), (0, n - kernel.shape[1])))


def _key(dataset: Dataset, ending: str) -> str:
    return model_key(dataset.version, f"initial.{ending}")
