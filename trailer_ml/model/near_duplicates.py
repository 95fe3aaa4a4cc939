"""Near-duplicates: is a held-out trailer the first answer to a copy of itself that was changed?

The copies are true ones, made by ffmpeg of the bytes in the store and looked at like any trailer; each is searched
among the vectors of all trailers, those of the same film included.

Does not belong here: what the changes are (alterations.py).
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trailer_ml.errors import ChildFailedError, MediaError, MissingObjectError
from trailer_ml.features.pool import extract_many
from trailer_ml.model.alterations import CHANGES, make_altered_copies
from trailer_ml.model.examples import stack
from trailer_ml.model.retrieval import estimate_means
from trailer_ml.model.towers import BATCH
from trailer_ml.records import CopyFigures, Estimate
from trailer_ml.scratch import scratch_folder
from trailer_ml.settings import EXTRACTOR_VERSION
from trailer_ml.storage import media_key, sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from trailer_ml.features.extract import Features
    from trailer_ml.model.dataset import Dataset
    from trailer_ml.model.examples import Arrays
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

    Vectors = dict[str, NDArray[np.float32]]

logger = logging.getLogger(__name__)

ALL = "all"
"""The name of all changes together."""
_METRICS = ("recall_at_1", "map")


class Copies(NamedTuple):
    """c copies, by several models."""

    originals: NDArray[np.int64]
    """(c,) positions in the data set."""
    changes: tuple[str, ...]
    """(c,) how each was changed."""
    vectors: dict[str, NDArray[np.float32]]
    """(c, d) unit rows by each model."""


class Found(NamedTuple):
    """What one model answered to each copy."""

    ranks: NDArray[np.int64]
    """(c,) of the original, from 1."""
    films: tuple[str, ...]
    changes: tuple[str, ...]

    @property
    def values(self) -> NDArray[np.float64]:
        """(c, 2) float: recall@1 and average precision; with one right answer that is 1 over its rank."""
        return np.stack([self.ranks == 1, 1 / self.ranks], axis=1).astype(np.float64)

    def figures(self) -> dict[str, CopyFigures]:
        """Of all copies, and of those of each change."""
        rows = {ALL: np.arange(len(self.ranks))}
        for change in CHANGES:
            mine = np.array([i for i, name in enumerate(self.changes) if name == change], np.int64)
            if len(mine):
                rows[change] = mine
        return {name: self._figures(mine) for name, mine in rows.items()}

    def _figures(self, rows: NDArray[np.int64]) -> CopyFigures:
        estimates = estimate_means(self.values[rows], [self.films[row] for row in rows], _METRICS)
        return CopyFigures(n=len(rows), **estimates)


def embed_copies(
    dataset: Dataset, embed: Callable[[Arrays], Vectors], settings: Settings, store: Store
) -> Copies | None:
    """Make and embed the copies; None where no bytes of a held-out trailer are kept, or they would be seen otherwise.

    Args:
        dataset: its held-out trailers are copied, `evaluation.n_copied` of them at most.
        embed: some trailers -> their vectors by each model.
        settings: limits; how trailers are looked at is the data set's.
        store: where the bytes are.
    """
    if dataset.features.extractor_version != EXTRACTOR_VERSION:
        return None
    originals: list[int] = []
    changes: list[str] = []
    parts: list[Vectors] = []
    waiting: list[Features] = []
    with scratch_folder("trailer-ml-copies-") as folder:
        for number, change, features in _look_at_copies(dataset, settings, store, folder):
            originals.append(number)
            changes.append(change)
            waiting.append(features)
            if len(waiting) == BATCH:
                parts.append(embed(_stack(waiting, dataset)))
                waiting = []
        if waiting:
            parts.append(embed(_stack(waiting, dataset)))
    if not parts:
        return None
    vectors = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Copies(np.array(originals), tuple(changes), vectors)


def find_originals(copies: Copies, model: str, gallery: NDArray[np.float32], dataset: Dataset) -> Found:
    """Search each copy among all trailers.

    Args:
        copies: with vectors by this model.
        model: its name.
        gallery: (n, d) unit rows by the same model, one a trailer of the data set.
        dataset: what they are of.
    """
    scores = copies.vectors[model] @ gallery.T
    own = np.take_along_axis(scores, copies.originals[:, None], axis=1)
    is_ahead = ~(scores < own)  # who scores as high counts as ahead: a model that calls all alike finds nothing
    return Found(
        ranks=is_ahead.sum(axis=1),
        films=tuple(dataset.trailers[number].film_id for number in copies.originals),
        changes=copies.changes,
    )


def chance_of_finding(copies: Copies, n: int) -> dict[str, CopyFigures]:
    """The figures of a random order of n trailers: 1/n, and the mean of 1/rank."""
    values = {"recall_at_1": Estimate(value=1 / n), "map": Estimate(value=float(np.mean(1 / np.arange(1, n + 1))))}
    counts = {ALL: len(copies.changes)} | {name: copies.changes.count(name) for name in CHANGES}
    return {name: CopyFigures(n=count, **values) for name, count in counts.items() if count}


def choose_originals(dataset: Dataset, n: int, store: Store) -> list[int]:
    """Up to n held-out trailers whose bytes are kept, of as many films as there are; the same ones each time."""
    held_out = [number for number, trailer in enumerate(dataset.trailers) if trailer.split == "test"]
    held_out.sort(key=lambda number: sha256_of(dataset.trailers[number].trailer_id.encode()))
    seen: dict[str, int] = {}
    places: list[tuple[int, int, int]] = []
    for number in held_out:
        film = dataset.trailers[number].film_id
        seen[film] = seen.get(film, 0) + 1
        places.append((seen[film], len(places), number))
    chosen: list[int] = []
    for _, _, number in sorted(places):
        if len(chosen) == n:
            break
        if store.exists(media_key(dataset.trailers[number].trailer_id)):
            chosen.append(number)
    return chosen


def _look_at_copies(
    dataset: Dataset, settings: Settings, store: Store, folder: Path
) -> Iterator[tuple[int, str, Features]]:
    """Copy after copy; a trailer or a copy that cannot be used is left out, with a word in the log."""
    queue: deque[tuple[int, str, Path]] = deque()

    def make() -> Iterator[Path]:
        for number in choose_originals(dataset, settings.evaluation.n_copied, store):
            trailer_id = dataset.trailers[number].trailer_id
            try:
                copies = _copy(trailer_id, folder / str(number), settings, store)
            except (ChildFailedError, MediaError, MissingObjectError) as error:
                logger.warning("no copies of %s: %s", trailer_id, error)
                continue
            queue.extend((number, change, path) for change, path in copies.items())
            yield from copies.values()

    wanted = settings.features.model_copy(update=dataset.features.view)
    for features in extract_many(make(), wanted, settings.shards.workers):
        number, change, path = queue.popleft()
        path.unlink()
        if isinstance(features, MediaError):
            logger.warning("%s, %s: left out: %s", dataset.trailers[number].trailer_id, change, features)
        else:
            yield number, change, features


def _copy(trailer_id: str, folder: Path, settings: Settings, store: Store) -> dict[str, Path]:
    folder.mkdir()
    path = folder / "original"
    store.read_file(media_key(trailer_id), path)
    copies = make_altered_copies(path, folder, settings.features)
    path.unlink()
    return copies


def _stack(features: Sequence[Features], dataset: Dataset) -> Arrays:
    return stack(features, dataset.features.n_frames)
