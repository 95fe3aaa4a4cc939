"""What is kept of a trailer to tell whether another one shows the same: small grey frames, and a small spectrogram.

Made from the records of a shard, once on each machine: a file of prints lies in the cache under the name and hash of
its shard. It may be deleted at any time. Those of a catalogue are put together into one scratch file, from which the
system reads what is looked at: 18 kB a trailer, none of which has to be in memory.

Does not belong here: when two prints are alike (see evidence.py).
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trailer_ml.errors import ConflictError, CorruptShardError
from trailer_ml.scratch import scratch_folder
from trailer_ml.shards.manifests import list_shards
from trailer_ml.shards.read import cached_shard, read_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
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


_VERSION = 3  # of what is kept: another one is made anew
_FILE = "prints.npy"


class Print(NamedTuple):
    """What is kept of one trailer."""

    frames: NDArray[np.uint8]
    """(n_frames, len(ZOOMS), SIDE, SIDE) uint8, grey."""
    times_s: NDArray[np.float64]
    """(n_frames,)."""
    sound: NDArray[np.uint8]
    """(PITCHES, columns) uint8; no columns where nothing is to be heard."""


class Prints(NamedTuple):
    """Those of some trailers, one a row."""

    rows: NDArray[np.void]
    """(n,) of `row_type`; where there is no print a row is zero."""
    is_there: NDArray[np.bool_]
    """(n,)."""

    def print_of(self, place: int) -> Print:
        """The print of one trailer."""
        row = self.rows[place]
        n_frames, n_columns = int(row["n_frames"]), int(row["n_columns"])
        return Print(row["frames"][:n_frames], row["times_s"][:n_frames], row["sound"][:, :n_columns])


def row_type(n_frames: int) -> np.dtype[np.void]:
    """How prints lie in a file: all of one length, with room for so many frames.

    >>> row_type(10).itemsize
    17620
    """
    return np.dtype(
        [
            ("trailer_id", "S128"),
            ("n_frames", "<u2"),
            ("n_columns", "<u2"),
            ("times_s", "<f8", (n_frames,)),
            ("frames", "u1", (n_frames, len(ZOOMS), SIDE, SIDE)),
            ("sound", "u1", (PITCHES, COLUMNS)),
        ]
    )


@contextmanager
def open_prints(trailer_ids: Sequence[str], settings: Settings, store: Store) -> Iterator[Prints]:
    """The prints of some trailers while the block runs; one whose shard is gone or damaged has none.

    Args:
        trailer_ids: whose, each once; shards that hold none of them are not read.
        settings: where copies are kept on this machine.
        store: where the shards are.
    """
    places = {trailer_id: place for place, trailer_id in enumerate(trailer_ids)}
    root = settings.index.cache_folder.expanduser() / "prints"
    wanted = [each for each in list_shards(store) if places and not places.keys().isdisjoint(each[1].trailer_ids)]

    def find(shard: tuple[BatchRef, ShardManifest]) -> Path | None:
        try:
            return _cached_prints(root, *shard, store)
        except (CorruptShardError, ConflictError) as error:
            logger.warning("no prints of %s: %s", shard[0].path, error)
            return None

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as makers:
        paths = [path for path in makers.map(find, wanted) if path]
    n_frames = max((kind["times_s"].shape[0] for path in paths if (kind := _look_at(path))), default=0)
    with scratch_folder(".aside-", root) as aside:
        yield _put_together(paths, places, row_type(n_frames), aside / _FILE)


def _put_together(paths: Sequence[Path], places: dict[str, int], kind: np.dtype[np.void], path: Path) -> Prints:
    """One file of all, each in its place."""
    is_there = np.zeros(len(places), np.bool_)
    with path.open("wb") as file:  # written, not mapped: a full disk is then an error, and no signal
        for path_of_shard in paths:
            try:
                some = np.load(path_of_shard)
            except FileNotFoundError:  # the shard was made anew meanwhile, and another process has been here
                continue
            fitting = some if some.dtype == kind else _widen(some, kind)
            for row in fitting:
                place = places.get(row["trailer_id"].decode())
                if place is not None:
                    file.seek(place * kind.itemsize)
                    file.write(row.tobytes())
                    is_there[place] = True
        file.truncate(max(len(places), 1) * kind.itemsize)
    return Prints(np.memmap(path, kind, mode="r")[: len(places)], is_there)


def _widen(rows: NDArray[np.void], kind: np.dtype[np.void]) -> NDArray[np.void]:
    """With room for more frames."""
    wide = np.zeros(len(rows), kind)
    n_frames = rows["times_s"].shape[1]
    for name in ("trailer_id", "n_frames", "n_columns", "sound"):
        wide[name] = rows[name]
    for name in ("times_s", "frames"):
        wide[name][:, :n_frames] = rows[name]
    return wide


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


def _cached_prints(root: Path, batch: BatchRef, shard: ShardManifest, store: Store) -> Path:
    path = path_of_prints(root, batch, shard)
    if _look_at(path) is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(".aside-", root) as aside:
            records = read_records(cached_shard(store, batch, shard, aside))
            times = {name: float(shard.features[name]) for name in ("start_s", "spectrogram_s")}
            np.save(aside / _FILE, to_rows({record.trailer_id: make_print(record, **times) for record in records}))
            (aside / _FILE).replace(path)
        for older in path.parent.glob(f"{batch.number:04d}.*.np[yz]"):  # of what the shard was before
            if older != path:
                older.unlink(missing_ok=True)
    return path


def _look_at(path: Path) -> np.dtype[np.void] | None:
    """What a file of prints has in each row; None where there is none, or it was cut off: a machine lost its power."""
    try:
        kind: np.dtype[np.void] = np.load(path, mmap_mode="r").dtype
    except (FileNotFoundError, ValueError, EOFError):
        return None
    return kind


def path_of_prints(root: Path, batch: BatchRef, shard: ShardManifest) -> Path:
    """Where the prints of a shard are kept."""
    return root / f"{batch.path}.{_VERSION}-{shard.sha256[:16]}.npy"


def to_rows(prints: Mapping[str, Print]) -> NDArray[np.void]:
    """Prints as they lie in a file, (n,) of `row_type`."""
    rows = np.zeros(len(prints), row_type(max((len(each.frames) for each in prints.values()), default=0)))
    for row, (trailer_id, each) in zip(rows, prints.items(), strict=True):
        n_frames, n_columns = len(each.frames), each.sound.shape[1]
        row["trailer_id"], row["n_frames"], row["n_columns"] = trailer_id.encode(), n_frames, n_columns
        row["frames"][:n_frames], row["times_s"][:n_frames] = each.frames, each.times_s
        row["sound"][:, :n_columns] = each.sound
    return rows
