"""Towers and backbones: shapes, missing parts, what is frozen, what is saved, and what is refused."""

import http.server
import json
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest

from trailer_ml.errors import DataError, ModelMismatchError, SettingsError
from trailer_ml.model import archive, checkpoints
from trailer_ml.model.backbones import calibrate, load_backbone, weights_digest
from trailer_ml.model.checkpoints import Checkpoint
from trailer_ml.model.encoder import Encoder
from trailer_ml.model.initial import find_directions
from trailer_ml.model.layers import FrameBackbone, leaf_layers, resize
from trailer_ml.model.towers import (
    build_encoder,
    build_trainer,
    build_video_tower,
    frame_model,
    n_learned,
    small_spectrogram_model,
)
from trailer_ml.model.train import set_trainable
from trailer_ml.settings import FeatureSettings, ModelSettings
from trailer_ml.storage import Store, backbone_key
from trailer_ml.vectors import split_scores

SIZE, N_FRAMES = 48, 4
FEATURES = FeatureSettings(n_frames=N_FRAMES, image_size=SIZE)
SETTINGS = ModelSettings(
    backbone="MobileNetV2",
    backbone_arguments={"alpha": 0.35},
    weights="random",
    image_size=32,
    spectrogram_size=32,
    lstm_units=8,
    video_dim=6,
    audio_dim=5,
)


def arrays(n: int = 5, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        rng.integers(0, 255, (n, N_FRAMES, SIZE, SIZE, 3), dtype=np.uint8),
        np.ones((n, N_FRAMES), bool),
        rng.integers(0, 255, (n, SIZE, SIZE, 3), dtype=np.uint8),
        np.ones(n, bool),
    ]


@pytest.fixture(scope="module")
def encoder() -> keras.Model:
    keras.utils.set_random_seed(1)
    backbone = load_backbone(SETTINGS, None).layer  # type: ignore[arg-type]
    calibrate(backbone, arrays()[0].reshape(-1, SIZE, SIZE, 3))
    return build_encoder(backbone, SETTINGS, FEATURES)


def test_a_score_is_the_sum_of_its_video_and_audio_share(encoder: keras.Model) -> None:
    vectors = encoder.predict_on_batch(arrays())
    assert vectors.shape == (5, 11)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.square(vectors[:, :6]).sum(axis=1), 0.5, rtol=1e-5)
    video, audio = split_scores(vectors[0], vectors, 6)
    np.testing.assert_allclose(video + audio, vectors @ vectors[0], rtol=1e-5)


def test_what_is_kept_of_a_frozen_backbone_gives_the_same_vectors(encoder: keras.Model) -> None:
    frames, mask, spectrogram, has_audio = arrays()
    kept = frame_model(encoder).predict_on_batch(frames)
    small = np.rint(small_spectrogram_model(encoder).predict_on_batch(spectrogram)).astype(np.uint8)
    assert small.shape == (5, 32, 32, 3)
    trainers = [build_trainer(encoder, 3, is_classifier=False, with_backbone=each) for each in (True, False)]
    whole, quick = (
        trainer.predict_on_batch(inputs)["embedding"]
        for trainer, inputs in zip(
            trainers, [[frames, mask, spectrogram, has_audio], [kept, mask, small, has_audio]], strict=True
        )
    )
    np.testing.assert_allclose(quick, whole, atol=0.01)  # the small spectrogram is kept in whole numbers


def test_a_missing_part_is_zero_and_the_other_is_all(encoder: keras.Model) -> None:
    frames, mask, spectrogram, has_audio = arrays()
    has_audio[1] = False
    mask[2] = False
    mask[3], has_audio[3] = False, False
    vectors = encoder.predict_on_batch([frames, mask, spectrogram, has_audio])
    assert np.isfinite(vectors).all()
    lengths = np.linalg.norm(vectors[:, :6], axis=1), np.linalg.norm(vectors[:, 6:], axis=1)
    np.testing.assert_allclose(lengths[0], [0.5**0.5, 1, 0, 0, 0.5**0.5], atol=1e-5)
    np.testing.assert_allclose(lengths[1], [0.5**0.5, 0, 1, 0, 0.5**0.5], atol=1e-5)


