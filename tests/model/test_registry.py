"""The champion: who becomes it, why, and how it is opened; and the checkpoints that lead there."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest

from trailer_ml.errors import ConflictError, ModelMismatchError, NoModelError
from trailer_ml.model import archive, checkpoints
from trailer_ml.model.card import ModelCard, card_key, read_card
from trailer_ml.model.copies import keep_newest
from trailer_ml.model.registry import judge, load_encoder, promote_model, read_champion, rollback_model
from trailer_ml.records import Evaluation
from trailer_ml.settings import FeatureSettings, ModelSettings, Settings
from trailer_ml.storage import CHAMPION_KEY, Store, model_key, sha256_of


def evaluation(version: str = "m-1", ours: float = 0.9, untrained: float = 0.5, **more: object) -> Evaluation:
    facts = {"n_queries": 9, "k": 10, "chance_map_at_k": 0.1, "recall_at_k": 0.5, "precision_at_k": 0.5, **more}
    return Evaluation.model_validate({"version": version, "map_at_k": ours, "untrained_map_at_k": untrained, **facts})


def put_card(store: Store, measured: Evaluation, encoder_sha256: str = "0" * 64) -> None:
    card = ModelCard(
        version=measured.version,
        encoder_sha256=encoder_sha256,
        video_dim=2,
        audio_dim=2,
        genres=("Action", "Drama"),
        backbone="MobileNet",
        backbone_weights="random",
        model=ModelSettings(),
        features=FeatureSettings(),
        dataset_key="",
        shards=(),
        n_trailers={},
        n_films={},
        test_films=(),
        evaluation=measured,
        held_out_gallery={},
        history=(),
        previous_champion=None,
        software={},
    )
    store.create_json(card_key(measured.version), card.to_json())


@pytest.mark.parametrize(
    ("ours", "untrained", "champion", "is_better", "reason"),
    [
        (0.9, 0.5, None, True, "mAP@10 0.900, and there was no champion"),
        (0.9, 0.5, 0.8, True, "mAP@10 0.900 is better than 0.800 of m-0"),
        (0.9, 0.5, 0.9, False, "mAP@10 0.900 is not better than 0.900 of the champion m-0"),
        (0.11, 0.05, None, False, "mAP@10 0.110 is not 0.02 above chance (0.100)"),
        (0.9, 0.89, None, False, "mAP@10 0.900 is not 0.02 above the untrained model (0.890)"),
        (0.9, 0.89, 0.2, False, "mAP@10 0.900 is not 0.02 above the untrained model (0.890)"),
    ],
)
def test_a_verdict_has_its_reason(
    ours: float, untrained: float, champion: float | None, is_better: bool, reason: str
) -> None:
    verdict = judge(evaluation(ours=ours, untrained=untrained), "m-0" if champion else None, champion, Settings())
    assert verdict == (is_better, reason)


def copies(recall: float) -> dict[str, object]:
    return {"n": 80, "recall_at_1": {"value": recall}, "map": {"value": recall}}


def test_a_verdict_says_how_sure_it_is() -> None:
    first = evaluation(map_interval=(0.85, 0.95))
    assert judge(first, None, None, Settings()) == (True, "mAP@10 0.900 (0.850 to 0.950), and there was no champion")
    sure = evaluation(champion_gain={"value": 0.1, "low": 0.05, "high": 0.15})
    assert judge(sure, "m-0", 0.8, Settings())[1] == (
        "mAP@10 0.900 is better than 0.800 of m-0, by +0.100 (95 % interval +0.050 to +0.150)"
    )
    unsure = evaluation(champion_gain={"value": 0.01, "low": -0.02, "high": 0.04})
    is_better, reason = judge(unsure, "m-0", 0.89, Settings())
    assert is_better
    assert reason.endswith("by +0.010 (95 % interval -0.020 to +0.040, so it may be chance)")


def test_what_the_frozen_backbone_does_alone_is_no_reason_for_a_model() -> None:
    verdict = judge(evaluation(mean_pooled_map_at_k=0.89), None, None, Settings())
    assert verdict == (False, "mAP@10 0.900 is not 0.02 above the frozen backbone alone (0.890)")


@pytest.mark.parametrize(("theirs", "is_better"), [(0.90, True), (0.97, True), (0.99, False)])
def test_a_model_that_loses_near_duplicates_is_not_promoted(theirs: float, is_better: bool) -> None:
    gain = {"value": 0.95 - theirs, "low": -0.08, "high": -0.01}
    measured = evaluation(copies=copies(0.95), champion_copies=copies(theirs), champion_copies_gain=gain)
    verdict = judge(measured, "m-0", 0.8, Settings())
    assert verdict[0] == is_better
    if not is_better:
        assert verdict[1] == (
            "recall@1 of near-duplicates 0.950 is more than 0.02 below 0.990, by -0.040 "
            "(95 % interval -0.080 to -0.010) of the champion m-0, though its mAP@10 0.900 is better"
        )


def test_going_back_goes_through_the_champions_there_were(settings: Settings, store: Store) -> None:
    with pytest.raises(NoModelError, match="no champion before this one"):
        rollback_model(store)
    for number, version in enumerate(("m-1", "m-2", "m-3")):
        more = {"champion": f"m-{number}", "champion_map_at_k": 0.7 + number / 20} if number else {}
        measured = evaluation(version, 0.75 + number / 20, **more)
        put_card(store, measured)
        store.put_bytes(model_key(version, "encoder.keras"), b"encoder")
        assert promote_model(measured, settings, store).is_promoted
    back = rollback_model(store)
    assert (back.is_promoted, back.champion, back.reason) == (True, "m-2", "by hand, back from m-3")

    again = promote_model(evaluation("m-3", 0.9, champion="m-2", champion_map_at_k=0.8), settings, store)
    assert (again.champion, again.reason) == ("m-2", "it was gone back from")
    store.delete(model_key("m-1", "encoder.keras"))
    with pytest.raises(NoModelError, match="m-1 has a card and no encoder any more"):
        rollback_model(store)
    store.put_bytes(model_key("m-1", "encoder.keras"), b"encoder")
    assert rollback_model(store).champion == "m-1"
    with pytest.raises(NoModelError, match="no champion before this one"):
        rollback_model(store)

    forced = promote_model(evaluation("m-3", 0.5, champion="m-1"), settings, store, is_forced=True)
    assert (forced.is_promoted, forced.reason) == (True, "by hand, although it was gone back from")
    assert rollback_model(store).champion == read_champion(store) == "m-1"


def test_a_person_may_promote_whatever_the_figures_say(settings: Settings, store: Store) -> None:
    for version, ours in (("m-1", 0.8), ("m-2", 0.3)):
        put_card(store, evaluation(version, ours))
    assert promote_model(evaluation("m-1", 0.8), settings, store).is_promoted
    worse = evaluation("m-2", 0.3, champion="m-1", untrained=0.3)
    refused = promote_model(worse, settings, store)
    assert (refused.is_promoted, refused.is_worse) == (False, True)
    by_hand = promote_model(worse, settings, store, is_forced=True)
    assert by_hand.champion == read_champion(store) == "m-2"
    assert by_hand.reason == "by hand, although mAP@10 0.300 is not 0.02 above the untrained model (0.300)"


def test_the_pointer_moves_to_better_models_only(settings: Settings, store: Store) -> None:
    assert read_champion(store) is None
    for version, ours in (("m-1", 0.8), ("m-2", 0.9), ("m-3", 0.85)):
        put_card(store, evaluation(version, ours))
    assert promote_model(evaluation("m-1", 0.8), settings, store).is_promoted
    second = promote_model(evaluation("m-2", 0.9, champion="m-1", champion_map_at_k=0.8), settings, store)
    assert (second.is_promoted, second.champion, second.is_worse) == (True, "m-2", False)
    third = promote_model(evaluation("m-3", 0.85, champion="m-2", champion_map_at_k=0.9), settings, store)
    assert (third.is_promoted, third.champion, third.is_worse) == (False, "m-2", True)
    assert "not better" in third.reason
    again = promote_model(evaluation("m-2", 0.9), settings, store)
    assert (again.is_promoted, again.champion, again.reason) == (False, "m-2", "it is the champion already")
    assert read_champion(store) == "m-2"


def test_a_champion_that_was_not_measured_on_these_queries_stands_by_its_card(settings: Settings, store: Store) -> None:
    for version, ours in (("m-1", 0.8), ("m-2", 0.7)):
        put_card(store, evaluation(version, ours))
    promote_model(evaluation("m-1", 0.8), settings, store)
    second = promote_model(evaluation("m-2", 0.7, champion="m-1"), settings, store)
    assert second.champion == "m-1"
    assert not second.is_promoted
    assert "0.800 of the champion m-1" in second.reason


def test_an_old_promotion_run_again_brings_no_worse_model_back(settings: Settings, store: Store) -> None:
    """Each was better than the one before it; the first was measured against none."""
    measured = [
        evaluation("m-1", 0.7),
        evaluation("m-2", 0.8, champion="m-1", champion_map_at_k=0.7),
        evaluation("m-3", 0.9, champion="m-2", champion_map_at_k=0.8),
    ]
    for each in measured:
        put_card(store, each)
        assert promote_model(each, settings, store).is_promoted
    for each, against in zip(measured, ("no champion", "m-1"), strict=False):
        again = promote_model(each, settings, store)
        assert (again.is_promoted, again.champion) == (False, "m-3")
        assert again.reason == f"it was measured against {against}, not against m-3: evaluate it again"
    assert read_champion(store) == "m-3"


def test_a_model_without_a_card_is_not_promoted(settings: Settings, store: Store) -> None:
    with pytest.raises(NoModelError, match="no model m-1: `trailer-ml train` makes one"):
        promote_model(evaluation(), settings, store)
    assert read_champion(store) is None


def test_two_promotions_at_once_do_not_overwrite_each_other(store: Store) -> None:
    seen = store.read_pointer(CHAMPION_KEY)
    store.swap_pointer(CHAMPION_KEY, {"version": "m-1"}, seen)
    with pytest.raises(ConflictError):
        store.swap_pointer(CHAMPION_KEY, {"version": "m-2"}, seen)
    assert read_champion(store) == "m-1"


def test_no_champion_says_how_to_make_one(store: Store) -> None:
    with pytest.raises(NoModelError, match="no model has been promoted yet: `trailer-ml train` makes one"):
        load_encoder(store)


def test_an_encoder_that_is_not_the_cards_is_refused(store: Store, tmp_path: Path) -> None:
    put_card(store, evaluation())
    store.put_bytes(model_key("m-1", "encoder.keras"), b"something else")
    with pytest.raises(ModelMismatchError, match=r"models/m-1/encoder\.keras is damaged"):
        load_encoder(store, "m-1", tmp_path)
    assert not list(tmp_path.rglob("*.keras"))


def test_a_model_of_other_sizes_than_its_card_is_refused(store: Store, tmp_path: Path) -> None:
    inputs = [keras.Input((4,)), keras.Input((4,))]
    parts = [
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(size)], name=f"{name}_tower")
        for name, size in (("video", 2), ("audio", 3))
    ]
    answer = keras.layers.Concatenate()([part(one) for part, one in zip(parts, inputs, strict=True)])
    data = archive.to_bytes(keras.Model(inputs, answer))
    put_card(store, evaluation(), sha256_of(data))
    store.put_bytes(model_key("m-1", "encoder.keras"), data)
    with pytest.raises(ModelMismatchError, match=r"vectors of 2 \+ 3 numbers, and its card says 2 \+ 2"):
        load_encoder(store, "m-1", tmp_path)


def test_a_card_of_another_schema_says_so(store: Store, tmp_path: Path) -> None:
    put_card(store, evaluation())
    card = store.read_json(card_key("m-1"))
    store.put_json(card_key("m-1"), {**card, "model": {**card["model"], "of_tomorrow": 1}})
    with pytest.raises(ModelMismatchError, match=r"m-1/card\.json was written by another version .*model\.of_tomorrow"):
        load_encoder(store, "m-1", tmp_path)


def test_a_card_from_before_precision_was_chosen_is_read(store: Store) -> None:
    put_card(store, evaluation())
    card = store.read_json(card_key("m-1"))
    before = {**card["model"], "mixed_precision": True, "use_distribution": False}
    store.put_json(card_key("m-1"), {**card, "model": before})
    assert read_card("m-1", store).model.mixed_precision == "float16"
    assert read_card("m-1", store).model.use_distribution == "off"


def test_a_model_whose_encoder_is_gone_is_no_model(store: Store, tmp_path: Path) -> None:
    put_card(store, evaluation())
    with pytest.raises(NoModelError, match="m-1 has a card and no encoder any more"):
        load_encoder(store, "m-1", tmp_path)


def test_of_local_copies_the_two_used_last_stay(tmp_path: Path) -> None:
    copies = [tmp_path / name for name in ("a", "b", "c.keras", "d")]
    for age_s, copy in enumerate(copies):
        if copy.suffix:
            copy.touch()
        else:
            copy.mkdir()
            (copy / "vectors.npy").touch()
        os.utime(copy, (10**9 - age_s, 10**9 - age_s))  # the last is the oldest
    (tmp_path / ".being-made").mkdir()
    keep_newest(copies[3])
    assert {path.name for path in tmp_path.iterdir()} == {"d", "a", ".being-made"}
    keep_newest(copies[0])
    assert {path.name for path in tmp_path.iterdir()} == {"d", "a", ".being-made"}


class KerasLike:
    """As much of a Keras variable as checkpoints use."""

    def __init__(self, value: np.ndarray) -> None:
        self.path = "layer/kernel"
        self.shape = value.shape
        self.value = value

    def numpy(self) -> np.ndarray:
        return self.value

    def assign(self, value: np.ndarray) -> None:
        self.value = value


def variables(*shapes: tuple[int, ...]) -> list[KerasLike]:
    rng = np.random.default_rng(len(shapes))
    return [KerasLike(rng.normal(size=shape)) for shape in shapes]


def test_the_latest_checkpoint_is_found_and_older_ones_are_gone(store: Store) -> None:
    state = {"encoder": variables((2, 3), (4,)), "optimizer": variables((2,))}
    assert checkpoints.read_latest(store, "m-1") is None
    checkpoints.write_checkpoint(store, "m-1", 0, [{"loss": 3.0}], state)
    checkpoints.write_checkpoint(store, "m-1", 0, [{"loss": 3.0}, {"loss": 2.0}], state)
    checkpoints.write_checkpoint(store, "m-1", 1, [{"loss": 1.0}], state)
    latest = checkpoints.read_latest(store, "m-1")
    assert latest
    assert (latest.phase, latest.n_epochs, latest.history) == (1, 1, [{"loss": 1.0}])
    assert latest.groups == {"encoder", "optimizer"}
    assert len(list(store.list_keys("models/m-1/"))) == 2
    fresh = {"encoder": variables((2, 3), (4,))}
    checkpoints.restore(latest, fresh)
    np.testing.assert_array_equal(fresh["encoder"][0].value, state["encoder"][0].value)


def test_half_a_checkpoint_is_not_there_and_a_damaged_one_is_passed_over(store: Store) -> None:
    state = {"encoder": variables((2, 3))}
    checkpoints.write_checkpoint(store, "m-1", 0, [{"loss": 3.0}], state)
    store.put_bytes(model_key("m-1", f"checkpoints/00/0002.{'0' * 16}.npz"), b"half of it")
    latest = checkpoints.read_latest(store, "m-1")
    assert latest
    assert latest.n_epochs == 1
    store.put_json(model_key("m-1", "checkpoints/00/0002.json"), {"sha256": "0" * 64, "history": []})
    passed_over = checkpoints.read_latest(store, "m-1")
    assert passed_over
    assert passed_over.n_epochs == 1


def test_a_checkpoint_of_another_model_is_refused(store: Store) -> None:
    checkpoints.write_checkpoint(store, "m-1", 0, [{"loss": 3.0}], {"encoder": variables((2, 3))})
    latest = checkpoints.read_latest(store, "m-1")
    assert latest
    with pytest.raises(ModelMismatchError, match="another model: no encoder/0000/kernel"):
        checkpoints.restore(latest, {"encoder": variables((3, 3))})
