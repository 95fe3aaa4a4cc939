"""The layers of our own that a saved encoder needs to be loaded again.

Does not belong here: how they are put together (towers.py).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from trailer_ml.model.losses import PACKAGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EPSILON = 1e-12
UNIT_RANGE = "0..1"


@keras.saving.register_keras_serializable(PACKAGE)
class FrameBackbone(keras.layers.Layer):
    """(n, n_frames, h, w, 3) uint8 RGB -> (n, n_frames, c): one vector a frame.

    Frames are scaled to the backbone's size, given its own preprocessing, and its answer is averaged over the
    picture. The frames of a batch go through as one long batch, which is what TimeDistributed means and many times
    faster. Batch normalisation always runs in inference mode: the few trailers of a batch are no estimate of
    anything.

    Args:
        backbone: (n, image_size, image_size, 3) float -> (n, h', w', c) or (n, c).
        image_size: pixels, height and width.
        preprocessing: the module of keras.applications whose `preprocess_input` it wants; None: it takes 0..255, and
            UNIT_RANGE: 0..1.
    """

    def __init__(self, backbone: keras.Model, image_size: int, preprocessing: str | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.backbone = backbone
        self.image_size = image_size
        self.preprocessing = preprocessing
        self._preprocess = _find_preprocessing(preprocessing)

    def prepare(self, frames: Any) -> Any:
        """(..., h, w, 3) uint8 -> (m, image_size, image_size, 3) float, as the backbone wants them."""
        pictures = ops.cast(ops.reshape(frames, (-1, *frames.shape[-3:])), self.compute_dtype)
        if tuple(pictures.shape[1:3]) != (self.image_size, self.image_size):
            pictures = resize(pictures, self.image_size)
        return self._preprocess(pictures) if self._preprocess else pictures

    def call(self, frames: Any) -> Any:
        """One vector a frame."""
        answer = self.backbone(self.prepare(frames), training=False)
        if len(answer.shape) == 4:  # noqa: PLR2004 - a picture with channels
            answer = ops.mean(answer, axis=(1, 2))
        return ops.reshape(answer, (-1, frames.shape[1], answer.shape[-1]))

    def compute_output_shape(self, frames_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(n, n_frames, c)."""
        return (*frames_shape[:2], self.backbone.output_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """What it takes to make it again."""
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "image_size": self.image_size,
            "preprocessing": self.preprocessing,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FrameBackbone:
        """The inverse of `get_config`."""
        return cls(**{**config, "backbone": keras.saving.deserialize_keras_object(config["backbone"])})


def _find_preprocessing(name: str | None) -> Any:
    if name == UNIT_RANGE:
        return lambda pictures: pictures / 255
    return importlib.import_module(f"keras.applications.{name}").preprocess_input if name else None


@keras.saving.register_keras_serializable(PACKAGE)
class Shrink(keras.layers.Layer):
    """(n, h, w, c) -> (n, size, size, c) float.

    Args:
        size: pixels, height and width.
    """

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size

    def call(self, pictures: Any) -> Any:
        """Scaled pictures."""
        return resize(ops.cast(pictures, self.compute_dtype), self.size)

    def get_config(self) -> dict[str, Any]:
        """What it takes to make it again."""
        return {**super().get_config(), "size": self.size}


def resize(pictures: Any, size: int) -> Any:
    """(n, h, w, c) float -> (n, size, size, c): bilinear with antialiasing, as `keras.ops.image.resize`.

    It is two products with a matrix, for TensorFlow has no other way for it through XLA.
    """
    _, height, width, channels = pictures.shape
    down, across = (ops.cast(_interpolation(n, size), pictures.dtype) for n in (height, width))
    rows = ops.matmul(down, ops.reshape(pictures, (-1, height, width * channels)))
    return ops.matmul(across, ops.reshape(rows, (-1, size, width, channels)))


def _interpolation(n_from: int, n_to: int) -> NDArray[np.float32]:
    """(n_to, n_from): with what weights each pixel of a line goes into each of another; each row adds up to 1."""
    reach = max(n_from / n_to, 1.0)
    centres = (np.arange(n_to) + 0.5) * n_from / n_to - 0.5
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(n_from) - centres[:, None]) / reach)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@keras.saving.register_keras_serializable(PACKAGE)
class UnitVector(keras.layers.Layer):
    """(n, d) float and (n,) bool -> (n, d): unit rows, and zero rows where the part is missing."""

    def compute_output_spec(self, vectors: Any, is_present: Any) -> Any:
        """Keras does not find d by itself."""
        del is_present
        return keras.KerasTensor(vectors.shape, "float32")

    def call(self, vectors: Any, is_present: Any) -> Any:
        """Unit or zero rows; float32 even in mixed precision, for these rows are what distances are taken of."""
        vectors = ops.cast(vectors, "float32")
        lengths = ops.sqrt(ops.maximum(ops.sum(ops.square(vectors), axis=-1, keepdims=True), _EPSILON))
        return vectors / lengths * ops.cast(ops.reshape(is_present, (-1, 1)), "float32")


@keras.saving.register_keras_serializable(PACKAGE)
class JoinParts(keras.layers.Layer):
    """(n, v) and (n, a) -> (n, v + a): side by side, of length one: a cosine is a video plus an audio share."""

    def call(self, video: Any, audio: Any) -> Any:
        """Unit rows; zero only where both parts are missing."""
        joined = ops.concatenate([video, audio], axis=-1)
        return joined / ops.sqrt(ops.maximum(ops.sum(ops.square(joined), axis=-1, keepdims=True), _EPSILON))


@keras.saving.register_keras_serializable(PACKAGE)
class MaskedMean(keras.layers.Layer):
    """(n, n_frames, d) float and (n, n_frames) bool -> (n, d): the mean of the frames that count; 0 where none does."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True  # the LSTM hands its own mask on, which is the same

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """There are no frames left to mask."""
        del inputs, previous_mask

    def call(self, vectors: Any, frame_mask: Any) -> Any:
        """The mean over the frames."""
        counts = ops.cast(frame_mask, vectors.dtype)[:, :, None]
        return ops.sum(vectors * counts, axis=1) / ops.maximum(ops.sum(counts, axis=1), 1.0)


def leaf_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model in order, those of models inside it included."""
    leaves = []
    for layer in model.layers:
        leaves += leaf_layers(layer) if isinstance(layer, keras.Model) else [layer]
    return leaves
