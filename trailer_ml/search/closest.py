"""The frames of two videos that are most alike to the eye: colours and where they are.

They illustrate a score, and do not make it: the model looks at all frames together.

Does not belong here: telling copies (see evidence.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trailer_ml.errors import ConflictError, CorruptShardError
from trailer_ml.scratch import scratch_folder
from trailer_ml.shards.manifests import list_shards
from trailer_ml.shards.read import cached_shard, read_records

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from numpy.typing import NDArray

    from trailer_ml.settings import Settings
    from trailer_ml.shards.schema import ShardRecord
    from trailer_ml.storage import Store

_SIDE = 8
_FAR = 128.0  # grey levels of mean difference from which on two frames have nothing in common


def read_trailers_of_shards(trailer_ids: Collection[str], settings: Settings, store: Store) -> Iterator[ShardRecord]:
    """The records of some trailers, as their shards come; one whose shard is gone or damaged is left out."""
    wanted, n_bad = frozenset(trailer_ids), settings.shards.max_bad_records
    with scratch_folder("trailer-ml-frames-") as folder:
        for batch, shard in list_shards(store) if wanted else ():
            if wanted.isdisjoint(shard.trailer_ids):
                continue
            try:
                path = cached_shard(store, batch, shard, folder, n_bad)
                for record in read_records(path, n_bad):
                    if record.trailer_id in wanted:
                        yield record
            except (CorruptShardError, ConflictError):
                continue
            path.unlink(missing_ok=True)


def find_closest_frames(one: NDArray[np.float32], other: NDArray[np.float32], n: int) -> list[tuple[int, int, float]]:
    """The `n` pairs of frames that are most alike, each frame in one of them at most, best first.

    Args:
        one: (n_frames, numbers) float32, see shrink_frames.
        other: likewise.
        n: fewer where there are fewer frames.

    Returns:
        Places in both, and how alike they are: 1 where they are equal, 0 where they have nothing in common.
    """
    if not len(one) or not len(other):
        return []
    alike = 1 - np.abs(one[:, None] - other[None]).mean(axis=-1) / _FAR
    pairs: list[tuple[int, int, float]] = []
    while len(pairs) < min(n, *alike.shape):
        i, j = np.unravel_index(int(alike.argmax()), alike.shape)
        pairs.append((int(i), int(j), max(float(alike[i, j]), 0.0)))
        alike[i], alike[:, j] = -np.inf, -np.inf
    return pairs


def shrink_frames(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n_frames, h, w, 3) uint8, RGB, to (n_frames, numbers) float32: their colours and where they are."""
    from PIL import Image

    small = [Image.fromarray(frame).resize((_SIDE, _SIDE), Image.Resampling.BOX) for frame in frames]
    return np.array([np.asarray(picture).ravel() for picture in small], np.float32)