def test_padding_does_not_count(encoder: keras.Model) -> None:
    frames, mask, spectrogram, has_audio = arrays()
    mask[:, 2:] = False
    before = encoder.predict_on_batch([frames, mask, spectrogram, has_audio])
    frames[:, 2:] = 255 - frames[:, 2:]
    np.testing.assert_array_equal(encoder.predict_on_batch([frames, mask, spectrogram, has_audio]), before)
    mask[:, 2] = True
    assert np.abs(encoder.predict_on_batch([frames, mask, spectrogram, has_audio]) - before).max() > 1e-3


def test_half_of_a_tower_is_not_learned(encoder: keras.Model) -> None:
    """The LSTM knows the order of the frames, the mean does not; a cosine is half the one's and half the other's."""
    frames, mask, spectrogram, has_audio = arrays()
    before = encoder.predict_on_batch([frames, mask, spectrogram, has_audio])
    after = encoder.predict_on_batch([frames[:, ::-1], mask, spectrogram, has_audio])
    assert (n_learned(encoder, "video"), n_learned(encoder, "audio_genre")) == (3, 3)
    np.testing.assert_allclose(after[:, 3:6], before[:, 3:6], atol=1e-5)
    assert np.abs(after[:, :3] - before[:, :3]).max() > 1e-3
    for half in (before[:, :3], before[:, 3:6], before[:, 6:9], before[:, 9:]):
        np.testing.assert_allclose(np.square(half).sum(axis=1), 0.25, rtol=1e-4)
    trainer = build_trainer(encoder, 3, is_classifier=False, with_backbone=False)
    assert not [weight.path for weight in trainer.trainable_weights if "directions" in weight.path]


def test_without_that_half_a_tower_is_the_articles() -> None:
    tower = build_video_tower((N_FRAMES, 7), SETTINGS.model_copy(update={"plain_half": False}))
    assert tower.get_layer("video_projection").units == SETTINGS.video_dim == tower.output_shape[-1]
    assert not [layer.name for layer in tower.layers if "plain" in layer.name]


def test_directions_by_hand() -> None:
    rows = np.array([[4, 0, 0], [-4, 0, 0], [0, 1, 0], [0, -1, 0]], np.float32)
    found = find_directions(rows, 4)
    expected = [[1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 10, 0]]  # a quarter as long; of no length; none left
    np.testing.assert_allclose(np.abs(found), expected, atol=1e-5)


def test_batch_normalisation_of_the_backbone_stays_in_inference_mode(encoder: keras.Model) -> None:
    backbone = encoder.get_layer("backbone")
    norms = [layer for layer in leaf_layers(backbone.backbone) if isinstance(layer, keras.layers.BatchNormalization)]
    before = [norm.moving_mean.numpy() for norm in norms]
    frames = arrays()[0]
    np.testing.assert_allclose(backbone(frames, training=True), backbone(frames, training=False), rtol=1e-5)
    set_trainable(backbone.backbone, -1)
    trainer = build_trainer(encoder, 3, is_classifier=True, with_backbone=True)
    trainer.compile("sgd", dict.fromkeys(("video_genre", "audio_genre"), "sparse_categorical_crossentropy"))
    trainer.train_on_batch(arrays(), {name: np.arange(5) % 3 for name in ("video_genre", "audio_genre")})
    for norm, mean in zip(norms, before, strict=True):
        np.testing.assert_array_equal(norm.moving_mean.numpy(), mean)


