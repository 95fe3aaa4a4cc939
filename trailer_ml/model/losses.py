"""Triplet semi-hard loss on `keras.ops`, so that it runs on every Keras backend.

It means what `TripletSemiHardLoss` of tensorflow-addons 0.23 means. For every anchor i and every other example j of
its class (the positive), the negative is the nearest one that lies farther away than j; where there is none, the
farthest one. The loss is the mean over these pairs of max(0, margin + d(i, j) - d(i, negative)).

Two cases are worth knowing. A batch without any pair has loss 0 here, where 0 / 0 made NaN there. A batch of one
class has no negatives, and as there each pair counts margin + d(i, j). Halves are computed in float32.

Does not belong here: batches that give the loss something to mine (batches.py).
"""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

Distance = Literal["L2", "squared-L2", "angular"]
PACKAGE = "trailer_ml"


def pairwise_distances(vectors: Any, distance: Distance = "L2") -> Any:
    """All distances in a batch.

    The gradient of a square root is infinite at 0, where duplicates are: those distances are 0 with gradient 0.

    Args:
        vectors: (n, d) float.
        distance: L2, its square, or 1 - cosine (angular).

    Returns:
        (n, n) float, zero on the diagonal.
    """
    off_diagonal = 1.0 - ops.eye(ops.shape(vectors)[0], dtype=vectors.dtype)
    if distance == "angular":
        lengths = ops.sqrt(ops.maximum(ops.sum(ops.square(vectors), axis=1, keepdims=True), 1e-12))
        unit = vectors / lengths
        return ops.maximum(1.0 - ops.matmul(unit, ops.transpose(unit)), 0.0) * off_diagonal
    squares = ops.sum(ops.square(vectors), axis=1, keepdims=True)
    squared = ops.maximum(squares + ops.transpose(squares) - 2.0 * ops.matmul(vectors, ops.transpose(vectors)), 0.0)
    squared = squared * off_diagonal
    if distance == "squared-L2":
        return squared
    is_apart = squared > 0
    return ops.where(is_apart, ops.sqrt(ops.where(is_apart, squared, 1.0)), 0.0)


def semi_hard_terms(labels: Any, vectors: Any, margin: float, distance: Distance = "L2") -> tuple[Any, Any, Any]:
    """What each pair of anchor and positive contributes.

    Args:
        labels: (n,) or (n, 1), one class an example.
        vectors: (n, d) float.
        margin: by how much a negative should be farther away than the positive.
        distance: as of `pairwise_distances`.

    Returns:
        (n, n) the terms, 0 where there is no pair; (n, n) bool where there is one; (n, n) all distances.
    """
    labels = ops.reshape(labels, (-1, 1))
    distances = pairwise_distances(vectors, distance)
    is_same = ops.equal(labels, ops.transpose(labels))
    is_negative = ops.logical_not(is_same)
    # the axes of the cube are anchor, positive, negative
    is_farther = ops.logical_and(is_negative[:, None, :], distances[:, None, :] > distances[:, :, None])
    nearest_farther = ops.min(ops.where(is_farther, distances[:, None, :], float("inf")), axis=2)
    farthest = ops.max(ops.where(is_negative, distances, 0.0), axis=1, keepdims=True)
    negative = ops.where(ops.any(is_farther, axis=2), nearest_farther, farthest)
    is_pair = ops.logical_and(is_same, ops.eye(ops.shape(distances)[0], dtype=distances.dtype) < 1)  # not itself
    terms = ops.where(is_pair, ops.maximum(margin + distances - negative, 0.0), 0.0)
    return terms, is_pair, distances


def triplet_semi_hard_loss(labels: Any, vectors: Any, margin: float = 1.0, distance: Distance = "L2") -> Any:
    """The loss of a batch, a scalar of the vectors' dtype; arguments as of `semi_hard_terms`."""
    precise = ops.cast(vectors, "float32")
    terms, is_pair, _ = semi_hard_terms(labels, precise, margin, distance)
    n_pairs = ops.maximum(ops.sum(ops.cast(is_pair, "float32")), 1.0)
    return ops.cast(ops.sum(terms) / n_pairs, vectors.dtype)


@keras.saving.register_keras_serializable(PACKAGE)
class TripletSemiHardLoss(keras.losses.Loss):
    """`triplet_semi_hard_loss` for `model.compile`.

    Args:
        margin: by how much a negative should be farther away than the positive.
        distance: L2, squared-L2 or angular.
        name: as of Keras.
    """

    def __init__(
        self, margin: float = 1.0, distance: Distance = "L2", name: str = "triplet_semi_hard_loss", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.margin = margin
        self.distance = distance

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of a batch; labels (n,), vectors (n, d)."""
        return triplet_semi_hard_loss(y_true, y_pred, self.margin, self.distance)

    def get_config(self) -> dict[str, Any]:
        """What it takes to make it again."""
        return {**super().get_config(), "margin": self.margin, "distance": self.distance}


class ActiveTripletShare(keras.metrics.Mean):
    """The share of pairs whose term is above 0: at 0 there is nothing left to learn from, at 1 nothing was learnt."""

    def __init__(self, margin: float, name: str = "active_share") -> None:
        super().__init__(name=name)
        self.margin = margin

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add one batch."""
        del sample_weight
        terms, is_pair, _ = semi_hard_terms(y_true, ops.cast(y_pred, "float32"), self.margin)
        n_active = ops.sum(ops.cast(terms > 0, "float32"))
        super().update_state(n_active / ops.maximum(ops.sum(ops.cast(is_pair, "float32")), 1.0))


class MeanPairDistance(keras.metrics.Mean):
    """The mean distance of two different examples of a batch: near 0 the model has collapsed to a point."""

    def __init__(self, name: str = "pair_distance") -> None:
        super().__init__(name=name)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add one batch."""
        del y_true, sample_weight
        distances = pairwise_distances(ops.cast(y_pred, "float32"))
        n = ops.cast(ops.shape(distances)[0], "float32")
        super().update_state(ops.sum(distances) / ops.maximum(n * (n - 1.0), 1.0))
