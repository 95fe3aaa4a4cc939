"""SIGTERM while a model is trained: by a person, by Airflow, by a machine that is about to go.

Does not belong here: what is kept (checkpoints.py), and child processes (processes.py).
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trailer_ml.errors import StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Asked(BaseException):
    """Raised where the signal finds us; no Exception, so that nobody on the way takes it for a fault of theirs."""


@contextmanager
def end_on_sigterm(what: str) -> Iterator[None]:
    """Let SIGTERM end what is done here in good order: the running batch is finished, files of passage are removed.

    What was in force for SIGTERM comes back behind it. Only the main thread is given signals; in another nothing
    changes.

    Args:
        what: is done here, for the message.

    Raises:
        StoppedError: SIGTERM came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: cleaning up is not interrupted
        raise _Asked

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except _Asked:
        raise StoppedError(f"SIGTERM has ended {what}; the next try goes on from the last checkpoint") from None
    finally:
        signal.signal(signal.SIGTERM, before)
