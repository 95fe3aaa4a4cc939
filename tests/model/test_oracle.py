"""The triplet losses against tensorflow-addons itself, in value and in gradient: one process answers for all batches.

Its environment is made by `make oracle`, which `make test` calls where Python is 3.11, the last that it runs on.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from trailer_ml.model.losses import triplet_hard_loss, triplet_semi_hard_loss
from trailer_ml.settings import Distance

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".cache/oracle/bin/python"
SCRIPT = Path(__file__).parent / "oracle/oracle.py"
DISTANCES: tuple[Distance, ...] = ("L2", "squared-L2", "angular")
LOSSES = (("triplet_semi_hard", False), ("triplet_hard", False), ("triplet_hard", True))
HALF_BITS = {"float16": 10, "bfloat16": 7}  # of a number, behind its first

JAX_PYTHON = ROOT / ".cache/oracle-jax/bin/python"

# The same losses on JAX: value and gradient.
ON_JAX = """
import json, sys
import jax
import numpy as np
from trailer_ml.model.losses import triplet_hard_loss, triplet_semi_hard_loss
found = {}
with np.load(sys.argv[1]) as cases:
    for i in map(int, sys.argv[3:]):
        case = json.loads(str(cases["cases"]))[i]
        labels, vectors = cases[f"labels_{i}"], jax.numpy.asarray(cases[f"vectors_{i}"])
        def loss(v):
            if case["loss"] == "triplet_hard":
                return triplet_hard_loss(labels, v, case["margin"], case["distance"], soft=case["soft"])
            return triplet_semi_hard_loss(labels, v, case["margin"], case["distance"])
        found[f"value_{i}"], found[f"gradient_{i}"] = jax.value_and_grad(loss)(vectors)
np.savez(sys.argv[2], **found)
"""


class Case(NamedTuple):
    """A batch, and which loss is asked of it."""

    kind: str
    labels: np.ndarray
    vectors: np.ndarray
    loss: str
    soft: bool
    distance: Distance
    margin: float
    dtype: str = "float32"

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.loss}, soft {self.soft}, {self.distance}, margin {self.margin}, {self.dtype}"


def vectors_of(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    vectors = rng.normal(size=(n, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def batches() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Kind, labels, vectors."""
    shapes = ((2, 3, 1), (3, 2, 2), (8, 4, 3), (24, 16, 6), (33, 256, 5), (96, 64, 8))
    for seed, (n, dim, n_classes) in enumerate(shapes * 2):
        rng = np.random.default_rng(seed)
        yield f"random {n}x{dim} seed {seed}", rng.integers(0, n_classes, n), vectors_of(rng, n, dim)
    rng = np.random.default_rng(99)
    yield "long vectors", rng.integers(0, 3, 16), rng.normal(size=(16, 8)).astype(np.float32) * 3
    yield "no positive", np.arange(12), vectors_of(rng, 12, 8)
    yield "one class", np.zeros(12, int), vectors_of(rng, 12, 8)
    yield "a class of one", np.array([0, 0, 0, 1, 2, 2]), vectors_of(rng, 6, 8)
    yield "two of one class", np.zeros(2, int), vectors_of(rng, 2, 4)
    # Coordinates of few bits: distances come out the same whatever the order in which products are added.
    few_bits = (rng.integers(-8, 9, (6, 4)) / 8).astype(np.float32)
    yield "duplicates in a class", np.array([0, 0, 1, 1, 2, 2]), few_bits[[0, 0, 1, 2, 3, 3]]
    yield "duplicates across classes", np.array([0, 1, 0, 1, 2, 2]), few_bits[[0, 0, 1, 2, 3, 3]]
    yield "all the same", np.array([0, 0, 1, 1, 2]), few_bits[[0] * 5]


def all_cases() -> list[Case]:
    cases = [
        Case(kind, labels, vectors, loss, soft, distance, margin)
        for kind, labels, vectors in batches()
        for loss, soft in LOSSES
        for distance in DISTANCES
        for margin in ((1.0,) if soft else (0.2, 1.0))
    ]
    halves = []
    for case in cases:
        if case.kind.startswith(("random 24", "no positive", "duplicates across")) and case.margin == 1.0:
            for dtype in HALF_BITS:
                rounded = tf.cast(tf.cast(case.vectors, dtype), tf.float32).numpy()
                halves += [case._replace(vectors=rounded, dtype=dtype), case._replace(vectors=rounded)]  # side by side
    return cases + halves


class Answers(NamedTuple):
    """What somebody makes of all cases."""

    values: np.ndarray
    gradients: list[np.ndarray]


