"""Looking at uploaded videos, apart from this process and one at a time; whoever finds too many waiting comes later.

Does not belong here: receiving a video (uploads.py), and what its vector is compared with.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from trailer_ml.errors import ChildTimeoutError, MediaError, ModelMismatchError, RateLimitedError, RetryableError
from trailer_ml.processes import start_child
from trailer_ml.settings import as_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from trailer_ml.processes import Child
    from trailer_ml.settings import Settings

logger = logging.getLogger(__name__)
FAULT, NO_MODEL = "fault", "no_model"
"""Reasons that are not the video's."""
_NAME = "the looking process"
_START_S = 180.0
"""For its imports and the model, on a busy machine."""
_TRIES = 2  # of one video, by features/pool.py
_COME_AGAIN_S = 10.0
_KEPT_S = 600.0
"""So long it is kept without work: it holds TensorFlow."""


class Looking:
    """One child process, started when there is something to look at.

    Args:
        settings: what a video may cost, and where the model is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._slots = threading.BoundedSemaphore(settings.service.max_matches)
        # The child dies with the thread that started it, so that is one that lasts.
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="trailer-ml-looking")
        self._stack = ExitStack()
        self._child: Child | None = None
        self._used_at = time.monotonic()

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue while the block runs.

        Raises:
            RateLimitedError: all are taken.
        """
        if not self._slots.acquire(blocking=False):
            raise RateLimitedError("too many videos are being matched: try again", retry_after_s=_COME_AGAIN_S)
        try:
            yield
        finally:
            self._slots.release()

    def look(self, path: Path, model_version: str) -> NDArray[np.float32]:
        """The (dim,) vector of a video. To be called in `thread`.

        Raises:
            MediaError: it cannot be used; the reason says why.
            ModelMismatchError: there is no such model any more.
            RetryableError: it took too long, or the process ended.
        """
        child = self._child or self._start()
        request = {"path": str(path), "model_version": model_version}
        try:
            os.write(cast("IO[bytes]", child.process.stdin).fileno(), json.dumps(request).encode() + b"\n")
            answer = self._read_answer(child)
        except (BrokenPipeError, EOFError):
            error = child.failure([_NAME])
            logger.warning("%s: %s", error, error.stderr_tail)
            self._end()
            raise RetryableError(f"{_NAME} ended") from error
        except TimeoutError:
            self._end()
            raise ChildTimeoutError(f"{_NAME} was not done in time") from None
        self._used_at = time.monotonic()
        if answer["reason"] is None:
            return np.array(answer["vector"], dtype=np.float32)
        if answer["reason"] == NO_MODEL:
            raise ModelMismatchError(answer["message"])
        if answer["reason"] == FAULT:
            raise RetryableError(answer["message"])
        raise MediaError(answer["message"], reason=answer["reason"])

    def rest(self) -> None:
        """End the child if it has had nothing to do for long."""
        if self._child and time.monotonic() - self._used_at > _KEPT_S:
            self.thread.submit(self._end)

    def stop(self) -> None:
        """End the child, whatever it is at."""
        if child := self._child:
            child.kill()
        self.thread.shutdown()
        self._end()

    def _start(self) -> Child:
        child = self._stack.enter_context(
            start_child(
                [sys.executable, "-m", "trailer_ml.search.service.looker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=child_environment(self._settings) | {"TF_CPP_MIN_LOG_LEVEL": "2"},
            )
        )
        self._child = child
        return child

    def _end(self) -> None:
        self._child = None
        self._stack.close()

    def _read_answer(self, child: Child) -> dict[str, Any]:
        end = time.monotonic() + _START_S + _TRIES * self._settings.features.timeout_s
        stdout = cast("IO[bytes]", child.process.stdout)
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise TimeoutError
                data = os.read(stdout.fileno(), 65536)
                if not data:
                    raise EOFError
                line += data
        answer: dict[str, Any] = json.loads(line)
        return answer


def child_environment(settings: Settings) -> dict[str, str]:
    """Of a child of ours: our own with these settings, whoever gave them; the service's key is not its business."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TRAILER_")}
    key, secret = settings.store.access_key_id, settings.store.secret_access_key
    keys = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    return {
        **inherited,
        **as_environment(settings),
        **{name: value.get_secret_value() for name, value in keys.items() if value},
    }
