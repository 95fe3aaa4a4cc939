"""What a frozen backbone makes of every frame: computed once, kept in the store, read from memory-mapped files.

Beside it in the files lie the spectrograms, made as small as the audio tower wants them.

An epoch that trains only what stands behind the backbone then costs what that costs. Kept by backbone, weights and
shard, so another model on the same backbone finds it too.

Does not belong here: training.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trailer_ml.errors import MissingObjectError
from trailer_ml.model.augment import vary_frames
from trailer_ml.model.backbones import weights_digest
from trailer_ml.model.copies import keep_newest
from trailer_ml.model.dataset import CODE_SCHEMA
from trailer_ml.model.towers import BATCH, frame_model, small_spectrogram_model
from trailer_ml.scratch import scratch_folder
from trailer_ml.storage import backbone_key, encode_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    import keras
    from numpy.typing import NDArray

    from trailer_ml.model.dataset import Dataset
    from trailer_ml.model.examples import Arrays, Examples
    from trailer_ml.storage import Store

N_VIEWS = 6
"""The frames of a trailer are kept as they are, mirrored, and varied in so many other ways that it makes six."""


class Frozen(NamedTuple):
    """All trailers of a data set as the towers behind a frozen backbone see them; memory-mapped."""

    vectors: NDArray[np.float16]
    """(n, N_VIEWS, n_frames, c)."""
    frame_mask: NDArray[np.bool_]
    """(n, n_frames)."""
    spectrogram: NDArray[np.uint8]
    """(n, s, s, 3), as small as the audio tower wants it."""
    has_audio: NDArray[np.bool_]
    """(n,)."""


def keep_frozen(dataset: Dataset, examples: Examples, encoder: keras.Model, store: Store, cache_folder: Path) -> Frozen:
    """The kept features of a data set, computed as far as they are not kept yet.

    Args:
        dataset: whose trailers.
        examples: their pictures.
        encoder: its backbone is used as it is now.
        store: where the vectors are kept.
        cache_folder: for the memory-mapped files; those of the newest data sets stay.
    """
    backbone = encoder.get_layer("backbone")
    digest = weights_digest(backbone)
    folder = cache_folder / f"{dataset.version}-{digest}"
    if not folder.exists():
        with scratch_folder(".frozen-", folder.parent) as aside:
            _fill(aside / "whole", dataset, examples, encoder, digest, store)
            with contextlib.suppress(OSError):  # somebody was quicker, with the same files
                (aside / "whole").rename(folder)
    keep_newest(folder)
    return Frozen(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in Frozen._fields))


def _fill(folder: Path, dataset: Dataset, examples: Examples, encoder: keras.Model, digest: str, store: Store) -> None:
    folder.mkdir()
    look, shrink = frame_model(encoder), small_spectrogram_model(encoder)
    n, n_frames = len(dataset.trailers), dataset.features.n_frames
    files = Frozen(
        vectors=_create(folder, "vectors", (n, N_VIEWS, n_frames, look.output_shape[-1]), np.float16),
        frame_mask=_create(folder, "frame_mask", (n, n_frames), np.bool_),
        spectrogram=_create(folder, "spectrogram", (n, *shrink.output_shape[1:]), np.uint8),
        has_audio=_create(folder, "has_audio", (n,), np.bool_),
    )
    for shard, members in groupby(range(n), key=lambda number: dataset.trailers[number].shard):
        numbers = list(members)
        key = _key(dataset, shard, numbers, digest)
        kept = _read(store, key)
        computed, rng = [], np.random.default_rng(list(key.encode()))  # whoever computes it keeps the same
        for start in range(0, len(numbers), BATCH):
            some = numbers[start : start + BATCH]
            arrays = examples.read(some)
            files.frame_mask[some], files.has_audio[some] = arrays.frame_mask, arrays.has_audio
            files.spectrogram[some] = np.rint(shrink.predict_on_batch(arrays.spectrogram))
            if kept is None:
                computed.append(_vectors(look, arrays, rng))
        if kept is None:
            kept = np.concatenate(computed)
            _write(store, key, kept)
        files.vectors[numbers] = kept


def _create(folder: Path, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> np.memmap[Any, Any]:
    return np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)


def _vectors(look: keras.Model, arrays: Arrays, rng: np.random.Generator) -> NDArray[np.float16]:
    """(n, N_VIEWS, n_frames, c)."""
    views = [arrays.frames, arrays.frames[:, :, :, ::-1]]
    views += [vary_frames(arrays.frames, rng) for _ in range(N_VIEWS - len(views))]
    return np.stack([look.predict_on_batch(frames) for frames in views], axis=1).astype(np.float16)


def _key(dataset: Dataset, shard: int, numbers: Sequence[int], digest: str) -> str:
    rows = [dataset.trailers[number].row for number in numbers]
    of_what: list[Any] = [dataset.shards[shard].sha256, rows] if dataset.shards else _videos_of(dataset, rows)
    facts = encode_json([*of_what, dataset.features.n_frames, N_VIEWS, CODE_SCHEMA])
    return backbone_key(f"features/{digest}/{hashlib.sha256(facts).hexdigest()[:24]}.npy")


def _videos_of(dataset: Dataset, rows: Sequence[int]) -> list[Any]:
    return [[dataset.videos[row].sha256 for row in rows], dataset.features.view]


def _read(store: Store, key: str) -> NDArray[np.float16] | None:
    try:
        return np.load(io.BytesIO(store.read_bytes(key)), allow_pickle=False)
    except MissingObjectError:
        return None


def _write(store: Store, key: str, vectors: NDArray[np.float16]) -> None:
    file = io.BytesIO()
    np.save(file, vectors, allow_pickle=False)
    store.create_bytes(key, file.getvalue())
