"""The trailers of a data set as arrays, by their number, from checked local copies of the shards or from videos.

Memory holds one batch at a time, however many trailers there are: a record is found by its place in its file.

Does not belong here: which trailers make a batch (batches.py), and what becomes of the pictures (augment.py).
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from trailer_ml.errors import CorruptShardError
from trailer_ml.model.videos import open_features
from trailer_ml.shards.manifests import read_manifest
from trailer_ml.shards.read import cached_shard
from trailer_ml.shards.schema import read_look
from trailer_ml.shards.tfrecord import read_raw_records
from trailer_ml.storage import shard_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from trailer_ml.features.extract import Features
    from trailer_ml.model.dataset import Dataset
    from trailer_ml.model.videos import VideoFeatures
    from trailer_ml.shards.schema import ShardRecord
    from trailer_ml.storage import Store

_HEAD_BYTES, _TAIL_BYTES = 12, 4  # of a TFRecord: length and its CRC before the data, the data's CRC behind
_MAX_THREADS = 8


class Arrays(NamedTuple):
    """n trailers, padded alike."""

    frames: NDArray[np.uint8]
    """(n, n_frames, h, w, 3) uint8, RGB; black where there is padding."""
    frame_mask: NDArray[np.bool_]
    """(n, n_frames) bool, False where there is padding."""
    spectrogram: NDArray[np.uint8]
    """(n, h, w, 3) uint8, RGB."""
    has_audio: NDArray[np.bool_]
    """(n,) bool."""


class Examples:
    """Random access to a data set's trailers.

    Args:
        dataset: names the shards, or the videos, and the trailers.
        store: where the shards are; each is copied and checked when it is first needed.
        cache_folder: for the copies.
    """

    def __init__(self, dataset: Dataset, store: Store, cache_folder: Path) -> None:
        self._dataset = dataset
        self._store = store
        self._cache_folder = cache_folder
        self._pool = ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1))
        self._places = cache(self._find_places)
        self._videos = open_features(dataset, cache_folder.parent) if dataset.videos else None

    def __len__(self) -> int:
        return len(self._dataset.trailers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def read(self, numbers: Sequence[int]) -> Arrays:
        """Some trailers, decoded in parallel.

        Args:
            numbers: positions in `dataset.trailers`.

        Raises:
            CorruptShardError: a shard or a record is not what its manifest says.
            MediaError: a video cannot be used any more.
        """
        if self._videos:
            return stack(list(self._look(self._videos, numbers)), self._dataset.features.n_frames)
        for shard in {self._dataset.trailers[number].shard for number in numbers}:
            self._places(shard)
        view = self._dataset.features
        arrays = _empty(len(numbers), view.n_frames, view.image_size)
        for _ in self._pool.map(partial(self._read_one, arrays), range(len(numbers)), numbers):
            pass
        return arrays

    def _look(self, videos: VideoFeatures, numbers: Sequence[int]) -> Iterator[Features]:
        members = [self._dataset.videos[self._dataset.trailers[number].row] for number in numbers]
        for features in videos.read([(Path(self._dataset.folder, video.file), video.sha256) for video in members]):
            if isinstance(features, Exception):
                raise features
            yield features

    def _read_one(self, arrays: Arrays, place: int, number: int) -> None:
        trailer = self._dataset.trailers[number]
        path, places = self._places(trailer.shard)
        start, length = places[trailer.row]
        with path.open("rb") as file:
            file.seek(start)
            seen = read_look(file.read(length), arrays.frames[place])
        if seen.trailer_id != trailer.trailer_id:
            raise CorruptShardError(f"{path.name}: record {trailer.row} is {seen.trailer_id}, not {trailer.trailer_id}")
        if seen.spectrogram.shape != arrays.spectrogram.shape[1:]:
            raise CorruptShardError(f"{path.name}: record {trailer.row} has a spectrogram of {seen.spectrogram.shape}")
        arrays.frame_mask[place, : seen.n_frames] = True
        arrays.spectrogram[place] = seen.spectrogram
        arrays.has_audio[place] = seen.has_audio

    def _find_places(self, shard: int) -> tuple[Path, list[tuple[int, int]]]:
        """A local copy, and where in it the data of each record begin and how long they are."""
        described = self._dataset.shards[shard]
        manifest = read_manifest(described.batch, self._store)
        if manifest is None or manifest.sha256 != described.sha256:
            raise CorruptShardError(
                f"{shard_key(described.batch)} is not the shard that data set {self._dataset.version} was made of: it "
                "was made again, or a trailer of it was taken down; train again, on what there is now"
            )
        path = cached_shard(self._store, described.batch, manifest, self._cache_folder)
        places, position = [], 0
        for raw in read_raw_records(path):
            if not raw.is_intact:
                raise CorruptShardError(f"{manifest.key}: record {raw.number} does not match its CRC")
            places.append((position + _HEAD_BYTES, len(raw.data)))
            position += _HEAD_BYTES + len(raw.data) + _TAIL_BYTES
        return path, places


def _empty(n: int, n_frames: int, size: int) -> Arrays:
    """Room for n trailers: black, silent, and no frame that counts."""
    return Arrays(
        np.zeros((n, n_frames, size, size, 3), np.uint8),
        np.zeros((n, n_frames), bool),
        np.zeros((n, size, size, 3), np.uint8),
        np.zeros(n, bool),
    )


def stack(records: Sequence[ShardRecord | Features], n_frames: int) -> Arrays:
    """Records as arrays of one shape: more frames are cut off, missing ones are black and masked."""
    arrays = _empty(len(records), n_frames, len(records[0].spectrogram))
    for row, record in enumerate(records):
        n = min(n_frames, len(record.frames))
        arrays.frames[row, :n] = record.frames[:n]
        arrays.frame_mask[row, :n] = True
        arrays.spectrogram[row] = record.spectrogram
        arrays.has_audio[row] = record.has_audio
    return arrays
