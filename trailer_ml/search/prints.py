"""What is kept of a trailer to tell whether another one shows the same: small grey frames, and a small spectrogram.

Made from the records of a shard, once on each machine: a file of prints lies in the cache under the name and hash of
its shard. It may be deleted at any time.

Does not belong here: when two prints are alike (see evidence.py).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trailer_ml.errors import ConflictError, CorruptShardError
from trailer_ml.scratch import scratch_folder
from trailer_ml.shards.manifests import list_shards
from trailer_ml.shards.read import cached_shard, read_records

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from trailer_ml.records import BatchRef, ShardManifest
    from trailer_ml.settings import Settings
    from trailer_ml.shards.schema import ShardRecord
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)

ZOOMS = (1.0, 0.95, 0.9, 0.85)
"""How much of a frame is looked at, from its middle: a copy may have lost its edges."""
SIDE = 16
PITCHES, COLUMNS = 32, 224
"""Of a spectrogram that spans all the time that is looked at; one of a shorter trailer has fewer columns."""


_VERSION = 2  # of what is kept: another one is made anew


class Print(NamedTuple):
    """What is kept of one trailer."""

    frames: NDArray[np.uint8]
    """(n_frames, len(ZOOMS), SIDE, SIDE) uint8, grey."""
    times_s: NDArray[np.float64]
    """(n_frames,)."""
    sound: NDArray[np.uint8]
    """(PITCHES, columns) uint8; no columns where nothing is to be heard."""


def read_prints(trailer_ids: Collection[str], settings: Settings, store: Store) -> dict[str, Print]:
    """The prints of some trailers, by id; one whose shard is gone or damaged is left out.

    Args:
        trailer_ids: whose; shards that hold none of them are not read.
        settings: where copies are kept on this machine.
        store: where the shards are.
    """
    wanted = frozenset(trailer_ids)
    root = settings.index.cache_folder.expanduser() / "prints"
    found: dict[str, Print] = {}
    for batch, shard in list_shards(store) if wanted else ():
        if wanted.isdisjoint(shard.trailer_ids):
            continue
        try:
            path = _cached_prints(root, batch, shard, settings, store)
        except (CorruptShardError, ConflictError) as error:
            logger.warning("no prints of %s: %s", batch.path, error)
            continue
        found |= {trailer_id: each for trailer_id, each in _load(path) if trailer_id in wanted}
    return found


def make_print(record: ShardRecord, *, start_s: float, spectrogram_s: float) -> Print:
    """The print of one trailer.

    Args:
        record: what its shard holds of it.
        start_s: where its sound is looked at from.
        spectrogram_s: for how long, at most.
    """
    span_s = min(spectrogram_s, max(record.duration_s - start_s, 0.0))
    n_columns = max(1, round(COLUMNS * span_s / spectrogram_s)) if record.has_audio else 0
    sound = _shrink(record.spectrogram, n_columns, PITCHES) if n_columns else np.empty((PITCHES, 0), np.uint8)
    frames = [[_shrink(_middle(frame, zoom), SIDE, SIDE) for zoom in ZOOMS] for frame in record.frames]
    return Print(np.array(frames, np.uint8).reshape(-1, len(ZOOMS), SIDE, SIDE), record.frame_times_s, sound)


def _middle(picture: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    top, left = (round(size * (1 - share) / 2) for size in picture.shape[:2])
    return picture[top : picture.shape[0] - top, left : picture.shape[1] - left]


def _shrink(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 to (height, width) uint8, grey."""
    from PIL import Image

    return np.asarray(Image.fromarray(picture).convert("L").resize((width, height), Image.Resampling.BOX))


def _cached_prints(root: Path, batch: BatchRef, shard: ShardManifest, settings: Settings, store: Store) -> Path:
    path = root / f"{batch.path}.{_VERSION}-{shard.sha256[:16]}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(".aside-", root) as aside:
            records = read_records(cached_shard(store, batch, shard, aside), settings.shards.max_bad_records)
            times = {name: float(shard.features[name]) for name in ("start_s", "spectrogram_s")}
            arrays: dict[str, NDArray[Any]] = {}
            for record in records:
                made = make_print(record, **times)
                arrays |= {f"{record.trailer_id}/{name}": array for name, array in made._asdict().items()}
            np.savez(aside / "prints.npz", allow_pickle=False, **arrays)
            (aside / "prints.npz").replace(path)
        for older in path.parent.glob(f"{batch.number:04d}.*.npz"):  # of what the shard was before
            if older != path:
                older.unlink(missing_ok=True)
    return path


def _load(path: Path) -> Iterator[tuple[str, Print]]:
    with np.load(path, allow_pickle=False) as arrays:
        for trailer_id in dict.fromkeys(name.split("/")[0] for name in arrays.files):
            yield trailer_id, Print(*(arrays[f"{trailer_id}/{name}"] for name in Print._fields))
