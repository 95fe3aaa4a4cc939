"""Which trailers make a batch: P genres x K trailers, so that every anchor has positives and negatives to mine.

A trailer of several genres lends one of them to each epoch. A film is in a batch once at most: its teaser would be a
positive that teaches nothing, and under another genre a negative that teaches something wrong. No batch is of one genre
only.

Everything follows from (seed, phase, epoch): a training that was killed goes on with the very batches it would have
had.

Does not belong here: the arrays (examples.py).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trailer_ml.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
    """The batches of one epoch: as many as it takes to show as many trailers as there are to train on.

    Rare genres are shown more often than others, for a batch is balanced.

    Args:
        trailers: all of the data set; only the training split is used.
        genres: the vocabulary.
        settings: batch shape and seed.
        phase: number of the phase.
        epoch: number of the epoch within it.

    Raises:
        DataError: no two genres have two films each; this does not depend on phase and epoch.
    """
    rng = np.random.default_rng([settings.seed, phase, epoch])
    queues = _lend(trailers, genres, rng)
    n_left = sum(len(queue.numbers) for queue in queues)
    batches = []
    while n_left > 0:
        batches.append(_draw(queues, trailers, settings, rng))
        n_left -= len(batches[-1].numbers)
    return batches


def show_twice(batch: Batch) -> Batch:
    """Each trailer twice: it is varied anew each time, so that the one is a copy of the other."""
    return Batch(np.tile(batch.numbers, 2), np.tile(batch.labels, 2))


class _Queue:
    """The trailers that lend one genre, in a random order that is drawn anew whenever it is used up."""

    def __init__(self, label: int, numbers: list[int], rng: np.random.Generator) -> None:
        self.label = label
        self.numbers = numbers
        self.n_batches = 0
        self._rng = rng
        self._waiting: list[int] = []

    def draw(self, films: set[str], trailers: Sequence[DatasetTrailer]) -> int | None:
        """The next trailer whose film is not in the batch yet, which it joins; None where there is none."""
        for is_second_try in (False, True):
            if is_second_try:
                left = set(self._waiting)
                self._waiting = [int(n) for n in self._rng.permutation(self.numbers) if n not in left] + self._waiting
            for place in range(len(self._waiting) - 1, -1, -1):
                if trailers[self._waiting[place]].film_id not in films:
                    films.add(trailers[self._waiting[place]].film_id)
                    return self._waiting.pop(place)
        return None


def _lend(trailers: Sequence[DatasetTrailer], genres: Sequence[str], rng: np.random.Generator) -> list[_Queue]:
    """A queue for each genre that has two films to compare; two queues at least."""
    training = {number: trailer for number, trailer in enumerate(trailers) if trailer.split == "train"}
    reserved = _reserve(list(training.values()), rng)
    lent = {number: trailer.genres[rng.integers(len(trailer.genres))] for number, trailer in training.items()}
    queues = _queue_up(lent, trailers, genres, rng)
    if len(queues) < 2:  # noqa: PLR2004 - a genre is told apart from another
        for number, trailer in training.items():
            if (genre := reserved.get(trailer.film_id)) in trailer.genres:
                lent[number] = genre
        queues = _queue_up(lent, trailers, genres, rng)
    return queues


def _reserve(training: Sequence[DatasetTrailer], rng: np.random.Generator) -> dict[str, str]:
    """Four films, and the genres that they can lend so that two genres have two films each.

    Two genres can be served if each has two films, and both together four.
    """
    films: defaultdict[str, set[str]] = defaultdict(set)
    for trailer in training:
        for genre in trailer.genres:
            films[genre].add(trailer.film_id)
    usable = [str(genre) for genre in rng.permutation(sorted(g for g in films if len(films[g]) > 1))]
    for one, other in itertools.combinations(usable, 2):
        if len(films[one] | films[other]) > 3:  # noqa: PLR2004
            mine = sorted(rng.permutation(sorted(films[one])), key=lambda film: film in films[other])[:2]
            theirs = rng.permutation(sorted(films[other].difference(mine)))[:2]
            return {str(film): one for film in mine} | {str(film): other for film in theirs}
    raise DataError("no two genres have two films each to train on, four films in all: add films")


def _queue_up(
    lent: Mapping[int, str], trailers: Sequence[DatasetTrailer], genres: Sequence[str], rng: np.random.Generator
) -> list[_Queue]:
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for number, genre in lent.items():
        numbers[genre].append(number)
    return [
        _Queue(label, numbers[genre], rng)
        for label, genre in enumerate(genres)
        if len({trailers[number].film_id for number in numbers[genre]}) > 1
    ]


def _draw(
    queues: Sequence[_Queue], trailers: Sequence[DatasetTrailer], settings: ModelSettings, rng: np.random.Generator
) -> Batch:
    """One trailer of each genre in turn, so that films of two genres are not all taken by the first."""
    order = rng.permutation(len(queues))
    chosen = sorted(order, key=lambda i: queues[i].n_batches)[: settings.genres_per_batch]
    films: set[str] = set()
    numbers: list[int] = []
    labels: list[int] = []
    for i in list(chosen) * settings.trailers_per_genre:
        number = queues[i].draw(films, trailers)
        if number is not None:
            numbers.append(number)
            labels.append(queues[i].label)
    for i in chosen:
        queues[i].n_batches += 1
    return Batch(np.array(numbers, np.int64), np.array(labels, np.int64))
