"""On a GPU: pictures a second through the default backbone and through whole training steps, and what bounds them.

It needs Keras and a GPU that its backend drives, and of this project the network and the loss only: no store, no files.
With KERAS_BACKEND=jax a step is traced as well, and its time is told apart by what the GPU did in it.
"""

from __future__ import annotations

import gzip
import json
import re
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np

from benchmarks.measure import interleaved, table, wall_seconds
from trailer_ml.model.layers import FrameBackbone, JoinParts, UnitVector, leaf_layers
from trailer_ml.model.losses import LOSSES
from trailer_ml.model.towers import build_encoder, build_trainer
from trailer_ml.settings import FeatureSettings, ModelSettings

if TYPE_CHECKING:
    from collections.abc import Callable

N_EMBEDDED = (8, 64)
"""Trailers at once: as `Encoder` does it, and many."""
N_TRAINED = 32
"""Trailers a training step sees; twice the settings' batch, for each is shown twice."""
POLICIES = ("float32", "mixed_bfloat16")
SIDE = 8192
"""Of the square matrices whose product is the arithmetic that this GPU can do."""
STEPS = 5
KINDS = (
    ("convolutions and products", r"conv|gemm|xmma|cudnn|cutlass|nvjet|dot"),
    ("copies", r"memcpy|copy|transpose"),
    ("reductions", r"reduce"),
    ("other fusions", r"."),
)
"""What a kernel of a trace does, by its name: the first that fits."""


class Made(NamedTuple):
    """A call that goes through the GPU, the pictures in it, and the operations for one."""

    call: Callable[[], object]
    n_pictures: int
    flops: float


def run() -> str:
    if not keras.distribution.list_devices("gpu"):
        raise SystemExit(f"Keras' backend {keras.backend.backend()} finds no GPU here")
    peak = measure_product()
    rows = [[f"a product of matrices of {SIDE:,} rows, bfloat16", f"{peak / 1e12:.0f} TFLOP/s", "", ""]]
    traces: list[list[str]] = []
    for policy in POLICIES:
        calls = make_calls(policy)
        for name, made in calls.items():
            seconds = interleaved({name: made.call}, rounds=STEPS, measure=wall_seconds)[name]
            rate, speed = made.n_pictures / seconds, made.n_pictures * made.flops / seconds
            share = f"{speed / peak:.1%}" if policy != "float32" else ""
            rows.append([f"{name}, {policy}", f"{rate:,.0f} pictures/s", f"{speed / 1e12:.1f} TFLOP/s", share])
            if keras.backend.backend() == "jax":
                traces.append([f"{name}, {policy}", *trace(made.call)])
        keras.utils.clear_session()
    header = ("", "", "arithmetic of the backbone", "of the product's")
    text = table(f"Model on a GPU: {device_name()}, ResNet50V2 at 224 pixels, {keras.backend.backend()}", header, rows)
    if traces:
        kinds = [name for name, _ in KINDS]
        text += "\n" + table("Model on a GPU: what a call's time is", ("", "wall", "GPU at rest", *kinds), traces)
    return text


def device_name() -> str:
    if keras.backend.backend() == "jax":
        import jax

        return str(jax.devices()[0].device_kind)
    import tensorflow as tf

    return str(tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])["device_name"])


def measure_product() -> float:
    """Operations a second of one large product: what this GPU's arithmetic can do."""
    rng = np.random.default_rng(0)
    one, other = (keras.ops.cast(rng.normal(size=(SIDE, SIDE)).astype(np.float32), "bfloat16") for _ in range(2))
    n = 20

    def chain() -> object:
        product = one
        for _ in range(n):
            product = keras.ops.matmul(product, other) * 0.01
        return np.asarray(keras.ops.cast(product[0, 0], "float32"))

    return n * 2.0 * SIDE**3 / interleaved({"product": chain}, rounds=STEPS, measure=wall_seconds)["product"]


