"""Triplet losses on `keras.ops`, so that they run on every Keras backend.

They mean what `TripletSemiHardLoss` and `TripletHardLoss` of tensorflow-addons 0.23 mean, in value and in gradient.
Semi-hard: for every anchor i and every other example j of its class (the positive), the negative is the nearest one
that lies farther away than j; where there is none, the farthest one. The loss is the mean over these pairs of
max(0, margin + d(i, j) - d(i, negative)). Hard: each anchor has one positive, its farthest, and one negative, its
nearest; the loss is the mean over the anchors.

Where ours is meant to be better (docs/decisions/0015): a batch without any pair has semi-hard loss 0, where 0 / 0 made
NaN there; the soft margin of far points is a number, where exp overflowed there. As there, in a batch of one class each
pair counts margin + d(i, j) semi-hard and each anchor the margin hard; a hard anchor without a positive has one at
distance 0. Whatever comes in is computed in float32, and the loss has the vectors' dtype.

Does not belong here: batches that give the loss something to mine (batches.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

if TYPE_CHECKING:
    from trailer_ml.settings import Distance, Mining

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


def semi_hard_terms(labels: Any, vectors: Any, margin: float, distance: Distance = "L2") -> tuple[Any, Any]:
    """What each pair of anchor and positive contributes.

    Args:
        labels: (n,) or (n, 1), one class an example.
        vectors: (n, d) float32.
        margin: by how much a negative should be farther away than the positive.
        distance: as of `pairwise_distances`.

    Returns:
        (n, n) the terms, 0 where there is no pair; (n, n) float, 1 where there is one.
    """
    distances = pairwise_distances(vectors, distance)
    is_negative, is_pair = _relations(labels, distances)
    # the axes of the cube are anchor, positive, negative
    is_farther = is_negative[:, None, :] * ops.cast(distances[:, None, :] > distances[:, :, None], distances.dtype)
    nearest_farther = _masked_min(distances[:, None, :], is_farther)
    negative = ops.where(ops.any(is_farther > 0, axis=2), nearest_farther, _masked_max(distances, is_negative)[:, None])
    return ops.maximum((margin + distances - negative) * is_pair, 0.0), is_pair


def hard_gaps(labels: Any, vectors: Any, distance: Distance = "L2") -> Any:
    """(n,) by how much the farthest positive of each anchor is farther than its nearest negative."""
    distances = pairwise_distances(vectors, distance)
    is_negative, is_pair = _relations(labels, distances)
    return _masked_max(distances, is_pair) - _masked_min(distances, is_negative)


def _relations(labels: Any, distances: Any) -> tuple[Any, Any]:
    """(n, n) 1 where j is of another class than i; (n, n) 1 where j is another example of the same class; else 0."""
    labels = ops.reshape(labels, (-1, 1))
    is_same = ops.cast(ops.equal(labels, ops.transpose(labels)), distances.dtype)
    return 1.0 - is_same, is_same - ops.eye(ops.shape(distances)[0], dtype=distances.dtype)


def _masked_max(values: Any, mask: Any) -> Any:
    """Along the last axis, the largest where the mask is 1, and the least of all where it is 1 nowhere.

    This and its twin are tensorflow-addons' own arithmetic: equal values so share the gradient as they do there.
    """
    least = ops.min(values, axis=-1, keepdims=True)
    return ops.max((values - least) * mask, axis=-1) + ops.squeeze(least, axis=-1)


def _masked_min(values: Any, mask: Any) -> Any:
    """Along the last axis, the least where the mask is 1, and the largest of all where it is 1 nowhere."""
    largest = ops.max(values, axis=-1, keepdims=True)
    return ops.min((values - largest) * mask, axis=-1) + ops.squeeze(largest, axis=-1)


def triplet_semi_hard_loss(labels: Any, vectors: Any, margin: float = 1.0, distance: Distance = "L2") -> Any:
    """The loss of a batch, a scalar of the vectors' dtype; arguments as of `semi_hard_terms`."""
    terms, is_pair = semi_hard_terms(labels, ops.cast(vectors, "float32"), margin, distance)
    return ops.cast(ops.sum(terms) / ops.maximum(ops.sum(is_pair), 1.0), vectors.dtype)


def triplet_hard_loss(
    labels: Any, vectors: Any, margin: float = 1.0, distance: Distance = "L2", *, soft: bool = False
) -> Any:
    """The loss of a batch, a scalar of the vectors' dtype.

    Args:
        labels: (n,) or (n, 1), one class an example.
        vectors: (n, d) float.
        margin: by how much the nearest negative should be farther away than the farthest positive.
        distance: as of `pairwise_distances`.
        soft: log(1 + exp(gap)) instead of max(0, margin + gap); the margin is not used.
    """
    gaps = hard_gaps(labels, ops.cast(vectors, "float32"), distance)
    terms = ops.softplus(gaps) if soft else ops.maximum(gaps + margin, 0.0)
    return ops.cast(ops.mean(terms), vectors.dtype)