CASES = all_cases()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With cases.npz in it."""
    folder = tmp_path_factory.mktemp("oracle")
    described = [
        {"loss": c.loss, "soft": c.soft, "distance": c.distance, "margin": c.margin, "dtype": c.dtype} for c in CASES
    ]
    arrays = {f"labels_{i}": case.labels for i, case in enumerate(CASES)}
    arrays |= {f"vectors_{i}": case.vectors for i, case in enumerate(CASES)}
    np.savez(folder / "cases.npz", cases=json.dumps(described), **arrays)
    return folder


@pytest.fixture(scope="module")
def oracle(folder: Path) -> Answers:
    if not PYTHON.exists():
        reason = "needs Python 3.11" if sys.version_info[:2] != (3, 11) else "is not here: make oracle"
        pytest.skip(f"tensorflow-addons 0.23, the oracle, {reason}")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    command = [str(PYTHON), str(SCRIPT), str(folder / "cases.npz"), str(folder / "answers.npz")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    with np.load(folder / "answers.npz") as found:
        return Answers(found["values"], [found[f"gradient_{i}"] for i in range(len(CASES))])


@pytest.fixture(scope="module")
def ours() -> Answers:
    values, gradients = [], []
    for case in CASES:
        vectors = tf.cast(tf.constant(case.vectors), case.dtype)
        with tf.GradientTape() as tape:
            tape.watch(vectors)
            if case.loss == "triplet_hard":
                loss = triplet_hard_loss(case.labels, vectors, case.margin, case.distance, soft=case.soft)
            else:
                loss = triplet_semi_hard_loss(case.labels, vectors, case.margin, case.distance)
        assert loss.dtype == case.dtype
        gradient = tape.gradient(loss, vectors)
        values.append(float(loss))
        gradients.append(tf.cast(gradient, tf.float32).numpy())
    return Answers(np.array(values), gradients)


def is_better(case: Case) -> bool:
    """Where docs/decisions/0015 says that ours is meant to be another: theirs is no number there."""
    return has_no_pair(case) or (case.kind == "long vectors" and case.soft and case.distance == "squared-L2")


def has_no_pair(case: Case) -> bool:
    return case.loss == "triplet_semi_hard" and len(set(case.labels)) == len(case.labels)


def test_values_are_those_of_tensorflow_addons(oracle: Answers, ours: Answers) -> None:
    for case, theirs, value in zip(CASES, oracle.values, ours.values, strict=True):
        if is_better(case):
            assert not np.isfinite(theirs), case.name
            assert value == 0.0 if has_no_pair(case) else np.isfinite(value), case.name
        else:
            assert value == pytest.approx(float(theirs), rel=1e-6, abs=1e-12), case.name


def test_gradients_are_those_of_tensorflow_addons(oracle: Answers, ours: Answers) -> None:
    for number, (case, theirs, gradient) in enumerate(zip(CASES, oracle.gradients, ours.gradients, strict=True)):
        if is_better(case):
            assert np.isnan(theirs).any(), case.name
            assert (gradient == 0).all() if has_no_pair(case) else np.isfinite(gradient).all(), case.name
        elif case.dtype in HALF_BITS:
            exact = oracle.gradients[number + 1]  # of the same numbers as float32
            step = steps_at(np.maximum(np.abs(gradient), np.abs(theirs)), HALF_BITS[case.dtype])
            assert (np.abs(gradient - exact) <= step / 2 + 1e-5).all(), case.name  # rounded once, at the end
            assert (np.abs(gradient - theirs) <= step + 1e-5).all(), case.name
        else:
            np.testing.assert_allclose(gradient, theirs, rtol=1e-5, atol=1e-5, err_msg=case.name)


def steps_at(sizes: np.ndarray, bits: int) -> np.ndarray:
    """From numbers of these sizes to the next that a half can hold."""
    return 2.0 ** (np.floor(np.log2(np.maximum(sizes, 1e-30))) - bits)


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_soft_margin_of_far_points_is_a_number(distance: Distance) -> None:
    vectors = tf.constant([[0.0], [1e3], [1.0]])  # exp(1e6) is none
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        loss = triplet_hard_loss(np.array([0, 0, 1]), vectors, distance=distance, soft=True)
    assert np.isfinite(float(loss))
    assert np.isfinite(tape.gradient(loss, vectors).numpy()).all()


def test_on_jax_they_are_the_same(folder: Path, ours: Answers) -> None:
    if not JAX_PYTHON.exists():
        pytest.skip("JAX is not here: make oracle")
    asked = [
        i
        for i, case in enumerate(CASES)
        if case.kind.startswith(("random 24x16 seed 3", "no positive", "one class", "dup"))
        and case.dtype == "float32"
        and case.margin == 1.0
    ]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [str(JAX_PYTHON), "-c", ON_JAX, str(folder / "cases.npz"), str(folder / "jax.npz"), *map(str, asked)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    with np.load(folder / "jax.npz") as found:
        for i in asked:
            assert found[f"value_{i}"] == pytest.approx(ours.values[i], rel=1e-6, abs=1e-12), CASES[i].name
            np.testing.assert_allclose(
                found[f"gradient_{i}"], ours.gradients[i], rtol=1e-5, atol=1e-5, err_msg=CASES[i].name
            )
