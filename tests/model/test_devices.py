"""One device or two, 32 bits or 16: the same losses, and the same weights after them."""

import json
import subprocess
import sys

import keras
import pytest

from trailer_ml.errors import SettingsError
from trailer_ml.model.devices import choose_precision, is_compiled, open_strategy
from trailer_ml.settings import ModelSettings

# The logical devices of a process are set once. Dropout is left out: its masks follow from how many rows a device has.
RUN = """
import json, sys
import keras
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from trailer_ml.model import devices
from trailer_ml.model.layers import FrameBackbone
from trailer_ml.model.losses import LOSSES, ActiveTripletShare, MeanPairDistance
from trailer_ml.model.towers import build_encoder, build_trainer
from trailer_ml.settings import FeatureSettings, ModelSettings
keras.layers.Dropout.call = lambda self, inputs, training=False: inputs
N = 11
rng = np.random.default_rng(0)
pictures = rng.integers(0, 255, (N, 32, 32, 3), dtype=np.uint8)
inputs = [rng.normal(size=(N, 3, 4)).astype(np.float32), np.ones((N, 3), bool), pictures, np.ones(N, bool)]
labels = dict.fromkeys(("embedding", "learned"), np.arange(N) % 3) | {"copy": np.arange(N) // 2}

def train(precision, distribution):
    settings = ModelSettings(
        lstm_units=4, video_dim=8, audio_dim=8, spectrogram_size=32,
        mixed_precision=precision, use_distribution=distribution,
    )
    strategy = devices.open_strategy(settings)
    with strategy.scope():
        keras.utils.set_random_seed(1)
        look = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3)])
        encoder = build_encoder(
            FrameBackbone(look, 32, None, name="backbone"), settings, FeatureSettings(n_frames=3, image_size=32)
        )
        devices.share_normalisation(encoder)
        devices.set_precision(encoder, devices.choose_precision(settings))
        trainer = build_trainer(encoder, 3, is_classifier=False, with_backbone=False)
        loss = {"embedding": LOSSES["triplet_semi_hard"](0.5), "copy": LOSSES["triplet_hard"](0.5)}
        metrics = {"embedding": [ActiveTripletShare(0.5)], "learned": [MeanPairDistance()]}
        trainer.compile(keras.optimizers.SGD(0.1), loss=loss, metrics=metrics, jit_compile=False)
    steps = [devices.train_on_batch(trainer, strategy, inputs, labels) for _ in range(2)]
    vectors = np.asarray(trainer(inputs)["embedding"])
    assert vectors.dtype == np.float32
    return {
        "devices": strategy.num_replicas_in_sync,
        "steps": steps,
        "lengths": np.linalg.norm(vectors, axis=1).tolist(),
        "weights": [float(np.abs(np.asarray(weight)).sum()) for weight in trainer.trainable_weights],
        "computes": encoder.get_layer("video_tower").get_layer("lstm").compute_dtype,
    }

runs = [train("off", "auto"), train("off", "on"), train("bfloat16", "auto")]
print(json.dumps(runs))
"""


# In a process of its own, with XLA first: reproducible operations, once set up, stay, and Keras leaves XLA out then.
XLA = """
import json, warnings
import keras
import numpy as np
from trailer_ml.model import devices, towers
from trailer_ml.model.initial import set_up_keras
from trailer_ml.model.layers import FrameBackbone
from trailer_ml.model.losses import TripletSemiHardLoss
from trailer_ml.settings import FeatureSettings, ModelSettings
towers._DROPOUT = 0.0  # XLA draws other numbers for it
rng = np.random.default_rng(0)
frames, pictures = (rng.integers(0, 255, (5, *shape, 48, 48, 3), dtype=np.uint8) for shape in ((3,), ()))
inputs = [frames, np.ones((5, 3), bool), pictures, np.ones(5, bool)]

def train(compile_xla, is_classifier):
    settings = ModelSettings(lstm_units=4, video_dim=8, audio_dim=8, spectrogram_size=32, compile_xla=compile_xla)
    set_up_keras(settings)
    look = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3)])
    backbone = FrameBackbone(look, 32, "resnet_v2", name="backbone")
    encoder = towers.build_encoder(backbone, settings, FeatureSettings(n_frames=3, image_size=48))
    trainer = towers.build_trainer(encoder, 2, is_classifier=is_classifier, with_backbone=True)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True) if is_classifier else TripletSemiHardLoss()
    told = towers.HEAD_NAMES if is_classifier else ("embedding", "copy")
    is_compiled, labels = devices.is_compiled(settings), np.arange(5) % 2
    with warnings.catch_warnings(action="error"):
        trainer.compile(keras.optimizers.SGD(0.1), loss=dict.fromkeys(told, loss), jit_compile=is_compiled)
    logs = trainer.train_on_batch(inputs, dict.fromkeys(told, labels), return_dict=True)
    return trainer.jit_compile, logs["loss"]

print(json.dumps([[train(asked, is_classifier) for is_classifier in (True, False)] for asked in ("on", "auto")]))
"""


def test_a_step_with_the_backbone_goes_through_xla_and_is_the_same() -> None:
    done = subprocess.run([sys.executable, "-c", XLA], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for (is_quick, quick), (is_other, other) in zip(*json.loads(done.stdout.splitlines()[-1]), strict=True):
        assert (is_quick, is_other) == (True, False)
        assert quick == pytest.approx(other, rel=1e-3)


@pytest.fixture(scope="module")
def runs() -> list[dict]:
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_on_two_devices_losses_and_weights_are_those_of_one(runs: list[dict]) -> None:
    """Of eleven rows one has six, the other five, and triplets are those of all."""
    for one, two in zip(runs[0]["steps"], runs[1]["steps"], strict=True):
        assert two == pytest.approx(one, rel=1e-4)
    assert runs[1]["weights"] == pytest.approx(runs[0]["weights"], rel=1e-4, abs=1e-3)
    assert runs[0]["steps"][0]["loss"] != pytest.approx(runs[0]["steps"][1]["loss"], rel=1e-3)


def test_in_16_bits_losses_are_about_the_same(runs: list[dict]) -> None:
    for one, half in zip(runs[0]["steps"], runs[2]["steps"], strict=True):
        assert half["loss"] == pytest.approx(one["loss"], rel=0.1)
        assert half["learned_pair_distance"] == pytest.approx(one["learned_pair_distance"], rel=0.1)


def test_they_were_what_was_asked_for(runs: list[dict]) -> None:
    assert [run["devices"] for run in runs] == [1, 2, 1]
    assert [run["computes"] for run in runs] == ["float32", "float32", "bfloat16"]
    for run in runs:
        assert run["lengths"] == pytest.approx([1.0] * 11, rel=1e-4)


@pytest.mark.skipif(bool(keras.distribution.list_devices("gpu")), reason="there is a GPU here")
def test_without_a_gpu_it_is_one_device_and_32_bits() -> None:
    settings = ModelSettings()
    assert choose_precision(settings) == "float32"
    assert not is_compiled(settings)
    assert is_compiled(ModelSettings(compile_xla="on"))
    assert open_strategy(settings).num_replicas_in_sync == 1
    with pytest.raises(SettingsError, match="USE_DISTRIBUTION is on, and this machine has one CPU"):
        open_strategy(ModelSettings(use_distribution="on"))
