"""From shards to an encoder: trained, killed and gone on with, measured, opened again."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

from trailer_ml.errors import CollapseError, CorruptShardError, DataError, SettingsError, StoreUnavailableError
from trailer_ml.model import archive
from trailer_ml.model.batches import Batch, show_twice
from trailer_ml.model.card import ModelCard, card_key, read_card
from trailer_ml.model.dataset import Dataset, assemble_dataset, read_dataset
from trailer_ml.model.encoder import Encoder
from trailer_ml.model.evaluate import evaluate_model
from trailer_ml.model.examples import Examples
from trailer_ml.model.initial import read_or_make_initial
from trailer_ml.model.pictures import page_key
from trailer_ml.model.registry import load_encoder, promote_model
from trailer_ml.model.retrieval import measure_retrieval
from trailer_ml.model.train import check_alive, label_outputs, read_histories, train_phases, warm_up
from trailer_ml.records import Estimate, Evaluation, PhaseSummary
from trailer_ml.settings import PhaseSettings, Settings, StoreSettings, as_environment
from trailer_ml.storage import CHAMPION_KEY, Store, model_key, sha256_of

# Sends itself a signal at the n-th call of something, where one is named: before the call, or after it.
RUN = """
import os, signal, sys
import keras
from trailer_ml.errors import StoppedError
from trailer_ml.model import checkpoints, train
from trailer_ml.model.dataset import assemble_dataset
from trailer_ml.model.evaluate import evaluate_model
from trailer_ml.settings import load_settings
from trailer_ml.storage import Store

def send_at(owner, name):
    call, calls = getattr(owner, name), []
    def call_and_send(*arguments, **named):
        calls.append(name)
        is_now = len(calls) == int(sys.argv[4])
        if is_now and sys.argv[3] == "before":
            os.kill(os.getpid(), signal.Signals[sys.argv[1]])
        result = call(*arguments, **named)
        if is_now and sys.argv[3] == "after":
            os.kill(os.getpid(), signal.Signals[sys.argv[1]])
        return result
    setattr(owner, name, call_and_send)

if len(sys.argv) > 1:
    owners = {"train_on_batch": keras.Model, "write_checkpoint": checkpoints, "put_json": Store}
    send_at(owners.get(sys.argv[2], train._Training), sys.argv[2])
settings = load_settings()
store = Store(settings.store)
ref = assemble_dataset(settings, store)
try:
    train.warm_up(ref, settings, store)
    train.train_phases(ref, settings, store)
except StoppedError as error:
    sys.exit(f"{error}; SIGTERM is {signal.getsignal(signal.SIGTERM).name} again")
print(evaluate_model(ref, settings, store).model_dump_json())
"""


class Trained:
    """A finished training and what it left."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.store)
        self.ref = assemble_dataset(settings, self.store)
        self.warm_up: PhaseSummary = warm_up(self.ref, settings, self.store)
        self.phases: PhaseSummary = train_phases(self.ref, settings, self.store)
        self.evaluation: Evaluation = evaluate_model(self.ref, settings, self.store)
        self.card: ModelCard = read_card(self.ref.version, self.store)
        self.dataset: Dataset = read_dataset(self.ref.version, self.store)

    def encoder(self) -> Encoder:
        return load_encoder(self.store, self.ref.version, self.settings.model.cache_folder)

    def examples(self) -> Examples:
        return Examples(self.dataset, self.store, self.settings.model.cache_folder / "shards")


@pytest.fixture(scope="module")
def trained(module_settings: Settings) -> Iterator[Trained]:
    yield Trained(module_settings)
    keras.utils.clear_session()


def with_model(settings: Settings, **changes: object) -> Settings:
    return settings.model_copy(update={"model": settings.model.model_copy(update=changes)})


def objects(store: Store) -> dict[str, bytes]:
    return {key: store.read_bytes(key) for key in store.list_keys("")}


