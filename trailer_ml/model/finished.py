"""Which trainings are finished, and which of them is the newest.

Does not belong here: whether a model is any good (evaluate.py, registry.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trailer_ml.errors import NoModelError
from trailer_ml.model.dataset import read_dataset
from trailer_ml.storage import model_key

if TYPE_CHECKING:
    import datetime as dt

    from trailer_ml.records import DatasetRef
    from trailer_ml.storage import Store


def find_newest_trained(store: Store) -> DatasetRef:
    """The data set of the model whose last phase of training ended last; shards that came since change nothing.

    Raises:
        NoModelError: no training is finished.
    """
    ended: list[tuple[dt.datetime, str]] = []
    for key in store.list_keys("models/"):
        version, _, name = key.removeprefix("models/").partition("/")
        if name.startswith("phases/") and (moment := store.modified_at(key)):
            ended.append((moment, version))
    tried = set()
    for _, version in sorted(ended, reverse=True):
        if version not in tried:
            tried.add(version)
            dataset = read_dataset(version, store)
            if store.exists(model_key(version, f"phases/{len(dataset.model.phases) - 1:02d}.json")):
                return dataset.ref
    raise NoModelError("no training is finished: make a model with `trailer-ml train`, which goes on where it stopped")