def test_calibration_keeps_a_random_backbone_alive() -> None:
    keras.utils.set_random_seed(2)
    backbone = load_backbone(SETTINGS, None).layer  # type: ignore[arg-type]
    frames = arrays(8)[0]
    dead = backbone(frames).numpy()
    calibrate(backbone, frames.reshape(-1, SIZE, SIZE, 3))
    alive = backbone(frames).numpy()
    assert alive.std(axis=(0, 1)).mean() > 10 * dead.std(axis=(0, 1)).mean()
    assert np.isfinite(alive).all()


def test_the_last_layers_are_trained_and_normalisation_never(encoder: keras.Model) -> None:
    backbone = encoder.get_layer("backbone").backbone

    def trained(n_layers: int) -> list[str]:
        set_trainable(backbone, n_layers)
        return [layer.name for layer in leaf_layers(backbone) if layer.trainable_weights]

    assert trained(0) == []
    assert trained(3) == ["Conv_1"]  # of Conv_1, Conv_1_bn and out_relu
    assert len(trained(-1)) == 52
    assert not [name for name in trained(-1) if "bn" in name.lower()]


def test_frozen_save_then_unfreeze_then_load_gives_the_same_embeddings(encoder: keras.Model, tmp_path: Path) -> None:
    backbone = encoder.get_layer("backbone").backbone
    set_trainable(backbone, 0)
    frozen = encoder.predict_on_batch(arrays())
    path = tmp_path / "encoder.keras"
    path.write_bytes(archive.to_bytes(encoder))
    state = Checkpoint(0, 1, [], {name: v.numpy() for name, v in checkpoints._named({"encoder": encoder.variables})})
    set_trainable(backbone, -1)
    np.testing.assert_array_equal(encoder.predict_on_batch(arrays()), frozen)
    loaded = archive.load(path)
    for n_layers in (5, -1):
        set_trainable(loaded.get_layer("backbone").backbone, n_layers)
        loaded.load_weights(path)
        np.testing.assert_array_equal(loaded.predict_on_batch(arrays()), frozen)
    for weight in loaded.weights:
        weight.assign(weight * 0)
    checkpoints.restore(state, {"encoder": loaded.variables})
    np.testing.assert_array_equal(loaded.predict_on_batch(arrays()), frozen)