def test_it_learns_what_the_genres_have_in_common(trained: Trained) -> None:
    assert trained.evaluation.map_at_k > 0.9
    assert trained.evaluation.map_at_k > trained.evaluation.untrained_map_at_k + 0.1
    assert trained.evaluation.chance_map_at_k < 0.3
    assert set(trained.evaluation.per_genre) <= set(trained.ref.genres)


def test_summaries_say_which_phase_ended_how(trained: Trained) -> None:
    assert (trained.warm_up.phase, trained.warm_up.epochs, trained.warm_up.is_new) == ("warm-up", 6, True)
    assert (trained.phases.phase, trained.phases.epochs, trained.phases.is_new) == ("top", 2, True)
    assert trained.warm_up.seconds > 0


def test_nothing_is_done_twice(trained: Trained) -> None:
    before = objects(trained.store)
    again = Trained(trained.settings)
    assert not again.warm_up.is_new
    assert not again.phases.is_new
    assert again.phases.loss == trained.phases.loss
    assert again.evaluation == trained.evaluation
    assert objects(trained.store) == before


def test_the_card_says_how_it_came_about(trained: Trained) -> None:
    card = trained.card
    assert [(phase.phase, len(phase.epochs)) for phase in card.history] == [("warm-up", 6), ("frozen", 3), ("top", 2)]
    assert {"loss", "active_share", "pair_distance"} <= set(card.history[1].epochs[0])
    for epoch in [*card.history[1].epochs, *card.history[2].epochs]:
        assert epoch["loss"] == pytest.approx(epoch["genre_loss"] + epoch["copy_loss"], rel=1e-4)
    assert card.history[0].epochs[-1]["loss"] < card.history[0].epochs[0]["loss"]
    assert (card.backbone, card.backbone_weights) == ("MobileNet", "random")
    assert [shard.sha256 for shard in card.shards] == [shard.sha256 for shard in trained.dataset.shards]
    assert sum(card.n_trailers.values()) == 49
    assert card.n_films["test"] == len(card.test_films)
    assert card.evaluation == trained.evaluation
    assert 0 < card.held_out_gallery["chance_map_at_k"] < card.held_out_gallery["map_at_k"] <= 1
    assert card.features.n_frames == 4


def test_only_the_last_checkpoint_is_left(trained: Trained) -> None:
    keys = list(trained.store.list_keys(model_key(trained.ref.version, "checkpoints/")))
    assert [key.rpartition("checkpoints/")[2].partition(".")[0] for key in keys] == ["02/0002", "02/0002"]


def test_the_last_phase_trains_the_last_layers_of_the_backbone_only(trained: Trained) -> None:
    with trained.examples() as examples:
        before = read_or_make_initial(trained.dataset, examples, trained.store).encoder.get_layer("backbone")
    after = trained.encoder()._model.get_layer("backbone")
    changed = {
        old.path.split("/")[0]
        for old, new in zip(before.backbone.weights, after.backbone.weights, strict=True)
        if (old.numpy() != new.numpy()).any()
    }
    assert changed == {"conv_dw_5", "conv_pw_5"}


def test_where_a_twin_has_begun_training_starts_from_what_it_stored(
    trained: Trained, store: Store, tmp_path: Path
) -> None:
    """On other hardware its weights differ a little; it may have been killed, or describe them while we make ours."""
    path = tmp_path / "initial.keras"
    trained.store.read_file(model_key(trained.ref.version, "initial.keras"), path)
    twin = archive.load(path)
    weight = twin.get_layer("video_tower").weights[-1]
    weight.assign(weight + 0.25)
    key, data = model_key(trained.ref.version, "initial.keras"), archive.to_bytes(twin)
    store.put_bytes(key, data)
    with trained.examples() as examples:
        for _ in ("first", "later"):
            found = read_or_make_initial(trained.dataset, examples, store)
            theirs = found.encoder.get_layer("video_tower").weights[-1]
            np.testing.assert_array_equal(theirs.numpy(), weight.numpy())
            assert found.weights == "random"
    assert store.read_bytes(key) == data