def n_devices() -> int:
    """Over how many devices a batch is shared out, where this is called."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def gather(values: Any) -> Any:
    """The whole batch where each of several devices has a part of it: triplets are made of all of it."""
    if n_devices() == 1:
        return values
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context.all_gather(values, axis=0) if context else values  # none while Keras only looks at the shapes


class _TripletLoss(keras.losses.Loss):
    """What both losses keep, and how they go over several devices: each has the whole loss, and adds its share."""

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The loss of the whole batch, divided among the devices, for Keras adds up what they give."""
        loss = super().__call__(gather(y_true), gather(y_pred), sample_weight)
        return loss / n_devices()

    def __init__(self, margin: float = 1.0, distance: Distance = "L2", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.margin = margin
        self.distance = distance

    def get_config(self) -> dict[str, Any]:
        """What it takes to make it again."""
        return {**super().get_config(), "margin": self.margin, "distance": self.distance}


@keras.saving.register_keras_serializable(PACKAGE)
class TripletSemiHardLoss(_TripletLoss):
    """`triplet_semi_hard_loss` for `model.compile`.

    Args:
        margin: by how much a negative should be farther away than the positive.
        distance: L2, squared-L2 or angular.
        name: as of Keras.
    """

    def __init__(
        self, margin: float = 1.0, distance: Distance = "L2", name: str = "triplet_semi_hard_loss", **kwargs: Any
    ) -> None:
        super().__init__(margin, distance, name=name, **kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of a batch; labels (n,), vectors (n, d)."""
        return triplet_semi_hard_loss(y_true, y_pred, self.margin, self.distance)


@keras.saving.register_keras_serializable(PACKAGE)
class TripletHardLoss(_TripletLoss):
    """`triplet_hard_loss` for `model.compile`.

    Args:
        margin: by how much the nearest negative should be farther away than the farthest positive.
        distance: L2, squared-L2 or angular.
        soft: as of `triplet_hard_loss`.
        name: as of Keras.
    """

    def __init__(
        self,
        margin: float = 1.0,
        distance: Distance = "L2",
        *,
        soft: bool = False,
        name: str = "triplet_hard_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(margin, distance, name=name, **kwargs)
        self.soft = soft

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of a batch; labels (n,), vectors (n, d)."""
        return triplet_hard_loss(y_true, y_pred, self.margin, self.distance, soft=self.soft)

    def get_config(self) -> dict[str, Any]:
        """What it takes to make it again."""
        return {**super().get_config(), "soft": self.soft}


LOSSES: dict[Mining, type[_TripletLoss]] = {
    "triplet_semi_hard": TripletSemiHardLoss,
    "triplet_hard": TripletHardLoss,
}
"""By their name in the settings."""


class ActiveTripletShare(keras.metrics.Mean):
    """The share of triplets whose term is above 0: at 0 there is nothing left to learn from, at 1 nothing was learnt.

    Args:
        margin: of the loss.
        distance: of the loss.
        mining: what the loss makes triplets of: each pair and its semi-hard negative, or each anchor.
        name: as of Keras.
    """

    def __init__(
        self,
        margin: float,
        distance: Distance = "L2",
        mining: Mining = "triplet_semi_hard",
        name: str = "active_share",
    ) -> None:
        super().__init__(name=name)
        self.margin = margin
        self.distance = distance
        self.mining = mining

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add one batch."""
        del sample_weight
        y_true, vectors = gather(y_true), ops.cast(gather(y_pred), "float32")
        if self.mining == "triplet_hard":
            share = ops.mean(ops.cast(hard_gaps(y_true, vectors, self.distance) + self.margin > 0, "float32"))
        else:
            terms, is_pair = semi_hard_terms(y_true, vectors, self.margin, self.distance)
            share = ops.sum(ops.cast(terms > 0, "float32")) / ops.maximum(ops.sum(is_pair), 1.0)
        super().update_state(share)


class MeanPairDistance(keras.metrics.Mean):
    """The mean distance of two different examples of a batch: near 0 the model has collapsed to a point."""

    def __init__(self, name: str = "pair_distance") -> None:
        super().__init__(name=name)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add one batch."""
        del y_true, sample_weight
        distances = pairwise_distances(ops.cast(gather(y_pred), "float32"))
        n = ops.cast(ops.shape(distances)[0], "float32")
        super().update_state(ops.sum(distances) / ops.maximum(n * (n - 1.0), 1.0))
