"""The pretrained CNN of the video tower: found by name or by path, its weights fetched once, checked, calibrated.

Does not belong here: what is built on top of it (towers.py), and which of its layers are trained when (train.py).
"""

from __future__ import annotations

import difflib
import hashlib
import logging
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from trailer_ml.errors import DataError, SettingsError
from trailer_ml.model.layers import UNIT_RANGE, FrameBackbone, leaf_layers
from trailer_ml.scratch import scratch_folder
from trailer_ml.storage import backbone_key, encode_json, sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from trailer_ml.settings import ModelSettings
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)

_RANGES = {"": None, "0..255": None, UNIT_RANGE: UNIT_RANGE, "-1..1": "mobilenet_v2"}
"""How pixels can be wanted, and the preprocessing that makes them so."""
_LEAST_SPAN, _MOST = 0.5, 300.0
"""Black and white, as they reach a backbone's first weights: apart by so much at least, and no further from 0."""
CALIBRATION_FRAMES = 64
"""So many frames at most set a random backbone's batch statistics: enough for a mean, and one batch in memory."""


class Backbone(NamedTuple):
    """A backbone in its layer, and where its weights came from, in words for the card."""

    layer: FrameBackbone
    weights: str


def load_backbone(settings: ModelSettings, store: Store) -> Backbone:
    """The backbone that the settings ask for.

    Raises:
        SettingsError: there is no such backbone, it does not take (n, image_size, image_size, 3), or its pixels are
            wanted otherwise than the settings say.
        DataError: ImageNet's weights cannot be had here, and random ones were not asked for.
    """
    if settings.backbone.endswith(".keras"):
        path = Path(settings.backbone).expanduser()
        model, weights = _open_file(path), f"file {sha256_of_file(path)}"
        _check_shapes(model, settings)
        preprocessing = _pixels_of(model, settings)
    else:
        if settings.backbone_pixels:
            raise SettingsError(
                f"TRAILER_MODEL_BACKBONE_PIXELS is for a .keras file: {settings.backbone} has its own preprocessing"
            )
        preprocessing = _preprocessing_of(settings.backbone)
        model = _build(settings)
        if settings.weights == "imagenet":
            _load_imagenet(model, settings, store)
        weights = settings.weights
    if settings.backbone_layer:
        model = _cut(model, settings.backbone_layer)
    _check_shapes(model, settings)
    return Backbone(FrameBackbone(model, settings.image_size, preprocessing, name="backbone"), weights)


def calibrate(layer: FrameBackbone, frames: NDArray[np.uint8]) -> None:
    """Set the moving statistics of a random backbone's batch normalisation to those of some frames.

    A freshly made network says mean 0 and variance 1 of every layer. In inference mode, the only one used here, its
    signal then dies or explodes on the way through a hundred layers. One pass in training mode without momentum mends
    that.

    Args:
        layer: its backbone's moving statistics are changed.
        frames: (n, h, w, 3) uint8; the first CALIBRATION_FRAMES are used.
    """
    norms = [part for part in leaf_layers(layer.backbone) if isinstance(part, keras.layers.BatchNormalization)]
    if not norms:
        return
    before = [(norm.momentum, norm.trainable) for norm in norms]
    for norm in norms:
        norm.momentum, norm.trainable = 0.0, True
    # As a graph, which forgets a layer's answer once it is used: eagerly all of them are held, 1 GB at 96 pixels.
    tf.function(lambda pictures: layer.backbone(layer.prepare(pictures), training=True))(frames[:CALIBRATION_FRAMES])
    for norm, (momentum, trainable) in zip(norms, before, strict=True):
        norm.momentum, norm.trainable = momentum, trainable


def weights_digest(layer: FrameBackbone) -> str:
    """A name for what this layer computes: 16 hex digits over its settings, its architecture and every weight.

    What is trainable makes no difference. The names of layers do: they are counted anew for each model (initial.py),
    and another name costs a computation, never a wrong answer.
    """
    architecture = keras.saving.serialize_keras_object(layer.backbone)["config"]
    facts = [layer.image_size, layer.preprocessing, layer.compute_dtype, _without_trainable(architecture)]
    digest = hashlib.sha256(encode_json(facts))
    for weight in layer.backbone.weights:
        digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()[:16]


def _without_trainable(config: Any) -> Any:
    if isinstance(config, dict):
        return {name: _without_trainable(value) for name, value in config.items() if name != "trainable"}
    return [_without_trainable(member) for member in config] if isinstance(config, list | tuple) else config


def _names() -> list[str]:
    return [name for name in dir(keras.applications) if name[0].isupper()]


def _preprocessing_of(name: str, setting: str = "BACKBONE", otherwise: str = "path to a .keras file") -> str:
    if name not in _names():
        folded = {known.lower(): known for known in _names()}
        close = [folded[match] for match in difflib.get_close_matches(name.lower(), folded, n=3)]
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise SettingsError(
            f"TRAILER_MODEL_{setting}: {name!r} is no model of keras.applications and no {otherwise}{hint}"
        )
    return str(getattr(keras.applications, name).__module__.rpartition(".")[2])