def test_its_encoder_gives_unit_vectors_also_of_odd_trailers(trained: Trained) -> None:
    encoder = trained.encoder()
    with trained.examples() as examples:
        vectors = encoder.embed(*examples.read(range(len(examples))))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(vectors[4, encoder.video_dim :], 0)
    figures = measure_retrieval(vectors, trained.dataset.trailers)
    assert figures.map_at_k == pytest.approx(trained.evaluation.map_at_k)


def put_old_copies(folder: Path) -> str:
    """Three of other models; the name of the one used last."""
    for year, name in enumerate(("m-used", "m-used-last", "m-unused")):
        path = folder / f"{name}-0"
        path.mkdir(parents=True)
        os.utime(path, (year % 2, year % 2))
    return "m-used-last"


def test_a_loaded_encoder_embeds_as_the_one_that_was_saved(trained: Trained, tmp_path: Path) -> None:
    with trained.examples() as examples:
        arrays = examples.read(range(9))
    old = put_old_copies(tmp_path / "encoders")
    elsewhere = load_encoder(trained.store, trained.ref.version, tmp_path)
    assert {path.name for path in (tmp_path / "encoders").iterdir()} == {
        f"{trained.card.encoder_sha256}.keras",
        f"{old}-0",
    }
    np.testing.assert_array_equal(trained.encoder().embed(*arrays), elsewhere.embed(*arrays))


def test_kept_features_are_found_again_by_another_machine(trained: Trained, tmp_path: Path) -> None:
    kept = list(trained.store.list_keys("backbones/features/"))
    assert len(kept) == len(trained.dataset.shards)
    other = with_model(trained.settings, cache_folder=tmp_path, phases=trained.settings.model.phases[:1])
    before = objects(trained.store)
    ref = assemble_dataset(other, trained.store)
    assert ref.version != trained.ref.version
    old = put_old_copies(tmp_path / "frozen")
    assert warm_up(ref, other, trained.store).is_new
    assert sorted(path.name.rpartition("-")[0] for path in (tmp_path / "frozen").iterdir()) == sorted(
        [ref.version, old]
    )
    new = set(objects(trained.store)) - set(before)
    assert not [key for key in new if key.startswith("backbones/")]
    again = read_card(trained.ref.version, trained.store).history[0].epochs
    resumed = trained.store.read_json(model_key(ref.version, "phases/00.json"))["epochs"]
    assert [epoch["loss"] for epoch in resumed] == pytest.approx([epoch["loss"] for epoch in again])


