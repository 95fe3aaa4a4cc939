"""Ways of looking at trailers side by side: each is trained and measured on the same videos, split and seed.

No shard is written. What is compared is a whole training, by the functions that train on shards, too.

Does not belong here: extracting (videos.py), and how a model is trained and measured (train.py, evaluate.py).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import keras

from trailer_ml.errors import LocalFaultError
from trailer_ml.model.batches import plan_epoch
from trailer_ml.model.evaluate import evaluate_model
from trailer_ml.model.train import train_phases, warm_up
from trailer_ml.model.videos import assemble_videos
from trailer_ml.pages import load_template
from trailer_ml.records import Record, Version

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from trailer_ml.model.batches import Batch
    from trailer_ml.model.dataset import Dataset
    from trailer_ml.model.examples import Examples
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

_COLUMNS = {
    "sampler": "sampler",
    "map_at_10": "mAP@10",
    "untrained_map_at_10": "untrained",
    "chance_map_at_10": "chance",
    "seconds_per_trailer": "s a trailer",
    "mean_frames": "frames",
    "n_trailers": "trailers",
    "n_queries": "held out",
    "version": "model",
}


class SamplerTrial(Record):
    """What came of one way of looking at trailers."""

    sampler: str
    version: Version
    map_at_10: float
    """Of held-out films."""
    untrained_map_at_10: float
    chance_map_at_10: float
    n_queries: int
    n_trailers: int
    seconds_per_trailer: float
    """Of one process that extracts."""
    mean_frames: float
    lost: dict[str, str]
    """File -> why no sampler was shown it."""


def compare_samplers(folder: Path, samplers: Sequence[str], settings: Settings, store: Store) -> Iterator[SamplerTrial]:
    """Train and measure a model for each sampler, on the trailers that all of them can look at.

    Args:
        folder: has the files and their `videos.csv`.
        samplers: as of the settings of features.
        settings: everything else.
        store: where the models go.

    Raises:
        DataError: the videos cannot be learned from; before any training.
        CollapseError: a model maps everything to one point.
    """
    for sampler, data in zip(samplers, assemble_videos(folder, samplers, settings, store), strict=True):
        ref = data.dataset.ref
        warm_up(ref, settings, store)
        train_phases(ref, settings, store)
        found = evaluate_model(ref, settings, store)
        yield SamplerTrial(
            sampler=sampler,
            version=ref.version,
            map_at_10=found.map_at_k,
            untrained_map_at_10=found.untrained_map_at_k,
            chance_map_at_10=found.chance_map_at_k,
            n_queries=found.n_queries,
            n_trailers=ref.n_trailers,
            seconds_per_trailer=data.seconds_per_trailer,
            mean_frames=data.mean_frames,
            lost=data.lost,
        )


def write_comparison(trials: Sequence[SamplerTrial], out: Path) -> None:
    """The trials as `samplers.json` and as a table to look at, `samplers.html`."""
    lost = {file: why for trial in trials for file, why in trial.lost.items()}
    page = load_template("trailer_ml.model", "samplers.html.j2", cell=_cell).render(
        columns=_COLUMNS, trials=trials, lost=lost
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "samplers.json").write_text(
            json.dumps([trial.to_json() for trial in trials], indent=1), encoding="utf-8"
        )
        (out / "samplers.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise LocalFaultError(f"the comparison cannot be written to {out}: {error}") from error


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


class VideoBatches(keras.utils.PyDataset):
    """Balanced batches for `model.fit`, straight from video files: what is not extracted yet is, in worker processes.

    For trying models and samplers of one's own, with `build_trainer`'s model and what it is compiled with. Every epoch
    has batches of its own.

    Args:
        dataset: as `assemble_videos` describes it.
        examples: of that data set.
        phase: number of the phase, of which the batches follow.
    """

    def __init__(self, dataset: Dataset, examples: Examples, phase: int = 0) -> None:
        super().__init__(workers=1)  # the processes that extract are many, and what they leave is read by one
        self._dataset = dataset
        self._examples = examples
        self._phase = phase
        self._epoch = 0
        self._plan = self._draw()

    def _draw(self) -> list[Batch]:
        data = self._dataset
        return plan_epoch(data.trailers, data.genres, data.model, phase=self._phase, epoch=self._epoch)

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, place: int) -> tuple[tuple[NDArray[Any], ...], NDArray[Any]]:
        """(frames, frame_mask, spectrogram, has_audio), and the genre that each trailer lends, (n,) int."""
        batch = self._plan[place]
        return tuple(self._examples.read([int(number) for number in batch.numbers])), batch.labels

    def on_epoch_end(self) -> None:
        """Draw the batches of the next epoch."""
        self._epoch += 1
        self._plan = self._draw()
