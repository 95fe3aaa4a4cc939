"""Checkpoints: the newest whole state is what counts, whoever wrote last."""

import keras
import numpy as np
import pytest

from trailer_ml.errors import ModelMismatchError
from trailer_ml.model.checkpoints import read_latest, restore, write_checkpoint
from trailer_ml.storage import Store


def variables(value: float, shape: tuple[int, ...] = (2,)) -> dict[str, list[keras.Variable]]:
    return {"encoder": [keras.Variable(np.full(shape, value, np.float32), name="weight")]}


def history(n_epochs: int) -> list[dict[str, float]]:
    return [{"loss": float(epoch)} for epoch in range(n_epochs)]


def test_a_slow_twin_deletes_nothing_newer(store: Store) -> None:
    write_checkpoint(store, "m-1", 1, history(2), variables(2.0))
    write_checkpoint(store, "m-1", 0, history(3), variables(1.0))  # a first try that was given up, and is still alive
    latest = read_latest(store, "m-1")
    assert latest is not None
    assert (latest.phase, latest.n_epochs) == (1, 2)
    restored = variables(0.0)
    restore(latest, restored)
    np.testing.assert_array_equal(restored["encoder"][0].numpy(), [2.0, 2.0])


def test_what_is_older_goes(store: Store) -> None:
    for n_epochs in (1, 2, 3):
        write_checkpoint(store, "m-1", 0, history(n_epochs), variables(n_epochs))
    kept, manifest = [key.rpartition("/")[2] for key in store.list_keys("models/m-1/checkpoints/")]
    assert kept.startswith("0003.")
    assert kept.endswith(".npz")
    assert manifest == "0003.json"


def test_a_twin_that_dies_before_its_manifest_spoils_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """On other hardware the same epoch gives numbers that differ in the last place."""
    write_checkpoint(store, "m-1", 0, history(3), variables(1.0))

    def die(_: Store, key: str, value: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put_json", die)
        with pytest.raises(KeyboardInterrupt):
            write_checkpoint(store, "m-1", 0, history(3), variables(1.0000001))
    latest = read_latest(store, "m-1")
    assert latest is not None
    restored = variables(0.0)
    restore(latest, restored)
    np.testing.assert_array_equal(restored["encoder"][0].numpy(), [1.0, 1.0])

    write_checkpoint(store, "m-1", 1, history(1), variables(2.0))
    assert all(key.startswith("models/m-1/checkpoints/01/") for key in store.list_keys("models/m-1/"))


def test_a_damaged_one_is_passed_over(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    write_checkpoint(store, "m-1", 0, history(1), variables(1.0))
    (key,) = (key for key in store.list_keys("models/m-1/") if key.endswith(".npz"))
    store.put_bytes(key, b"damaged")
    assert read_latest(store, "m-1") is None
    assert "00/0001.json: the object of this hash is not there" in caplog.text


def test_a_state_of_another_model_is_refused(store: Store) -> None:
    write_checkpoint(store, "m-1", 0, history(1), variables(1.0))
    latest = read_latest(store, "m-1")
    assert latest is not None
    with pytest.raises(ModelMismatchError, match="of another model"):
        restore(latest, variables(0.0, shape=(3,)))