def make_calls(policy: str) -> dict[str, Made]:
    features, settings = FeatureSettings(), ModelSettings(weights="random")
    size = settings.image_size
    backbone = keras.applications.ResNet50V2(include_top=False, weights=None, input_shape=(size, size, 3))
    flops = count_flops(backbone)
    encoder = build_encoder(FrameBackbone(backbone, size, "resnet_v2", name="backbone"), settings, features)
    trainer = build_trainer(encoder, 8, is_classifier=False, with_backbone=True)
    for layer in encoder._flatten_layers(include_self=False):
        layer.trainable = layer.trainable and not isinstance(layer, keras.layers.BatchNormalization)
        if not isinstance(layer, UnitVector | JoinParts):
            layer.dtype_policy = policy
    losses = {name: LOSSES["triplet_semi_hard"](settings.margin) for name in ("embedding", "copy")}
    trainer.compile(keras.optimizers.Adam(1e-5), loss=losses, jit_compile=True)
    calls = {}
    for n in N_EMBEDDED:
        inputs = make_inputs(n, features)
        made = Made(lambda inputs=inputs: encoder.predict_on_batch(inputs), n * features.n_frames, flops)
        calls[f"{n} trailers embedded"] = made
    inputs = make_inputs(N_TRAINED, features)
    labels = {"embedding": np.arange(N_TRAINED) // 4, "copy": np.arange(N_TRAINED) // 2}
    step = Made(lambda: trainer.train_on_batch(inputs, labels), N_TRAINED * features.n_frames, 3 * flops)
    return {**calls, f"a step with {N_TRAINED} trailers, all layers": step}


def make_inputs(n: int, features: FeatureSettings) -> list[np.ndarray]:
    rng, size = np.random.default_rng(n), features.image_size
    frames = rng.integers(0, 256, (n, features.n_frames, size, size, 3), np.uint8)
    mask, pictures = np.ones((n, features.n_frames), bool), rng.integers(0, 256, (n, size, size, 3), np.uint8)
    return [frames, mask, pictures, np.ones(n, bool)]


def count_flops(model: keras.Model) -> float:
    """Operations for one picture: two for each multiplication of the convolutions and dense layers."""
    total = 0.0
    for part in leaf_layers(model):
        if isinstance(part, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D | keras.layers.SeparableConv2D):
            total += 2.0 * np.prod(part.output.shape[1:]) * np.prod(part.kernel_size)
        elif isinstance(part, keras.layers.Conv2D):
            total += 2.0 * np.prod(part.output.shape[1:]) * np.prod(part.kernel.shape[:3])
        elif isinstance(part, keras.layers.Dense):
            total += 2.0 * np.prod(part.kernel.shape)
    return float(total)


def trace(call: Callable[[], object]) -> list[str]:
    """Milliseconds of a call, by JAX's profiler: as a whole, without the GPU, and by `KINDS`."""
    import jax

    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            wall = sum(wall_seconds(call) for _ in range(STEPS)) / STEPS
        (path,) = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    spent: dict[str, float] = defaultdict(float)
    for event in kernels(events):
        kind = next(name for name, pattern in KINDS if re.search(pattern, event["name"], re.IGNORECASE))
        spent[kind] += event["dur"] / 1e6 / STEPS
    times = [wall, wall - sum(spent.values()), *(spent[name] for name, _ in KINDS)]
    return [f"{seconds * 1000:.1f} ms" for seconds in times]


def kernels(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What ran on the streams of a GPU; the trace draws the same time again by module and by operation."""
    gpus = {e["pid"] for e in events if e.get("name") == "process_name" and "GPU" in e["args"]["name"]}
    streams = {
        (e["pid"], e["tid"])
        for e in events
        if e.get("name") == "thread_name" and e["pid"] in gpus and e["args"]["name"].startswith("Stream")
    }
    return [e for e in events if e.get("ph") == "X" and (e["pid"], e["tid"]) in streams]
