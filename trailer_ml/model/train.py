"""Training: a warm-up as a genre classifier, then triplet phases with more and more layers trainable.

Each phase is a row of the settings. The leading phases with loss `classifier` are the warm-up, the others follow;
each of the two is a task. Every epoch ends with a checkpoint, every phase with `phases/<number>.json`; whatever is
there already is not done again, and since batches and variations follow from (seed, phase, epoch), a training that
was killed ends with the figures that it would have had. SIGTERM ends it behind the running batch; the epoch that was
begun is done again (docs/decisions/0019).

Does not belong here: figures on held-out films (evaluate.py).
"""

from __future__ import annotations

import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from trailer_ml.errors import CollapseError, DataError
from trailer_ml.model import checkpoints, devices
from trailer_ml.model.augment import drop_frames, vary_frames, vary_spectrograms
from trailer_ml.model.batches import plan_epoch, show_twice
from trailer_ml.model.card import PhaseHistory
from trailer_ml.model.dataset import read_dataset
from trailer_ml.model.examples import Examples
from trailer_ml.model.frozen import N_VIEWS, keep_frozen
from trailer_ml.model.initial import read_or_make_initial, set_up_keras
from trailer_ml.model.layers import leaf_layers
from trailer_ml.model.losses import LOSSES, ActiveTripletShare, MeanPairDistance
from trailer_ml.model.stopping import end_on_sigterm
from trailer_ml.model.towers import HEAD_NAMES, build_trainer
from trailer_ml.records import PhaseSummary
from trailer_ml.storage import model_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trailer_ml.model.batches import Batch
    from trailer_ml.model.frozen import Frozen
    from trailer_ml.records import DatasetRef
    from trailer_ml.settings import PhaseSettings, Settings
    from trailer_ml.storage import Store

    History = list[dict[str, float]]
    Load = Callable[[Batch, np.random.Generator], list[np.ndarray]]

logger = logging.getLogger(__name__)

_COLLAPSED_DISTANCE = 0.02  # mean distance of unit vectors; random ones are 1.4 apart
_COLLAPSED_EPOCHS = 3


def warm_up(dataset: DatasetRef, settings: Settings, store: Store) -> PhaseSummary:
    """Train the towers as genre classifiers: the leading phases of the settings with that loss.

    Returns:
        How the last of them ended; a phase named `none` where the settings have no such phase.

    Raises:
        DataError: the data set or ImageNet's weights are not there.
        CollapseError: the loss is no number any more.
        StoppedError: SIGTERM came.
    """
    return _Training(dataset, settings, store).run(is_warm_up=True)


def train_phases(dataset: DatasetRef, settings: Settings, store: Store) -> PhaseSummary:
    """Train by the other phases, in order; as `warm_up` otherwise.

    Raises:
        CollapseError: the model maps everything to one point.
    """
    return _Training(dataset, settings, store).run(is_warm_up=False)


def read_histories(version: str, store: Store) -> tuple[PhaseHistory, ...]:
    """What each finished phase of a model went through, in order."""
    return tuple(
        PhaseHistory.model_validate(store.read_json(key)) for key in store.list_keys(model_key(version, "phases/"))
    )


def n_warm_up(phases: Sequence[PhaseSettings]) -> int:
    """How many of the leading phases are the warm-up."""
    return next((n for n, phase in enumerate(phases) if phase.loss != "classifier"), len(phases))


