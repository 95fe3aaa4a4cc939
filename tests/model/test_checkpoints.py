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
    kept = [key.rpartition("/")[2] for key in store.list_keys("models/m-1/checkpoints/")]
    assert kept == ["0003.json", "0003.npz"]


def test_a_damaged_one_is_passed_over(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    write_checkpoint(store, "m-1", 0, history(1), variables(1.0))
    store.put_bytes("models/m-1/checkpoints/00/0001.npz", b"damaged")
    assert read_latest(store, "m-1") is None
    assert "does not match its hash" in caplog.text


def test_a_state_of_another_model_is_refused(store: Store) -> None:
    write_checkpoint(store, "m-1", 0, history(1), variables(1.0))
    latest = read_latest(store, "m-1")
    assert latest is not None
    with pytest.raises(ModelMismatchError, match="of another model"):
        restore(latest, variables(0.0, shape=(3,)))
