"""The histories of a training as TensorBoard reads them: `models/<version>/tensorboard/<phase>/events…`, one a phase.

They are written from what is kept of each epoch, at evaluation, and without a clock: a training that was killed and
went on has the same files, byte for byte, as one that was not.

Does not belong here: the figures themselves (train.py), and how a record lies in a file (shards/tfrecord.py).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from tensorflow.core.framework.summary_pb2 import Summary
from tensorflow.core.util.event_pb2 import Event

from trailer_ml.shards.tfrecord import write_record
from trailer_ml.storage import model_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trailer_ml.model.card import PhaseHistory
    from trailer_ml.storage import Store

_FORMAT = "brain.Event:2"


def write_event_files(version: str, history: Sequence[PhaseHistory], store: Store) -> None:
    """Put the scalars of each epoch of each phase into the store; what is there already stays."""
    first = 1
    for number, phase in enumerate(history):
        run = f"{number:02d}-{_as_folder(phase.phase)}"
        store.create_bytes(
            model_key(version, f"tensorboard/{run}/events.out.tfevents.0"), encode_events(phase, first_step=first)
        )
        first += len(phase.epochs)


def encode_events(phase: PhaseHistory, *, first_step: int = 1) -> bytes:
    """The event file of a phase.

    Args:
        phase: what it went through.
        first_step: of its first epoch; epochs are counted on from phase to phase, so that one follows the other.
    """
    file = io.BytesIO()
    write_record(file, Event(file_version=_FORMAT).SerializeToString(deterministic=True))
    for step, figures in enumerate(phase.epochs, start=first_step):
        values = [Summary.Value(tag=name, simple_value=value) for name, value in sorted(figures.items())]
        event = Event(step=step, summary=Summary(value=values))
        write_record(file, event.SerializeToString(deterministic=True))
    return file.getvalue()


def _as_folder(name: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)