def _pixels_of(model: keras.Model, settings: ModelSettings) -> str | None:
    """The preprocessing of a file, which cannot say it itself; refused where it is plainly another."""
    asked, name = settings.backbone_pixels, Path(settings.backbone).name
    ranges = ", ".join(filter(None, _RANGES))
    known = f"TRAILER_MODEL_BACKBONE_PIXELS to {ranges} or the name of a model of keras.applications"
    scaling = _scaling_of(model)
    if not scaling and not asked:
        raise SettingsError(
            f"backbone {name} does not scale pixels itself, and a file does not say how it wants them: set {known}"
        )
    preprocessing = _RANGES[asked] if asked in _RANGES else _preprocessing_of(asked, "BACKBONE_PIXELS", "range")
    if scaling:
        seen = FrameBackbone(model, settings.image_size, preprocessing).prepare(_black_and_white(settings.image_size))
        for layer in scaling:
            seen = layer(seen)
        low, high = float(np.min(seen)), float(np.max(seen))
        if high - low < _LEAST_SPAN or max(-low, high) > _MOST:
            raise SettingsError(
                f"backbone {name} scales pixels itself, and of {asked or '0..255'} it makes {low:.3g} to {high:.3g}, "
                f"so it was trained on others: set {known}"
            )
    return preprocessing


def _black_and_white(size: int) -> NDArray[np.uint8]:
    """(2, size, size, 3) uint8."""
    return np.stack([np.full((size, size, 3), shade, np.uint8) for shade in (0, 255)])


def _scaling_of(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers that scale pixels before the first weights are reached."""
    found = []
    for layer in leaf_layers(model):
        if isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization):
            found.append(layer)
        elif layer.weights:
            break
    return found


def _build(settings: ModelSettings) -> keras.Model:
    size = settings.image_size
    try:
        return getattr(keras.applications, settings.backbone)(
            include_top=False, weights=None, input_shape=(size, size, 3), **settings.backbone_arguments
        )
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"keras.applications.{settings.backbone} refuses size {size} with {settings.backbone_arguments}: "
            f"{_first_line(error)}"
        ) from error


def _cut(model: keras.Model, layer: str) -> keras.Model:
    """The model up to one of its layers."""
    names = [member.name for member in model.layers]
    if layer not in names:
        close = difflib.get_close_matches(layer, names, n=3) or names[-3:]
        known = ", ".join(close)
        raise SettingsError(f"TRAILER_MODEL_BACKBONE_LAYER: {model.name} has no layer {layer!r}, but {known}")
    return keras.Model(model.inputs[0], model.get_layer(layer).output, name=f"{model.name}_{layer}")


def _load_imagenet(model: keras.Model, settings: ModelSettings, store: Store) -> None:
    """Into `model`: from the store, or fetched by Keras and put there, so that no later run needs a network."""
    arguments = hashlib.sha256(encode_json(settings.backbone_arguments)).hexdigest()[:8]
    key = backbone_key(f"{settings.backbone}-{arguments}-imagenet.weights.h5")
    with scratch_folder("trailer-ml-backbone-") as folder:
        path = folder / "imagenet.weights.h5"
        if not store.exists(key):
            with _said_plainly(settings, f"s3://{store.settings.bucket}/{store.settings.prefix}{key}"):
                fetched = getattr(keras.applications, settings.backbone)(
                    include_top=False,
                    weights="imagenet",
                    input_shape=model.input_shape[1:],
                    **settings.backbone_arguments,
                )
            fetched.save_weights(path)
            store.create_bytes(key, path.read_bytes())
            logger.info("ImageNet weights of %s were fetched and are kept at %s", settings.backbone, key)
        store.read_file(key, path)
        try:
            model.load_weights(path)
        except Exception as error:  # HDF5 and Keras each have errors of their own
            raise DataError(
                f"{key} does not hold the weights of {settings.backbone} ({_first_line(error)}): delete it from the "
                "store, and it is fetched again"
            ) from error


@contextmanager
def _said_plainly(settings: ModelSettings, where: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Keras raises a bare Exception where a download fails
        raise DataError(
            f"the ImageNet weights of {settings.backbone} cannot be had here ({_first_line(error)}): "
            f"put them at {where}, name a .keras file in TRAILER_MODEL_BACKBONE, "
            "or ask for random ones with TRAILER_MODEL_WEIGHTS=random"
        ) from error


def _open_file(path: Path) -> keras.Model:
    if not path.is_file():
        raise SettingsError(f"TRAILER_MODEL_BACKBONE: there is no file {path}")
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # zip, JSON, HDF5 and Keras each have errors of their own
        raise SettingsError(f"TRAILER_MODEL_BACKBONE: {path} is no Keras model: {_first_line(error)}") from error
    return model


def _check_shapes(model: keras.Model, settings: ModelSettings) -> None:
    size, name = settings.image_size, Path(settings.backbone).name
    shape = getattr(model, "input_shape", None)  # there is none before a model has been built
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[3] != 3:  # noqa: PLR2004 - one RGB picture
        raise SettingsError(f"backbone {name} takes {shape}, not pictures (n, height, width, 3)")
    if not {shape[1], shape[2]} <= {None, size}:
        raise SettingsError(
            f"backbone {name} takes pictures of {shape[1]}x{shape[2]}, not {size}x{size}: "
            f"set TRAILER_MODEL_IMAGE_SIZE={shape[1]}"
        )
    answer = model.output_shape
    if not isinstance(answer, tuple) or len(answer) not in {2, 4} or answer[-1] is None:
        raise SettingsError(f"backbone {name} answers {answer}, neither (n, h, w, channels) nor (n, channels)")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