def test_what_there_is_to_look_at_is_written_before_the_card(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    store, version = trained.store, trained.ref.version
    runs = [key.split("/")[3] for key in store.list_keys(model_key(version, "tensorboard/"))]
    assert runs == ["00-warm-up", "01-frozen", "02-top"]
    page = store.read_bytes(page_key(version))
    assert f"{trained.evaluation.map_at_k:.3f}".encode() in page
    assert trained.dataset.shards[0].sha256.encode() in page
    written: list[str] = []
    create = Store.create_bytes
    monkeypatch.setattr(Store, "create_bytes", lambda self, key, *rest: written.append(key) or create(self, key, *rest))
    store.delete(card_key(version))  # as if it was killed just before
    assert evaluate_model(trained.ref, trained.settings, store) == trained.evaluation
    assert written[-2:] == [page_key(version), card_key(version)]
    assert store.read_bytes(page_key(version)) == page
    assert read_card(version, store) == trained.card


class HiccupStore(Store):
    """A store that for a moment does not give out the card of a model."""

    def __init__(self, settings: StoreSettings, version: str) -> None:
        super().__init__(settings)
        self.version = version

    def read_json(self, key: str) -> object:
        if key == card_key(self.version):
            raise StoreUnavailableError("no object store answers")
        return super().read_json(key)


@pytest.fixture
def rival(trained: Trained) -> Iterator[str]:
    """A champion that came after the training: the very same encoder."""
    store, version = trained.store, "m-rival"
    store.put_bytes(
        model_key(version, "encoder.keras"), store.read_bytes(model_key(trained.ref.version, "encoder.keras"))
    )
    store.put_json(card_key(version), trained.card.model_copy(update={"version": version}).to_json())
    store.swap_pointer(CHAMPION_KEY, {"version": version}, store.read_pointer(CHAMPION_KEY))
    yield version
    for key in (CHAMPION_KEY, *store.list_keys(model_key(version, ""))):
        store.delete(key)
    for key in list(store.list_keys(model_key(trained.ref.version, "evaluations/"))):
        store.delete(key)


def test_beside_another_champion_it_is_measured_again(trained: Trained, rival: str) -> None:
    assert trained.evaluation.champion is None
    old = promote_model(trained.evaluation, trained.settings, trained.store)
    assert not old.is_promoted
    assert "evaluate it again" in old.reason

    again = evaluate_model(trained.ref, trained.settings, trained.store)
    ours = trained.evaluation.map_at_k
    no_gain = Estimate(value=0.0, low=0.0, high=0.0)
    beside = {"champion": rival, "champion_map_at_k": pytest.approx(ours), "champion_gain": no_gain}
    assert again == trained.evaluation.model_copy(update=beside)
    assert "not better than" in promote_model(again, trained.settings, trained.store).reason
    before = objects(trained.store)
    assert evaluate_model(trained.ref, trained.settings, trained.store) == again
    assert objects(trained.store) == before
    assert read_card(trained.ref.version, trained.store) == trained.card


def test_a_store_that_hiccups_is_no_reason_to_go_without_the_champion(trained: Trained, rival: str) -> None:
    before = objects(trained.store)
    with pytest.raises(StoreUnavailableError):
        evaluate_model(trained.ref, trained.settings, HiccupStore(trained.settings.store, rival))
    assert objects(trained.store) == before
    evaluation = evaluate_model(trained.ref, trained.settings, trained.store)
    assert evaluation.champion_map_at_k == pytest.approx(trained.evaluation.map_at_k)


def test_a_champion_that_cannot_be_compared_is_named(
    trained: Trained, rival: str, caplog: pytest.LogCaptureFixture
) -> None:
    features = trained.card.features.model_copy(update={"interval_s": 1.0})
    card = trained.card.model_copy(update={"version": rival, "features": features})
    trained.store.put_json(card_key(rival), card.to_json())
    evaluation = evaluate_model(trained.ref, trained.settings, trained.store)
    assert (evaluation.champion, evaluation.champion_map_at_k) == (rival, None)
    assert f"the champion {rival} was trained on other features" in caplog.text


def test_evaluating_before_training_is_an_error(small: Settings, store: Store, fill: Callable, odd_world: list) -> None:
    fill(odd_world)
    ref = assemble_dataset(small, store)
    with pytest.raises(DataError, match=f"training of {ref.version} is not finished"):
        evaluate_model(ref, small, store)


def test_a_changed_shard_is_named(
    small: Settings, store: Store, fill: Callable, odd_world: list, tmp_path: Path
) -> None:
    """After the data set was assembled, and before a machine without a copy trains on it."""
    fill(odd_world)
    ref = assemble_dataset(small, store)
    key = next(key for key in store.list_keys("shards/") if key.endswith("0001.tfrecord"))
    data = bytearray(store.read_bytes(key))
    data[len(data) // 2] ^= 1
    store.put_bytes(key, bytes(data))
    with pytest.raises(CorruptShardError, match=r"0001\.tfrecord"):
        warm_up(ref, with_model(small, cache_folder=tmp_path / "elsewhere"), store)


def test_a_trailer_of_another_genre_vocabulary_needs_no_warm_up_phase(
    small: Settings, store: Store, fill: Callable, odd_world: list
) -> None:
    fill(odd_world)
    only_triplets = with_model(small, phases=small.model.phases[1:2])
    assert warm_up(assemble_dataset(only_triplets, store), only_triplets, store).phase == "none"


def test_without_the_loss_of_copies_only_genres_count(
    small: Settings, store: Store, fill: Callable, make_world: Callable
) -> None:
    fill(make_world(24))
    phase = small.model.phases[1].model_copy(update={"epochs": 1})
    settings = with_model(small, phases=(phase,), copy_weight=0.0)
    ref = assemble_dataset(settings, store)
    train_phases(ref, settings, store)
    (history,) = read_histories(ref.version, store)
    assert set(history.epochs[0]) == {"loss", "active_share", "pair_distance"}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_trains_and_answers_in_float32(
    precision: str, small: Settings, store: Store, fill: Callable, make_world: Callable
) -> None:
    fill(make_world(24))
    phases = tuple(phase.model_copy(update={"epochs": 1}) for phase in small.model.phases)
    found = Trained(with_model(small, mixed_precision=precision, phases=phases, plain_half=True))
    assert all(np.isfinite(epoch["loss"]) for phase in found.card.history for epoch in phase.epochs)
    with found.examples() as examples:
        vectors = found.encoder().embed(*examples.read(range(5)))
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert {layer.compute_dtype for layer in found.encoder()._model._flatten_layers()} == {"float32"}


def test_several_devices_where_there_is_one_are_refused_before_anything_is_done(
    small: Settings, store: Store, fill: Callable, make_world: Callable
) -> None:
    fill(make_world(24))
    distributed = with_model(small, use_distribution="on")
    ref = assemble_dataset(distributed, store)
    with pytest.raises(SettingsError, match="this machine has one CPU"):
        warm_up(ref, distributed, store)


PHASE = PhaseSettings(name="triplets", loss="triplet_semi_hard", epochs=9, learning_rate=1.0)


def test_a_copy_is_told_which_trailer_it_is() -> None:
    batch = show_twice(Batch(np.array([5, 3]), np.array([1, 0])))
    outputs = keras.Model(inputs := keras.Input((2,)), {"embedding": inputs, "copy": inputs})
    labels = label_outputs(outputs, batch)
    assert labels["copy"].tolist() == [5, 3, 5, 3]
    assert labels["embedding"].tolist() == [1, 0, 1, 0]


def test_collapse_is_an_error_and_slow_learning_is_not() -> None:
    collapsed = {"loss": 0.2, "pair_distance": 1e-4, "active_share": 1.0}
    learning = {"loss": 0.2, "pair_distance": 0.6, "active_share": 0.9}
    check_alive([collapsed] * 2, PHASE)
    check_alive([collapsed, collapsed, learning], PHASE)
    with pytest.raises(CollapseError, match=r"triplets has collapsed: for 3 epochs .* has stood at 0\.0001"):
        check_alive([learning, collapsed, collapsed, collapsed], PHASE)
    with pytest.raises(CollapseError, match="triplets has collapsed"):
        check_alive([{**collapsed, "loss": math.log(2)}] * 3, PHASE)  # where the soft margin leaves it
    with pytest.raises(CollapseError, match="loss of triplets is nan after epoch 1"):
        check_alive([{"loss": float("nan")}], PHASE)


@pytest.mark.parametrize("loss", ["triplet_semi_hard", "triplet_hard"])
def test_a_training_that_collapses_ends_and_the_champion_stays(
    loss: str, small: Settings, store: Store, fill: Callable, make_world: Callable
) -> None:
    """It starts where a collapsed one ends: whatever is shown, both towers answer with their bias."""
    fill(make_world(24))
    store.swap_pointer(CHAMPION_KEY, {"version": "m-before"}, None)
    champion = store.read_bytes(CHAMPION_KEY)
    phase = small.model.phases[1].model_copy(update={"loss": loss, "learning_rate": 1e-6})
    settings = with_model(small, phases=(phase,), plain_half=loss == "triplet_hard")  # which must not hide it
    ref = assemble_dataset(settings, store)
    with Examples(read_dataset(ref.version, store), store, small.model.cache_folder / "shards") as examples:
        encoder = read_or_make_initial(read_dataset(ref.version, store), examples, store).encoder
    for tower in ("video", "audio"):
        kernel, bias = encoder.get_layer(f"{tower}_tower").get_layer(f"{tower}_projection").weights
        kernel.assign(kernel * 0)
        bias.assign(bias + 1)
    data = archive.to_bytes(encoder)
    store.put_bytes(model_key(ref.version, "initial.keras"), data)
    store.put_json(model_key(ref.version, "initial.json"), {"sha256": sha256_of(data), "weights": "random"})
    with pytest.raises(CollapseError, match="frozen has collapsed: for 3 epochs"):
        train_phases(ref, settings, store)
    with pytest.raises(DataError, match=f"training of {ref.version} is not finished"):
        evaluate_model(ref, settings, store)
    assert store.read_bytes(CHAMPION_KEY) == champion


def run_elsewhere(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert settings.store.access_key_id
    assert settings.store.secret_access_key
    environment = {
        **os.environ,
        **as_environment(settings),
        "AWS_ACCESS_KEY_ID": settings.store.access_key_id.get_secret_value(),
        "AWS_SECRET_ACCESS_KEY": settings.store.secret_access_key.get_secret_value(),
    }
    command = [sys.executable, "-c", RUN, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_killed_anywhere_it_ends_with_the_same_figures(
    trained: Trained, small: Settings, store: Store, fill: Callable, odd_world: list
) -> None:
    fill(odd_world)
    for moment, checkpoint in (
        ("SIGTERM train_on_batch before 8", "00/0002.json"),  # in the middle of an epoch: each has three batches
        ("SIGKILL put_json before 2", "00/0003.json"),  # a checkpoint's object is there, its manifest not
        ("SIGKILL _run_phase after 1", "00/0006.json"),  # between phases
        ("SIGKILL write_checkpoint after 4", "02/0001.json"),
    ):
        ended = run_elsewhere(small, *moment.split())
        if moment.startswith("SIGTERM"):
            told = f"SIGTERM has ended the training of {trained.ref.version}; the next try goes on from the last"
            assert (ended.returncode, told in ended.stderr) == (1, True), ended.stderr
            assert ended.stderr.endswith("SIGTERM is SIG_DFL again\n")
        else:
            assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert store.exists(model_key(trained.ref.version, f"checkpoints/{checkpoint}")), moment
        assert not store.exists(model_key(trained.ref.version, "card.json"))
    last = run_elsewhere(small)
    assert last.returncode == 0, last.stderr
    evaluation = Evaluation.model_validate(json.loads(last.stdout))
    assert evaluation == trained.evaluation
    card = read_card(evaluation.version, store)
    assert card.history == trained.card.history
    with trained.examples() as examples:
        arrays = examples.read(range(20))
    resumed = load_encoder(store, evaluation.version, small.model.cache_folder)
    np.testing.assert_array_equal(resumed.embed(*arrays), trained.encoder().embed(*arrays))


@pytest.mark.slow
def test_with_shuffled_labels_it_gives_chance(
    small: Settings, store: Store, fill: Callable, make_world: Callable, make_trailer: Callable
) -> None:
    world = make_world(80, seed=3)
    genres = [trailer.genres for trailer, _ in world]
    np.random.default_rng(0).shuffle(genres)
    fill(
        [(make_trailer(n, genre), features) for n, (genre, (_, features)) in enumerate(zip(genres, world, strict=True))]
    )
    found = Trained(small).evaluation
    assert found.map_at_k == pytest.approx(found.chance_map_at_k, abs=0.12)
