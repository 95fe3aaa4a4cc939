"""The loss against a slow twin written from its definition, in value and in gradient."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from trailer_ml.model.losses import (
    ActiveTripletShare,
    MeanPairDistance,
    TripletSemiHardLoss,
    pairwise_distances,
    triplet_semi_hard_loss,
)
from trailer_ml.settings import Distance

METRICS: list[Distance] = ["L2", "squared-L2", "angular"]


def distance_of(a: np.ndarray, b: np.ndarray, metric: str) -> float:
    if metric == "angular":
        return float(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    length = float(np.linalg.norm(a - b))
    return length if metric == "L2" else length**2


def slow_loss(labels: np.ndarray, vectors: np.ndarray, margin: float, metric: str) -> float:
    """The definition, one triplet at a time."""
    terms = []
    for i, anchor in enumerate(vectors):
        negatives = [
            distance_of(anchor, v, metric) for v, label in zip(vectors, labels, strict=True) if label != labels[i]
        ]
        for j, positive in enumerate(vectors):
            if i == j or labels[i] != labels[j]:
                continue
            d = distance_of(anchor, positive, metric)
            farther = [n for n in negatives if n > d]
            negative = min(farther) if farther else max(negatives, default=0.0)
            terms.append(max(0.0, margin + d - negative))
    return sum(terms) / len(terms) if terms else 0.0


def unit_batch(seed: int, n: int = 18, dim: int = 6, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, dim))
    return rng.integers(0, classes, n), vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def value_and_gradient(
    labels: np.ndarray, vectors: np.ndarray, margin: float, metric: Distance
) -> tuple[float, np.ndarray]:
    variable = tf.Variable(vectors, dtype=tf.float32)
    with tf.GradientTape() as tape:
        loss = triplet_semi_hard_loss(tf.constant(labels), tf.convert_to_tensor(variable), margin, metric)
    return float(loss), tape.gradient(loss, variable).numpy()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("margin", [0.2, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_value_is_the_definition(metric: Distance, margin: float, seed: int) -> None:
    labels, vectors = unit_batch(seed)
    value, _ = value_and_gradient(labels, vectors, margin, metric)
    assert value == pytest.approx(slow_loss(labels, vectors, margin, metric), rel=2e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_gradient_is_the_slope_of_the_definition(metric: Distance) -> None:
    labels, vectors = unit_batch(5, n=10, dim=4, classes=3)
    _, gradient = value_and_gradient(labels, vectors, 0.5, metric)
    step = 1e-6
    for row, column in np.ndindex(vectors.shape):
        up, down = vectors.copy(), vectors.copy()
        up[row, column] += step
        down[row, column] -= step
        slope = (slow_loss(labels, up, 0.5, metric) - slow_loss(labels, down, 0.5, metric)) / (2 * step)
        assert gradient[row, column] == pytest.approx(slope, abs=2e-5)


def test_a_triplet_by_hand() -> None:
    # anchor 0 and positive 1 are 3 apart; the negatives are 1, 4 and 6 from the anchor, 2, 1 and 3 from the positive
    labels, line = np.array([0, 0, 1, 2, 3]), np.array([[0.0], [3.0], [1.0], [4.0], [6.0]])
    value, _ = value_and_gradient(labels, line, 2.0, "L2")
    # from 0 the nearest farther than 3 is 4: 2 + 3 - 4 = 1
    # from 1 none is farther than 3, the farthest is 3: 2 + 3 - 3 = 2
    assert value == pytest.approx((1.0 + 2.0) / 2)


@pytest.mark.parametrize("metric", METRICS)
def test_nothing_to_compare_is_never_nan(metric: Distance) -> None:
    _, vectors = unit_batch(1, n=6)
    one_class, gradient = value_and_gradient(np.zeros(6, int), vectors, 0.2, metric)
    assert one_class == pytest.approx(slow_loss(np.zeros(6), vectors, 0.2, metric), rel=1e-5)
    assert np.isfinite(gradient).all()
    no_pair, gradient = value_and_gradient(np.arange(6), vectors, 0.2, metric)
    assert no_pair == 0.0
    assert (gradient == 0).all()


@pytest.mark.parametrize("metric", METRICS)
def test_duplicates_and_zero_vectors_have_finite_gradients(metric: Distance) -> None:
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    value, gradient = value_and_gradient(np.array([0, 0, 1, 1, 2]), vectors, 0.2, metric)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_computed_in_float32(dtype: str) -> None:
    labels, vectors = unit_batch(2)
    half = tf.cast(tf.constant(vectors, tf.float32), dtype)
    loss = triplet_semi_hard_loss(tf.constant(labels), half, 0.2)
    exact = slow_loss(labels, tf.cast(half, tf.float64).numpy(), 0.2, "L2")
    assert loss.dtype == dtype
    assert float(loss) == pytest.approx(exact, rel=2**-8 if dtype == "bfloat16" else 2**-11)


def test_distances_of_a_point_to_itself_are_exactly_zero() -> None:
    _, vectors = unit_batch(3)
    for metric in METRICS:
        assert (np.diag(pairwise_distances(tf.constant(vectors, tf.float32), metric)) == 0).all()


def test_loss_object_is_saved_and_loaded() -> None:
    loss = TripletSemiHardLoss(margin=0.3, distance="angular")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    labels, vectors = unit_batch(4)
    assert again(labels, vectors) == loss(labels, vectors)
    assert float(loss(labels, vectors)) == pytest.approx(slow_loss(labels, vectors, 0.3, "angular"), rel=1e-5)


def test_metrics_by_hand() -> None:
    labels, line = np.array([0, 0, 1]), np.array([[0.0], [1.0], [1.5]], dtype=np.float32)
    active, distance = ActiveTripletShare(margin=0.2), MeanPairDistance()
    active.update_state(labels, line)
    distance.update_state(labels, line)
    # from 0: 0.2 + 1 - 1.5 < 0; from 1: none farther than 1, the farthest is 0.5: active
    assert float(active.result()) == pytest.approx(0.5)
    assert float(distance.result()) == pytest.approx((1.0 + 1.5 + 0.5) / 3)