def test_an_archive_holds_no_time_and_is_the_same_each_time(encoder: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "encoder.keras"
    path.write_bytes(archive.to_bytes(encoder))
    assert archive.to_bytes(encoder) == path.read_bytes()
    assert archive.to_bytes(archive.load(path)) == archive.to_bytes(archive.load(path))
    with zipfile.ZipFile(path) as members:
        assert {member.date_time for member in members.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert json.loads(members.read("metadata.json"))["date_saved"].startswith("1980")


def test_what_a_killed_task_left_of_an_archive_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "trailer-ml-model-left-behind").mkdir()
    pictures = keras.Input((8,))
    archive.to_bytes(keras.Model(pictures, keras.layers.ReLU()(pictures)))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_archive_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "encoder.keras"
    path.write_bytes(b"no zip")
    with pytest.raises(ModelMismatchError, match=r"encoder\.keras cannot be loaded"):
        archive.load(path)


def test_embedding_goes_in_small_batches_and_says_what_it_wants(encoder: keras.Model) -> None:
    wrapped = Encoder(encoder, "m-0", FEATURES)
    many = arrays(19)
    np.testing.assert_allclose(wrapped.embed(*many), encoder.predict_on_batch(many), atol=1e-6)
    assert wrapped.embed(*(array[:0] for array in many)).shape == (0, 11)
    with pytest.raises(ModelMismatchError, match="m-0 wants 4 frames"):
        wrapped.embed(many[0][:, :3], *many[1:])


def test_a_wrong_name_is_an_error_with_a_suggestion(store: Store) -> None:
    with pytest.raises(SettingsError, match=r"'resnet50v' is no model.*ResNet50V2"):
        load_backbone(ModelSettings(backbone="resnet50v", weights="random"), store)


def test_a_wrong_argument_is_an_error(store: Store) -> None:
    wrong = SETTINGS.model_copy(update={"backbone_arguments": {"alpha": 0.35, "beta": 1}})
    with pytest.raises(SettingsError, match=r"MobileNetV2 refuses size 32 .*beta"):
        load_backbone(wrong, store)


def test_a_wrong_layer_is_an_error_with_a_suggestion(store: Store) -> None:
    wrong = SETTINGS.model_copy(update={"backbone_layer": "block_3_ad"})
    with pytest.raises(SettingsError, match=r"no layer 'block_3_ad', but .*block_3_"):
        load_backbone(wrong, store)


def test_a_layer_in_the_middle_answers(store: Store) -> None:
    cut = load_backbone(SETTINGS.model_copy(update={"backbone_layer": "block_3_expand_relu"}), store).layer
    assert cut.backbone.layers[-1].name == "block_3_expand_relu"
    assert cut(arrays()[0]).shape == (5, N_FRAMES, 48)


def frame_backbone(size: int = 8, *, dtype: str = "float32", cuts_off: bool = True) -> FrameBackbone:
    """What cuts off is below 0 has no weights; with and without it they are the same."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    pictures = keras.Input((size, size, 3))
    answer = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(pictures))
    if cuts_off:
        answer = keras.layers.ReLU()(answer)
    return FrameBackbone(keras.Model(pictures, answer, name="small"), size, None, name="backbone", dtype=dtype)


def test_a_digest_names_what_is_computed(tmp_path: Path) -> None:
    whole = weights_digest(frame_backbone())
    others = [frame_backbone(size=9), frame_backbone(dtype="mixed_float16"), frame_backbone(cuts_off=False)]
    assert len({whole, *map(weights_digest, others)}) == 4

    layer = frame_backbone()
    set_trainable(layer.backbone, 1)
    assert weights_digest(layer) == whole
    path = tmp_path / "encoder.keras"
    frames = keras.Input((N_FRAMES, 8, 8, 3), dtype="uint8")
    path.write_bytes(archive.to_bytes(keras.Model(frames, layer(frames))))
    assert weights_digest(archive.load(path).get_layer("backbone")) == whole
    layer.backbone.weights[0].assign(layer.backbone.weights[0] * 2)
    assert weights_digest(layer) != whole


def keras_file(
    path: Path, shape: tuple[int | None, ...], *, is_flat: bool = False, scaling: tuple[float, float] | None = None
) -> Path:
    pictures = keras.Input(shape)
    scaled = keras.layers.Rescaling(*scaling)(pictures) if scaling else pictures
    answer = keras.layers.Conv2D(7, 3, name="look")(scaled)
    if is_flat:
        answer = keras.layers.GlobalMaxPooling2D()(answer)
    keras.Model(pictures, answer).save(path)
    return path


def own(path: Path, pixels: str = "") -> ModelSettings:
    return SETTINGS.model_copy(update={"backbone": str(path), "backbone_pixels": pixels})


@pytest.mark.parametrize("is_flat", [False, True])
@pytest.mark.parametrize(
    ("pixels", "white"),
    [("0..255", [255] * 3), ("0..1", [1] * 3), ("-1..1", [1] * 3), ("ResNet50", [151.061, 138.221, 131.32])],
)
def test_a_backbone_of_ones_own_is_shown_the_pixels_it_wants(
    store: Store, tmp_path: Path, pixels: str, white: list[float], is_flat: bool
) -> None:
    path = keras_file(tmp_path / "own.keras", (32, 32, 3), is_flat=is_flat)
    found = load_backbone(own(path, pixels), store)
    assert found.weights.startswith("file ")
    frames = np.full((2, N_FRAMES, 32, 32, 3), 255, np.uint8)
    kernel, bias = keras.saving.load_model(path, compile=False).get_layer("look").weights
    expected = np.array(white) @ kernel.numpy().sum(axis=(0, 1)) + bias.numpy()
    np.testing.assert_allclose(found.layer(frames)[0, 0], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((40, 40, 3), "takes pictures of 40x40.*TRAILER_MODEL_IMAGE_SIZE=40"),
        ((32, 32, 1), r"not pictures \(n"),
        ((3, 32, 32), r"not pictures \(n"),  # channels first
    ],
)
def test_a_backbone_of_another_size_or_rank_is_an_error(
    store: Store, tmp_path: Path, shape: tuple[int, ...], message: str
) -> None:
    path = keras_file(tmp_path / "own.keras", shape)
    with pytest.raises(SettingsError, match=message):
        load_backbone(own(path, "0..1"), store)


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
@pytest.mark.parametrize("wrong", ["two inputs", "two answers", "rank 3", "not built"])
def test_a_backbone_of_other_inputs_or_answers_is_an_error(store: Store, tmp_path: Path, wrong: str) -> None:
    keras.utils.clear_session()
    one, other = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
    seen = keras.layers.Conv2D(4, 3)(one)
    made = {
        "two inputs": keras.Model([one, other], keras.layers.Add()([one, other])),
        "two answers": keras.Model(one, [seen, seen]),
        "rank 3": keras.Model(one, keras.layers.Reshape((900, 4))(seen)),
        "not built": keras.Sequential([keras.layers.Conv2D(4, 3)]),
    }[wrong]
    made.save(tmp_path / "own.keras")
    with pytest.raises(SettingsError, match=r"own\.keras (takes|answers) .*, n(ot pictures|either)"):
        load_backbone(own(tmp_path / "own.keras", "0..1"), store)


def test_how_a_file_wants_its_pixels_is_never_guessed(store: Store, tmp_path: Path) -> None:
    path = keras_file(tmp_path / "own.keras", (32, 32, 3))
    with pytest.raises(SettingsError, match=r"own\.keras does not scale pixels itself.*TRAILER_MODEL_BACKBONE_PIXELS"):
        load_backbone(own(path), store)
    with pytest.raises(
        SettingsError, match=r"BACKBONE_PIXELS: 'Resnet50' is no model.*and no range; did you .*ResNet50"
    ):
        load_backbone(own(path, "Resnet50"), store)
    with pytest.raises(SettingsError, match="MobileNetV2 has its own preprocessing"):
        load_backbone(SETTINGS.model_copy(update={"backbone_pixels": "0..1"}), store)


@pytest.mark.parametrize(
    ("scaling", "pixels", "told"),
    [
        ((1 / 127.5, -1), "", None),
        ((1 / 127.5, -1), "-1..1", r"of -1\.\.1 it makes -1\.01 to -0\.992"),
        ((1 / 255, 0), "0..1", "it makes 0 to 0.00392"),
        ((2, -1), "", r"of 0\.\.255 it makes -1 to 509"),
        ((2, -1), "0..1", None),
        ((1, -127), "", None),
    ],
)
def test_pixels_that_a_file_plainly_was_not_trained_on_are_an_error(
    store: Store, tmp_path: Path, scaling: tuple[float, float], pixels: str, told: str | None
) -> None:
    inner = keras.saving.load_model(keras_file(tmp_path / "inner.keras", (32, 32, 3), scaling=scaling), compile=False)
    pictures = keras.Input((32, 32, 3))
    keras.Model(pictures, inner(pictures)).save(tmp_path / "own.keras")  # the layer is found inside of a model, too
    if told is None:
        assert load_backbone(own(tmp_path / "own.keras", pixels), store).layer(arrays()[0]).shape == (5, N_FRAMES, 7)
    else:
        with pytest.raises(SettingsError, match=told):
            load_backbone(own(tmp_path / "own.keras", pixels), store)


@pytest.mark.parametrize(
    ("name", "arguments", "white"),
    [
        ("MobileNetV3Small", {"minimalistic": True}, [255] * 3),  # scales pixels itself
        ("ResNet50V2", {}, [1] * 3),
        ("VGG16", {}, [151.061, 138.221, 131.32]),  # blue first, the mean of ImageNet taken off
    ],
)
def test_a_backbone_by_name_brings_its_own_preprocessing(
    store: Store, name: str, arguments: dict[str, object], white: list[float]
) -> None:
    settings = SETTINGS.model_copy(update={"backbone": name, "backbone_arguments": arguments})
    layer = load_backbone(settings, store).layer
    shown = layer.prepare(np.full((1, 1, 40, 40, 3), 255, np.uint8))
    np.testing.assert_allclose(shown, np.broadcast_to(np.float32(white), (1, 32, 32, 3)), rtol=1e-4)
    assert np.isfinite(layer(arrays(1)[0])).all()


def test_a_file_that_is_no_model_is_an_error(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "own.keras"
    path.write_text("no model")
    with pytest.raises(SettingsError, match=r"own\.keras is no Keras model"):
        load_backbone(SETTINGS.model_copy(update={"backbone": str(path)}), store)


def test_imagenet_weights_are_never_replaced_silently_and_are_kept_in_the_store(store: Store, tmp_path: Path) -> None:
    keras.utils.clear_session()
    keras.utils.set_random_seed(5)
    original = load_backbone(SETTINGS, store).layer
    path = tmp_path / "kept.weights.h5"
    original.backbone.save_weights(path)
    with pytest.raises(DataError, match=r"put them at s3://.*(backbones/MobileNetV2-\w+-imagenet.weights.h5)") as told:
        load_backbone(SETTINGS.model_copy(update={"weights": "imagenet"}), store)
    name = str(told.value).split("backbones/")[1].split(",")[0]
    store.put_bytes(backbone_key(name), path.read_bytes())
    keras.utils.clear_session()
    kept = load_backbone(SETTINGS.model_copy(update={"weights": "imagenet"}), store)
    assert kept.weights == "imagenet"
    assert weights_digest(kept.layer) == weights_digest(original)
    store.put_bytes(backbone_key(name), b"half of it")
    with pytest.raises(
        DataError, match=r"MobileNetV2-\w+-imagenet\.weights\.h5 does not hold the weights of .*delete it"
    ):
        load_backbone(SETTINGS.model_copy(update={"weights": "imagenet"}), store)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_imagenet_weights_are_fetched_once(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keras.utils.clear_session()
    keras.utils.set_random_seed(6)
    drawn = SETTINGS.model_copy(update={"image_size": 96})
    original = load_backbone(drawn, store).layer
    original.backbone.save(tmp_path / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96_no_top.h5")
    wanted = drawn.model_copy(update={"weights": "imagenet"})
    downloads = tmp_path / "downloads"  # has to be there, or Keras takes /tmp/.keras
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(downloads))
    with serve_folder(tmp_path) as (address, asked):
        monkeypatch.setattr("keras.src.applications.mobilenet_v2.BASE_WEIGHT_PATH", address)
        for _ in range(2):
            downloads.mkdir()
            keras.utils.clear_session()
            assert weights_digest(load_backbone(wanted, store).layer) == weights_digest(original)
            shutil.rmtree(downloads)
    assert len(asked) == 1


@contextmanager
def serve_folder(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A site on loopback: its address, and what it is asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, *_: object) -> None:
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("n_from", "n_to"), [(48, 32), (33, 32), (32, 48), (8, 8)])
def test_pictures_are_scaled_as_keras_does_it(n_from: int, n_to: int) -> None:
    pictures = np.random.default_rng(0).uniform(0, 255, (3, n_from, n_from + 5, 2)).astype(np.float32)
    expected = keras.ops.image.resize(pictures, (n_to, n_to), interpolation="bilinear", antialias=True)
    np.testing.assert_allclose(resize(pictures, n_to), expected, atol=0.01)
