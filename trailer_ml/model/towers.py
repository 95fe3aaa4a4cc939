"""The encoder: an audio tower and a video tower, whose unit vectors are put side by side.

    frames (f, h, w, 3) u8 ─ backbone ─ (f, c) ─┐
    frame_mask (f,) bool ───────────────────────┴─ video_tower ─ unit (v,) ─┐
    spectrogram (h, w, 3) u8 ─ shrink ─┐                                    ├─ join ─ unit (v + a,)
    has_audio () bool ─────────────────┴─ audio_tower ─ unit (a,) ──────────┘

The backbone, and what makes the spectrogram smaller, stand before the towers as layers of their own, so that while the
backbone is frozen the rest can be trained on what was computed once.

Half of a tower's vector is learned: by the LSTM over the frames, by the ConvNet over the spectrogram. The other half
goes past them: the mean of the backbone's vectors, the mean and the spread of each pitch, on fixed directions. It knows
one trailer from another whatever the training was about (docs/decisions/0021).

Does not belong here: training and data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import layers, ops

from trailer_ml.model.layers import JoinParts, MaskedMean, Shrink, UnitVector

if TYPE_CHECKING:
    from trailer_ml.model.layers import FrameBackbone
    from trailer_ml.settings import FeatureSettings, ModelSettings

BATCH = 8
"""Trailers that go through a backbone at once where nothing is trained: 80 frames, a few hundred MB at 224 pixels."""
_AUDIO_CHANNELS = (16, 32, 64, 96)
_DROPOUT = 0.3
MAX_DEVIATIONS = 5.0  # a channel that was nearly constant in training must not shout when it is not
_LOGIT_SCALE = 8.0  # unit vectors have small logits: without this the softmax stays flat for many epochs
HEAD_NAMES = ("video_genre", "audio_genre")
"""The genre classifiers of the warm-up, one on each tower."""


def build_encoder(backbone: FrameBackbone, settings: ModelSettings, features: FeatureSettings) -> keras.Model:
    """A fresh encoder: (frames, frame_mask, spectrogram, has_audio) -> (n, video_dim + audio_dim) unit rows.

    Args:
        backbone: with its weights.
        settings: sizes of the towers.
        features: sizes of what comes in.
    """
    size = features.image_size
    frames = keras.Input((features.n_frames, size, size, 3), dtype="uint8", name="frames")
    frame_mask = keras.Input((features.n_frames,), dtype="bool", name="frame_mask")
    spectrogram = keras.Input((size, size, 3), dtype="uint8", name="spectrogram")
    has_audio = keras.Input((), dtype="bool", name="has_audio")
    frame_vectors = backbone(frames)
    video = build_video_tower(frame_vectors.shape[1:], settings)([frame_vectors, frame_mask])
    small = Shrink(settings.spectrogram_size, name="shrink")(spectrogram)
    audio = build_audio_tower(settings)([small, has_audio])
    joined = JoinParts(name="join", dtype="float32")(video, audio)
    return keras.Model([frames, frame_mask, spectrogram, has_audio], joined, name="encoder")


def frame_model(encoder: keras.Model) -> keras.Model:
    """The part of an encoder before the towers: (n, n_frames, h, w, 3) uint8 -> (n, n_frames, c)."""
    return keras.Model(encoder.inputs[0], encoder.get_layer("backbone").output, name="frame_model")


def build_video_tower(shape: tuple[int, int], settings: ModelSettings) -> keras.Model:
    """(n, n_frames, c) float, (n, n_frames) bool -> (n, video_dim): unit rows, zero where no frame counts."""
    vectors = keras.Input(shape, name="frame_vectors")
    mask = keras.Input(shape[:1], dtype="bool", name="mask")
    x = layers.Normalization(name="standardise")(vectors)
    standard = ops.clip(x, -MAX_DEVIATIONS, MAX_DEVIATIONS)
    x = layers.Dropout(_DROPOUT, name="video_dropout")(standard)
    x = layers.Dense(settings.lstm_units, activation="relu", name="frame_projection")(x)
    # cuDNN's LSTM refuses a trailer without frames; ten steps are cheap without it.
    x = layers.LSTM(settings.lstm_units, return_sequences=True, use_cudnn=False, name="lstm")(x, mask=mask)
    x = MaskedMean(name="frame_mean")(x, mask)
    mean = MaskedMean(name="plain_mean")(standard, mask)
    unit = _beside_plain(x, mean, ops.any(mask, axis=1), settings, "video")
    return keras.Model([vectors, mask], unit, name="video_tower")


def _beside_plain(learned: Any, plain: Any, is_present: Any, settings: ModelSettings, name: str) -> Any:
    """What a tower has learned, and beside it, in a half of its own, what is known without learning.

    Args:
        learned: (n, m) float, as the tower's layers leave it.
        plain: (n, k) float, standardised; a fixed projection shortens it.
        is_present: (n,) bool; the others are rows of zeros.
        settings: the sizes.
        name: video or audio.

    Returns:
        (n, video_dim or audio_dim) unit rows, the learned half first.
    """
    size = settings.video_dim if name == "video" else settings.audio_dim
    n_plain = size // 2 if settings.plain_half else 0
    x = layers.Dense(size - n_plain, name=f"{name}_projection")(learned)
    x = UnitVector(name=f"{name}_learned", dtype="float32")(x, is_present)
    if not n_plain:
        return x
    plain = layers.Dense(n_plain, use_bias=False, trainable=False, name=f"{name}_directions")(plain)
    plain = UnitVector(name=f"{name}_plain", dtype="float32")(plain, is_present)
    return JoinParts(name=f"{name}_unit", dtype="float32")(x, plain)


def small_spectrogram_model(encoder: keras.Model) -> keras.Model:
    """What the audio tower is given of a spectrogram: (n, h, w, 3) uint8 -> (n, s, s, 3) float, 0 to 255."""
    return keras.Model(encoder.inputs[2], encoder.get_layer("shrink").output, name="small_spectrogram_model")


def build_audio_tower(settings: ModelSettings) -> keras.Model:
    """(n, s, s, 3) float, 0 to 255, (n,) bool -> (n, audio_dim): unit rows, zero where there is no sound.

    Rows of the picture are pitch, columns are time. Time is averaged away at the end, pitch is not: a bass is no
    whistle, but it does not matter when it is heard.
    """
    spectrogram = keras.Input((settings.spectrogram_size, settings.spectrogram_size, 3), name="picture")
    is_heard = keras.Input((), dtype="bool", name="is_heard")
    x = layers.Rescaling(1 / 255, name="rescale")(spectrogram)
    spectrum = layers.Flatten(name="spectrum")(ops.concatenate([ops.mean(x, axis=2), ops.std(x, axis=2)], axis=-1))
    spectrum = layers.Normalization(name="standardise")(spectrum)
    spectrum = ops.clip(spectrum, -MAX_DEVIATIONS, MAX_DEVIATIONS)
    for number, channels in enumerate(_AUDIO_CHANNELS):
        x = layers.Conv2D(channels, 3, padding="same", use_bias=False, name=f"conv_{number}")(x)
        x = layers.MaxPooling2D(name=f"pool_{number}")(x)  # first, so that what follows has a quarter of the work
        x = layers.BatchNormalization(momentum=0.8, name=f"norm_{number}")(x)
        x = layers.ReLU(name=f"relu_{number}")(x)
    x = ops.concatenate([ops.mean(x, axis=2), ops.max(x, axis=2)], axis=-1)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dropout(_DROPOUT, name="audio_dropout")(x)
    unit = _beside_plain(x, spectrum, is_heard, settings, "audio")
    return keras.Model([spectrogram, is_heard], unit, name="audio_tower")


def build_trainer(encoder: keras.Model, n_genres: int, *, is_classifier: bool, with_backbone: bool) -> keras.Model:
    """The model that is trained in a phase; it shares the encoder's layers.

    Args:
        encoder: whose weights training changes.
        n_genres: classes.
        is_classifier: whether it answers with genres, by a classifier on each tower, or with embeddings.
        with_backbone: False: it starts from the backbone's vectors and small spectrograms, uint8, not from pictures.

    Returns:
        (frames or frame_vectors, frame_mask, spectrogram, has_audio) -> {"embedding": (n, v + a), "copy": the same,
        "learned": its learned numbers, unit rows}, or {"video_genre": (n, n_genres), "audio_genre": (n, n_genres)}
        logits, which know the learned numbers only.
    """
    frames, frame_mask, spectrogram, has_audio = encoder.inputs
    backbone = encoder.get_layer("backbone")
    shrink = encoder.get_layer("shrink")
    if with_backbone:
        start, frame_vectors, small = frames, backbone(frames), shrink(spectrogram)
    else:
        start = frame_vectors = keras.Input(backbone.output.shape[1:], name="frame_vectors")
        spectrogram = small = keras.Input(shrink.output.shape[1:], dtype="uint8", name="small_spectrogram")
    video = encoder.get_layer("video_tower")([frame_vectors, frame_mask])
    audio = encoder.get_layer("audio_tower")([small, has_audio])
    outputs: dict[str, Any] = {}
    learned = [part[:, : n_learned(encoder, name)] for name, part in zip(HEAD_NAMES, (video, audio), strict=True)]
    if is_classifier:
        for name, part in zip(HEAD_NAMES, learned, strict=True):
            scaled = layers.Rescaling(_LOGIT_SCALE, name=f"{name}_scale", dtype="float32")(part)
            outputs[name] = layers.Dense(n_genres, name=name, dtype="float32")(scaled)
    else:
        outputs["embedding"] = outputs["copy"] = encoder.get_layer("join")(video, audio)
        outputs["learned"] = JoinParts(name="learned", dtype="float32")(*learned)
    return keras.Model([start, frame_mask, spectrogram, has_audio], outputs, name="trainer")


def n_learned(encoder: keras.Model, name: str) -> int:
    """How many of the numbers of a tower are learned: the first ones.

    Args:
        encoder: as of `build_encoder`.
        name: begins with video or audio.
    """
    part = name.partition("_")[0]
    return int(encoder.get_layer(f"{part}_tower").get_layer(f"{part}_projection").units)
