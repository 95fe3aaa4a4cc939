"""A trained encoder as the later stages use it: arrays in, unit vectors out.

Does not belong here: which encoder (registry.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trailer_ml.errors import ModelMismatchError
from trailer_ml.model import archive
from trailer_ml.model.towers import BATCH

if TYPE_CHECKING:
    from pathlib import Path

    import keras
    from numpy.typing import NDArray

    from trailer_ml.settings import FeatureSettings


class Encoder:
    """One version of the model.

    Args:
        model: as of towers.build_encoder.
        version: its name.
        feature_settings: how the trailers it was trained on were looked at; others have to be looked at likewise.
    """

    def __init__(self, model: keras.Model, version: str, feature_settings: FeatureSettings) -> None:
        self.version = version
        self.feature_settings = feature_settings
        self.video_dim = int(model.get_layer("video_tower").output_shape[-1])
        self.audio_dim = int(model.get_layer("audio_tower").output_shape[-1])
        self._model = model

    @classmethod
    def from_file(cls, path: Path, version: str, feature_settings: FeatureSettings) -> Encoder:
        """An encoder from its local `.keras` file.

        Raises:
            ModelMismatchError: this code cannot load it.
        """
        return cls(archive.load(path), version, feature_settings)

    def embed(
        self,
        frames: NDArray[np.uint8],
        frame_mask: NDArray[np.bool_],
        spectrogram: NDArray[np.uint8],
        has_audio: NDArray[np.bool_],
    ) -> NDArray[np.float32]:
        """One vector a trailer; a few go through the model at once, so memory does not grow with n.

        Args:
            frames: (n, n_frames, h, w, 3) uint8, RGB.
            frame_mask: (n, n_frames) bool, False where a trailer had fewer frames.
            spectrogram: (n, h, w, 3) uint8, RGB.
            has_audio: (n,) bool.

        Returns:
            (n, video_dim + audio_dim) float32, unit rows: the video part first. A trailer without sound has zeros in
            the audio part and one without frames in the video part.

        Raises:
            ModelMismatchError: the arrays are not of the shapes that this model was trained on.
        """
        wanted, size = self.feature_settings.n_frames, self.feature_settings.image_size
        if frames.shape[1:] != (wanted, size, size, 3) or spectrogram.shape[1:] != (size, size, 3):
            raise ModelMismatchError(
                f"model {self.version} wants {wanted} frames and a spectrogram of {size}x{size}, not frames "
                f"{frames.shape[1:]} and a spectrogram {spectrogram.shape[1:]}: "
                "extract with its TRAILER_FEATURES_ settings"
            )
        vectors = np.empty((len(frames), self.video_dim + self.audio_dim), np.float32)
        for start in range(0, len(frames), BATCH):
            some = slice(start, start + BATCH)
            vectors[some] = self._model.predict_on_batch(
                [frames[some], frame_mask[some], spectrogram[some], has_audio[some]]
            )
        return vectors
