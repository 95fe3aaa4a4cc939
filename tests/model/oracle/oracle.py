"""What tensorflow-addons itself makes of batches: value and gradient of each, in one process of its own environment.

`python oracle.py CASES ANSWERS`: CASES is an .npz with `cases` (JSON: loss, distance, margin, soft, dtype of each) and
`labels_<i>`, `vectors_<i>` (float32); ANSWERS gets `values` and `gradient_<i>`, as float32.

It runs eagerly: the same operations, without a graph for every shape.
"""

import json
import sys
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa


def answer(case: dict[str, Any], labels: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value and gradient of one batch."""
    variable = tf.cast(tf.constant(vectors), case["dtype"])
    options = {"margin": case["margin"], "distance_metric": case["distance"]}
    with tf.GradientTape() as tape:
        tape.watch(variable)
        if case["loss"] == "triplet_hard":
            loss = tfa.losses.triplet_hard_loss(labels, variable, soft=case["soft"], **options)
        else:
            loss = tfa.losses.triplet_semihard_loss(labels, variable, **options)
    gradient = tape.gradient(loss, variable)
    return tf.cast(loss, tf.float32).numpy(), tf.cast(gradient, tf.float32).numpy()


def main(cases_path: str, answers_path: str) -> None:
    """Answer all cases."""
    tf.config.run_functions_eagerly(True)
    with np.load(cases_path) as cases:
        described = json.loads(str(cases["cases"]))
        answers = [answer(case, cases[f"labels_{i}"], cases[f"vectors_{i}"]) for i, case in enumerate(described)]
    gradients = {f"gradient_{i}": gradient for i, (_, gradient) in enumerate(answers)}
    np.savez(answers_path, values=np.array([value for value, _ in answers]), **gradients)


if __name__ == "__main__":
    main(*sys.argv[1:])
