"""A Keras model as bytes that depend on the model only, and back.

Keras writes the hour into a `.keras` file twice, as `date_saved` and in the zip's own directory, and the places of
objects in memory as `shared_object_id`. The first two are set to a constant and the last are counted, so that the
same weights are the same object.

Does not belong here: where the bytes are kept.
"""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

import keras

import trailer_ml.model.layers  # noqa: F401 - registers what a saved encoder is made of
from trailer_ml.errors import ModelMismatchError
from trailer_ml.scratch import scratch_folder

if TYPE_CHECKING:
    from pathlib import Path

_DATE = (1980, 1, 1, 0, 0, 0)


def to_bytes(model: keras.Model) -> bytes:
    """The model, weights included, as a `.keras` archive."""
    with scratch_folder("trailer-ml-model-") as folder:
        written, canonical = folder / "written.keras", folder / "canonical.keras"
        model.save(written)
        with zipfile.ZipFile(written) as source, zipfile.ZipFile(canonical, "w", zipfile.ZIP_STORED) as target:
            for name in sorted(source.namelist()):
                target.writestr(zipfile.ZipInfo(name, _DATE), _canonical(name, source.read(name)))
        return canonical.read_bytes()


def load(path: Path) -> keras.Model:
    """The inverse of `to_bytes`, from a local file.

    Raises:
        ModelMismatchError: it is not such a file, or was written by code that this one does not know.
    """
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # zip, JSON, HDF5 and Keras each have errors of their own
        raise ModelMismatchError(f"{path.name} cannot be loaded by this version of the code: {error}") from error


def _canonical(name: str, data: bytes) -> bytes:
    if name == "metadata.json":
        return json.dumps({**json.loads(data), "date_saved": "1980-01-01@00:00:00"}, sort_keys=True).encode()
    if name == "config.json":
        return json.dumps(_count_shared(json.loads(data), {})).encode()
    return data


def _count_shared(config: Any, numbers: dict[int, int]) -> Any:
    """The same configuration, its shared objects numbered in the order in which they are met."""
    if isinstance(config, list):
        return [_count_shared(member, numbers) for member in config]
    if not isinstance(config, dict):
        return config
    return {
        name: numbers.setdefault(value, len(numbers) + 1)
        if name == "shared_object_id"
        else _count_shared(value, numbers)
        for name, value in config.items()
    }
