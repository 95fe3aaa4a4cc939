"""What a model is trained on, and how: one device or several, precision, XLA.

What the settings leave to `auto` is decided here, by what this machine has. Only the way is decided: an encoder is made
and stored in float32 wherever it was trained.

Does not belong here: losses of a batch that lies on several devices (losses.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from trailer_ml.errors import SettingsError
from trailer_ml.model.layers import JoinParts, UnitVector

if TYPE_CHECKING:
    from trailer_ml.settings import ModelSettings

_HAS_BFLOAT16 = (8, 0)
"""The least compute capability of a GPU that is quick in bfloat16."""


def choose_precision(settings: ModelSettings) -> str:
    """The name of a Keras dtype policy."""
    if settings.mixed_precision != "auto":
        return "float32" if settings.mixed_precision == "off" else f"mixed_{settings.mixed_precision}"
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "float32"
    able = [tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus]
    return "mixed_bfloat16" if min(able) >= _HAS_BFLOAT16 else "mixed_float16"


def set_precision(model: keras.Model, policy: str) -> None:
    """Let the layers of a model compute so; their weights are float32 all the time, and so are unit vectors."""
    for layer in model._flatten_layers(include_self=False):
        if not isinstance(layer, UnitVector | JoinParts):
            layer.dtype_policy = policy


def is_compiled(settings: ModelSettings) -> bool:
    """Whether a phase's step goes through XLA; never on several devices, where Keras has none."""
    return settings.compile_xla == "on"


def open_strategy(settings: ModelSettings) -> tf.distribute.Strategy:
    """How a batch is shared out: over all GPUs; where there is none and it was asked for, over all logical CPUs.

    Raises:
        SettingsError: several devices were asked for, and there is one.
    """
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    devices = tf.config.list_logical_devices(kind)
    if settings.use_distribution == "on" and len(devices) < 2:  # noqa: PLR2004 - several
        raise SettingsError(f"TRAILER_MODEL_USE_DISTRIBUTION is on, and this machine has one {kind}")
    if settings.use_distribution == "off" or len(devices) < 2 or (kind, settings.use_distribution) == ("CPU", "auto"):  # noqa: PLR2004
        return tf.distribute.get_strategy()
    # TensorFlow's own choice, collective operations, mixes up gathering and reducing of two devices.
    reduce = tf.distribute.NcclAllReduce() if kind == "GPU" else tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy([device.name for device in devices], cross_device_ops=reduce)


def share_normalisation(model: keras.Model) -> None:
    """Let batch normalisation see the whole batch, not the part of one device; a backbone's is never trained."""
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def train_on_batch(
    trainer: keras.Model, strategy: tf.distribute.Strategy, inputs: Any, labels: Any
) -> dict[str, float]:
    """One step, each device with its part of the rows; what it gave, by name.

    Args:
        trainer: compiled, in the scope of the strategy.
        strategy: as of `open_strategy`.
        inputs: arrays of n rows.
        labels: arrays of n rows, by output.
    """
    # Otherwise Keras makes its metrics while the step is traced, and TensorFlow traces whatever makes variables twice;
    # and from rows that are shared out already Keras cannot read shapes.
    with strategy.scope():
        trainer._symbolic_build(data_batch=(inputs, labels, None))
    n_parts = strategy.num_replicas_in_sync
    if n_parts == 1:
        return trainer.train_on_batch(inputs, labels, return_dict=True)
    trainer.make_train_function()
    trainer.reset_metrics()
    parts = [
        keras.tree.map_structure(lambda array, i=i: tf.constant(np.array_split(array, n_parts)[i]), (inputs, labels))
        for i in range(n_parts)
    ]
    shared = strategy.experimental_distribute_values_from_function(
        lambda context: parts[context.replica_id_in_sync_group]
    )
    logs = trainer.train_function(iter([(*shared, None)]))
    return {name: float(value) for name, value in logs.items()}
