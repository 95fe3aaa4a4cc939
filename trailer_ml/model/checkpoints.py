"""The state of a training after each epoch, so that a killed one goes on where it was.

A checkpoint is two objects, `checkpoints/<phase>/<epoch>.<hash>.npz` and, written after it, `<epoch>.json` with the
hash of the first and the history so far. A late twin on other hardware, whose numbers differ a little, so overwrites
nothing that a manifest speaks of. Older ones are deleted when a newer one is whole. The variables of the encoder, of
the classifiers and of the optimizer are stored by their order and name, which do not depend on what is frozen
(freezing and unfreezing breaks formats that go by trainable first: tensorflow #52923).

Does not belong here: when a checkpoint is made.
"""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trailer_ml.errors import MissingObjectError, ModelMismatchError
from trailer_ml.storage import model_key, sha256_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trailer_ml.storage import Store

    Variables = Mapping[str, Sequence[Any]]

logger = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """The state after some epochs of a phase."""

    phase: int
    n_epochs: int
    """Epochs of this phase that are done."""
    history: list[dict[str, float]]
    """One entry for each of them."""
    arrays: dict[str, Any]
    """(name -> array), as `write_checkpoint` names them."""

    @property
    def groups(self) -> set[str]:
        """The groups of variables that are in it."""
        return {name.split("/")[0] for name in self.arrays}


def write_checkpoint(
    store: Store, version: str, phase: int, history: list[dict[str, float]], variables: Variables
) -> None:
    """Keep the state after `len(history)` epochs of a phase.

    Args:
        store: where to.
        version: the model.
        phase: number of the phase.
        history: one entry for each epoch of it that is done.
        variables: Keras variables by group, such as `encoder`, `heads`, `optimizer`.
    """
    file = io.BytesIO()
    arrays: dict[str, Any] = {name: np.asarray(value.numpy()) for name, value in _named(variables)}
    np.savez(file, allow_pickle=False, **arrays)
    data, name = file.getvalue(), _name(version, phase, len(history))
    sha256 = sha256_of(data)
    older = [key for key in store.list_keys(_prefix(version)) if key < name]  # a slow twin deletes nothing newer
    store.put_bytes(_object_key(name, sha256), data)
    store.put_json(f"{name}.json", {"sha256": sha256, "history": history})
    for key in sorted(older, key=lambda key: not key.endswith(".json")):  # a manifest never outlives its object
        store.delete(key)


def read_latest(store: Store, version: str) -> Checkpoint | None:
    """The last whole state; None where training has not begun."""
    prefix = _prefix(version)
    manifests = sorted(key for key in store.list_keys(prefix) if key.endswith(".json"))
    for key in reversed(manifests):
        manifest = store.read_json(key)
        try:
            data = store.read_bytes(_object_key(key.removesuffix(".json"), manifest["sha256"]))
        except MissingObjectError:
            data = b""
        if sha256_of(data) != manifest["sha256"]:
            logger.warning("%s: the object of this hash is not there; it is passed over", key)
            continue
        phase, epoch = key.removeprefix(prefix).removesuffix(".json").split("/")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return Checkpoint(int(phase), int(epoch), manifest["history"], dict(arrays))
    return None


def restore(checkpoint: Checkpoint, variables: Variables) -> None:
    """Put a state back into variables of the same groups, names and shapes; other groups are left alone.

    Raises:
        ModelMismatchError: the state belongs to another model.
    """
    for name, variable in _named(variables):
        if name not in checkpoint.arrays or checkpoint.arrays[name].shape != tuple(variable.shape):
            raise ModelMismatchError(f"the checkpoint of phase {checkpoint.phase} is of another model: no {name}")
        variable.assign(checkpoint.arrays[name])


def _named(variables: Variables) -> list[tuple[str, Any]]:
    return [
        (f"{group}/{number:04d}/{variable.path.rpartition('/')[2]}", variable)
        for group, members in variables.items()
        for number, variable in enumerate(members)
    ]


def _prefix(version: str) -> str:
    return model_key(version, "checkpoints/")


def _object_key(name: str, sha256: str) -> str:
    return f"{name}.{sha256[:16]}.npz"


def _name(version: str, phase: int, n_epochs: int) -> str:
    return f"{_prefix(version)}{phase:02d}/{n_epochs:04d}"
