"""Which trailers make a batch: P genres x K trailers, so that every anchor has positives and negatives to mine.

A trailer of several genres lends one of them to each epoch. A film is in a batch once at most: its teaser would be a
positive that teaches nothing, and under another genre a negative that teaches something wrong.

Everything follows from (seed, phase, epoch): a training that was killed goes on with the very batches it would have
had.

Does not belong here: the arrays (examples.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trailer_ml.model.dataset import DatasetTrailer
    from trailer_ml.settings import ModelSettings


class Batch(NamedTuple):
    """One batch."""

    numbers: NDArray[np.int64]
    """(n,) positions in the data set."""
    labels: NDArray[np.int64]
    """(n,) the genre that each trailer lends, as a position in the vocabulary."""


def plan_epoch(
    trailers: Sequence[DatasetTrailer], genres: Sequence[str], settings: ModelSettings, *, phase: int, epoch: int
) -> list[Batch]:
    """The batches of one epoch: as many as it takes to show about every training trailer once.

    Rare genres are shown more often than that, for a batch is balanced.

    Args:
        trailers: all of the data set; only the training split is used.
        genres: the vocabulary.
        settings: batch shape and seed.
        phase: number of the phase.
        epoch: number of the epoch within it.
    """
    rng = np.random.default_rng([settings.seed, phase, epoch])
    queues = _lend(trailers, genres, rng)
    per_batch = settings.genres_per_batch * settings.trailers_per_genre
    n_training = sum(len(queue.numbers) for queue in queues)
    return [_draw(queues, trailers, settings, rng) for _ in range(-(-n_training // per_batch))]


class _Queue:
    """The trailers that lend one genre, in a random order that is drawn anew whenever it is used up."""

    def __init__(self, label: int, numbers: list[int], rng: np.random.Generator) -> None:
        self.label = label
        self.numbers = numbers
        self.n_drawn = 0
        self._rng = rng
        self._waiting: list[int] = []

    def draw(self, wanted: int, films: set[str], trailers: Sequence[DatasetTrailer]) -> list[int]:
        """Up to `wanted` trailers of films that are not in the batch yet."""
        drawn: list[int] = []
        for is_second_try in (False, True):
            if is_second_try:
                left = set(self._waiting)
                self._waiting = [int(n) for n in self._rng.permutation(self.numbers) if n not in left] + self._waiting
            passed = []
            while self._waiting and len(drawn) < wanted:
                number = self._waiting.pop()
                if trailers[number].film_id in films:
                    passed.append(number)
                else:
                    films.add(trailers[number].film_id)
                    drawn.append(number)
            self._waiting += passed
            if len(drawn) == wanted:
                break
        self.n_drawn += 1
        return drawn


def _lend(trailers: Sequence[DatasetTrailer], genres: Sequence[str], rng: np.random.Generator) -> list[_Queue]:
    """A queue for each genre that has two films to compare."""
    lent: dict[str, list[int]] = {genre: [] for genre in genres}
    for number, trailer in enumerate(trailers):
        if trailer.split == "train":
            lent[trailer.genres[rng.integers(len(trailer.genres))]].append(number)
    return [
        _Queue(label, lent[genre], rng)
        for label, genre in enumerate(genres)
        if len({trailers[number].film_id for number in lent[genre]}) > 1
    ]


def _draw(
    queues: Sequence[_Queue], trailers: Sequence[DatasetTrailer], settings: ModelSettings, rng: np.random.Generator
) -> Batch:
    order = rng.permutation(len(queues))
    chosen = sorted(order, key=lambda i: queues[i].n_drawn)[: settings.genres_per_batch]
    films: set[str] = set()
    numbers: list[int] = []
    labels: list[int] = []
    for i in chosen:
        drawn = queues[i].draw(settings.trailers_per_genre, films, trailers)
        numbers += drawn
        labels += [queues[i].label] * len(drawn)
    return Batch(np.array(numbers, np.int64), np.array(labels, np.int64))