class _Training:
    """What the phases of one call share."""

    def __init__(self, ref: DatasetRef, settings: Settings, store: Store) -> None:
        self.dataset = read_dataset(ref.version, store)
        self.store = store
        self.cache_folder = settings.model.cache_folder.expanduser()
        self.model = self.dataset.model
        self.strategy = devices.open_strategy(self.model)

    def run(self, *, is_warm_up: bool) -> PhaseSummary:
        border = n_warm_up(self.model.phases)
        numbers = range(border) if is_warm_up else range(border, len(self.model.phases))
        summary = PhaseSummary(
            version=self.dataset.version, phase="none", epochs=0, loss=0.0, seconds=0.0, is_new=False
        )
        waiting = []
        for number in numbers:
            finished = self.store.read_json_or_none(self._phase_key(number))
            if finished is None:
                waiting.append(number)
            else:
                summary = self._summary(number, finished["epochs"], seconds=0.0, is_new=False)
        if waiting:
            with (
                end_on_sigterm(f"the training of {self.dataset.version}"),
                Examples(self.dataset, self.store, self.cache_folder / "shards") as examples,
            ):
                self._open(examples)
                for number in waiting:
                    summary = self._run_phase(number)
        return summary

    def _open(self, examples: Examples) -> None:
        """Everything that takes long to get and that all phases need."""
        set_up_keras(self.model)
        self.examples = examples
        self.encoder = read_or_make_initial(self.dataset, examples, self.store).encoder
        if self.strategy.num_replicas_in_sync > 1:
            with self.strategy.scope():  # a copy of each weight on each device
                self.encoder = read_or_make_initial(self.dataset, examples, self.store).encoder
            devices.share_normalisation(self.encoder.get_layer("audio_tower"))
        devices.set_precision(self.encoder, devices.choose_precision(self.model))
        self.frozen: Frozen | None = None

    def _run_phase(self, number: int) -> PhaseSummary:
        began = time.monotonic()
        phase = self.model.phases[number]
        with self.strategy.scope():
            trainer = self._compile(phase)
        state: dict[str, Any] = {"encoder": self.encoder.variables, "optimizer": trainer.optimizer.variables}
        if phase.loss == "classifier":
            state["heads"] = [variable for name in HEAD_NAMES for variable in trainer.get_layer(name).variables]
        history: History = []
        latest = checkpoints.read_latest(self.store, self.dataset.version)
        if latest is not None and latest.phase == number:
            checkpoints.restore(latest, state)
            history = latest.history
            logger.info("model %s goes on after epoch %d of %s", self.dataset.version, len(history), phase.name)
        elif number:
            before = number - 1
            if latest is None or (latest.phase, latest.n_epochs) != (before, self.model.phases[before].epochs):
                raise DataError(f"the checkpoint of {self.dataset.version} after phase {before} is not there any more")
            carried_on = {name: v for name, v in state.items() if name in latest.groups - {"optimizer"}}
            checkpoints.restore(latest, carried_on)
        for epoch in range(len(history), phase.epochs):
            history.append(self._run_epoch(trainer, number, epoch))
            check_alive(history, phase)
            checkpoints.write_checkpoint(self.store, self.dataset.version, number, history, state)
        if phase.trainable_layers:
            self.frozen = None  # of a backbone that is no more
        self.store.create_json(self._phase_key(number), PhaseHistory(phase=phase.name, epochs=history).to_json())
        return self._summary(number, history, seconds=time.monotonic() - began, is_new=True)

    def _compile(self, phase: PhaseSettings) -> keras.Model:
        """The model of a phase, the right layers trainable, with a fresh optimizer."""
        set_up_keras(self.model)
        set_trainable(self.encoder.get_layer("backbone").backbone, phase.trainable_layers)
        trainer = build_trainer(
            self.encoder,
            len(self.dataset.genres),
            is_classifier=phase.loss == "classifier",
            with_backbone=phase.trainable_layers != 0,
        )
        loss: dict[str, Any]
        metrics: dict[str, Any]
        weights: dict[str, float] | None = None
        if phase.loss == "classifier":
            loss = {name: keras.losses.SparseCategoricalCrossentropy(from_logits=True) for name in HEAD_NAMES}
            metrics = {name: ["accuracy"] for name in HEAD_NAMES}
        else:
            margin, distance = self.model.margin, self.model.distance
            loss = {"embedding": LOSSES[phase.loss](margin, distance)}
            if self.model.copy_weight:
                loss["copy"] = LOSSES[phase.loss](margin, distance)
                weights = {"embedding": 1.0, "copy": self.model.copy_weight}
            metrics = {
                "embedding": [ActiveTripletShare(margin, distance, phase.loss)],
                "learned": [MeanPairDistance()],  # what is not learned keeps its distances, and would hide a collapse
            }
        trainer.dtype_policy = devices.choose_precision(self.model)  # by it Keras scales the loss of float16
        trainer.compile(
            keras.optimizers.Adam(phase.learning_rate),
            loss=loss,
            loss_weights=weights,
            metrics=metrics,
            jit_compile=devices.is_compiled(self.model),
        )
        trainer.optimizer.build(trainer.trainable_variables)
        return trainer

    def _run_epoch(self, trainer: keras.Model, number: int, epoch: int) -> dict[str, float]:
        """One epoch; what it gave, by name."""
        phase = self.model.phases[number]
        load = self._load_frames if phase.trainable_layers else self._load_frozen()
        plan = self._plan(number, epoch)
        _set_seeds(trainer, [self.model.seed, number, epoch])
        logs = []
        for batch, inputs in _prefetch(plan, load, [self.model.seed, number, epoch]):
            logs.append(devices.train_on_batch(trainer, self.strategy, inputs, label_outputs(trainer, batch)))
        entry = {_name_in_history(name): float(np.mean([step[name] for step in logs])) for name in logs[0]}
        told = ", ".join(f"{name} {value:.4f}" for name, value in entry.items())
        logger.info("model %s, %s, epoch %d of %d: %s", self.dataset.version, phase.name, epoch + 1, phase.epochs, told)
        return entry

    def _plan(self, number: int, epoch: int) -> list[Batch]:
        plan = plan_epoch(self.dataset.trailers, self.dataset.genres, self.model, phase=number, epoch=epoch)
        if self.model.phases[number].loss == "classifier" or not self.model.copy_weight:
            return plan
        return [show_twice(batch) for batch in plan]

    def _load_frozen(self) -> Load:
        """Inputs from the kept features; they are computed before the first epoch that wants them."""
        if self.frozen is None:
            self.frozen = keep_frozen(
                self.dataset, self.examples, self.encoder, self.store, self.cache_folder / "frozen"
            )
        kept = self.frozen

        def load(batch: Batch, rng: np.random.Generator) -> list[np.ndarray]:
            views = rng.integers(N_VIEWS, size=len(batch.numbers))
            vectors = kept.vectors[batch.numbers, views].astype(np.float32)
            vectors, mask = drop_frames(vectors, kept.frame_mask[batch.numbers], rng)
            pictures = vary_spectrograms(kept.spectrogram[batch.numbers], rng)
            return [vectors, mask, pictures, kept.has_audio[batch.numbers]]

        return load

    def _load_frames(self, batch: Batch, rng: np.random.Generator) -> list[np.ndarray]:
        """Inputs from the pictures themselves."""
        arrays = self.examples.read([int(number) for number in batch.numbers])
        frames, mask = drop_frames(vary_frames(arrays.frames, rng), arrays.frame_mask, rng)
        return [frames, mask, vary_spectrograms(arrays.spectrogram, rng), arrays.has_audio]

    def _summary(self, number: int, history: History, *, seconds: float, is_new: bool) -> PhaseSummary:
        return PhaseSummary(
            version=self.dataset.version,
            phase=self.model.phases[number].name,
            epochs=len(history),
            loss=history[-1]["loss"],
            seconds=seconds,
            is_new=is_new,
        )

    def _phase_key(self, number: int) -> str:
        return model_key(self.dataset.version, f"phases/{number:02d}.json")


