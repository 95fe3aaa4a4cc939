"""Which model `trailer-ml evaluate` takes when it is not told: the one whose training ended last."""

import datetime as dt
from collections.abc import Callable

import pytest

from trailer_ml.errors import NoModelError
from trailer_ml.model.dataset import Dataset, dataset_key
from trailer_ml.model.finished import find_newest_trained
from trailer_ml.settings import FeatureSettings, ModelSettings, Settings
from trailer_ml.storage import Store, model_key

N_PHASES = len(ModelSettings().phases)


class Calendar(Store):
    """Says of each model on which day of November it was worked on."""

    day_of: dict[str, int]

    def modified_at(self, key: str) -> dt.datetime | None:
        return super().modified_at(key) and dt.datetime(2026, 11, self.day_of[key.split("/")[1]], tzinfo=dt.UTC)


@pytest.fixture
def train(settings: Settings, store: Store) -> Callable[[str, int], None]:
    """Leaves what training leaves of a data set and of its first phases."""

    def leave(version: str, n_phases: int) -> None:
        dataset = Dataset(
            version=version, genres=("Action",), shards=(), trailers=(), n_without_genre=0, model=ModelSettings(),
            features=FeatureSettings(),
        )  # fmt: skip
        store.create_json(dataset_key(version), dataset.to_json())
        for number in range(n_phases):
            store.create_json(model_key(version, f"phases/{number:02d}.json"), {"phase": "x", "epochs": []})

    return leave


def test_the_newest_that_is_finished(settings: Settings, train: Callable[[str, int], None]) -> None:
    train("m-a", N_PHASES)
    train("m-b", N_PHASES)
    train("m-c", N_PHASES - 1)
    train("m-d", 0)
    store = Calendar(settings.store)
    store.day_of = {"m-a": 21, "m-b": 20, "m-c": 22}
    assert find_newest_trained(store).version == "m-a"
    store.day_of = {"m-a": 21, "m-b": 22, "m-c": 23}
    assert find_newest_trained(store).version == "m-b"


def test_none_is_finished(store: Store, train: Callable[[str, int], None]) -> None:
    with pytest.raises(NoModelError, match="trailer-ml train"):
        find_newest_trained(store)
    train("m-a", N_PHASES - 1)
    with pytest.raises(NoModelError, match="trailer-ml train"):
        find_newest_trained(store)