def label_outputs(trainer: keras.Model, batch: Batch) -> dict[str, np.ndarray]:
    """What each output of a trainer is told: the genre, or which trailer it is."""
    return {name: batch.numbers if name == "copy" else batch.labels for name in trainer.output}


def _name_in_history(name: str) -> str:
    """`loss` is the total; what each of two triplet losses gave stands beside it."""
    return {"embedding_loss": "genre_loss"}.get(name, name.removeprefix("embedding_").removeprefix("learned_"))


def set_trainable(backbone: keras.Model, n_layers: int) -> None:
    """Let the last `n_layers` of a backbone be trained (0: none, -1: all), and its batch normalisation never."""
    leaves = leaf_layers(backbone)
    first = 0 if n_layers < 0 else len(leaves) - n_layers
    backbone.trainable = n_layers != 0
    for place, layer in enumerate(leaves):
        layer.trainable = place >= first and not isinstance(layer, keras.layers.BatchNormalization)


def _prefetch(plan: Sequence[Batch], load: Load, seed: list[int]) -> Iterator[tuple[Batch, list[np.ndarray]]]:
    """The inputs of each batch; the next ones are made while the model is busy with these."""

    def make(place: int) -> list[np.ndarray]:
        return load(plan[place], np.random.default_rng([*seed, place]))

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(make, 0)
        for place, batch in enumerate(plan):
            inputs = coming.result()
            if place + 1 < len(plan):
                coming = pool.submit(make, place + 1)
            yield batch, inputs


def _set_seeds(trainer: keras.Model, seed: list[int]) -> None:
    """Dropout draws the same in an epoch whether the one before was run here or not."""
    states = [variable for variable in trainer.variables if variable.path.endswith("seed_generator_state")]
    drawn = np.random.default_rng(seed).integers(2**31, size=(len(states), 2))
    for state, value in zip(states, drawn, strict=True):
        state.assign(value.astype(state.dtype))


def check_alive(history: History, phase: PhaseSettings) -> None:
    """Stop a model that maps everything to one point: what it has learned tells no two trailers apart.

    The loss is no sign of it: it then stands at the margin, at log 2 where that is soft, or wherever the half that is
    not learned leaves it.

    Args:
        history: the epochs of the phase so far.
        phase: its settings.

    Raises:
        CollapseError: it does, or the loss is no number.
    """
    if not math.isfinite(history[-1]["loss"]):
        raise CollapseError(
            f"the loss of {phase.name} is {history[-1]['loss']} after epoch {len(history)}: lower its learning rate"
        )
    if phase.loss == "classifier" or len(history) < min(_COLLAPSED_EPOCHS, phase.epochs):
        return
    last = history[-_COLLAPSED_EPOCHS:]
    if all(epoch["pair_distance"] < _COLLAPSED_DISTANCE for epoch in last):
        raise CollapseError(
            f"{phase.name} has collapsed: for {len(last)} epochs the mean distance of what is learned has stood at "
            f"{last[-1]['pair_distance']:.4f}, and its loss is {last[-1]['loss']:.4f}; "
            "lower the learning rate or warm up longer"
        )
