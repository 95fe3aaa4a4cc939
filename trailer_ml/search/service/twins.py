"""The near-duplicates of the index that is served: found once for each, in a process apart, when somebody first asks.

That process takes none of this one's memory, gives way to it (`nice`), and works with one thread; so no other request
waits, however large the catalogue is. Whoever asks meanwhile waits without a thread of ours, and not for long.

Does not belong here: finding them (duplicates.py).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from trailer_ml.errors import ChildTimeoutError, RateLimitedError, RetryableError
from trailer_ml.index.serve import open_current_index
from trailer_ml.processes import limit_this_process, start_child
from trailer_ml.records import DuplicateGroup
from trailer_ml.search.duplicates import find_duplicates_in
from trailer_ml.search.service.looking import child_environment
from trailer_ml.settings import load_settings
from trailer_ml.storage import Store

if TYPE_CHECKING:
    from trailer_ml.processes import Child
    from trailer_ml.search.service.live import Live, Snapshot
    from trailer_ml.settings import Settings

logger = logging.getLogger(__name__)

_PATIENCE_S = 20.0
"""So long a request waits; then it is told to come again."""
_COME_AGAIN_S = 5.0
_TIMEOUT_S = 3600.0
_PAUSE_S = 30.0  # after a failure: whoever asks meanwhile gets the same one
_COMMAND = [sys.executable, "-m", "trailer_ml.search.service.twins"]
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class Twins(NamedTuple):
    """The near-duplicates of one index."""

    index_version: str
    groups: tuple[DuplicateGroup, ...]


class TwinFinder:
    """Finds them when they are asked for.

    Args:
        settings: all of them.
        live: what is served.
    """

    def __init__(self, settings: Settings, live: Live) -> None:
        self._settings = settings
        self._live = live
        self._lock = threading.Lock()
        # The child dies with the thread that started it, so that is one that lasts.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="trailer-ml-twins")
        self._found: Future[Twins] | None = None
        self._version = ""
        self._failed_at = 0.0
        self._child: Child | None = None
        self._is_stopped = False

    async def wait(self) -> tuple[Snapshot, tuple[DuplicateGroup, ...]]:
        """The near-duplicates of the index that is served, and that index.

        Raises:
            NoIndexError: none has been published yet.
            RateLimitedError: they are still looked for.
            RetryableError: they cannot be found just now; the log says why.
        """
        end = time.monotonic() + _PATIENCE_S
        while (left_s := end - time.monotonic()) > 0:
            version = self._live.snapshot().index.manifest.version
            try:
                found = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._find(version))), left_s)
            except TimeoutError:
                break
            except RetryableError:
                if self._live.snapshot().index.manifest.version == version:
                    raise
                continue  # its process was ended for the sake of another index
            snapshot = self._live.snapshot()
            if found.index_version == snapshot.index.manifest.version:
                return snapshot, found.groups
            await asyncio.sleep(self._settings.service.refresh_s)  # another one was published meanwhile
        raise RateLimitedError("the near-duplicates of a new index are being looked for", retry_after_s=_COME_AGAIN_S)

    def stop(self) -> None:
        """End the child, whatever it is at."""
        with self._lock:
            self._is_stopped = True
            if self._child:
                self._child.kill()
        self._thread.shutdown(cancel_futures=True)

    def _find(self, version: str) -> Future[Twins]:
        """What is found of this index, or was found, or is being looked for."""
        with self._lock:
            if self._found is None or self._is_to_be_done_again(self._found, version):
                if self._child:  # nobody wants that index any more
                    self._child.kill()
                self._version = version
                self._found = self._thread.submit(self._run)
            return self._found

    def _is_to_be_done_again(self, found: Future[Twins], version: str) -> bool:
        if not found.done():
            return self._version != version
        if found.exception():
            return self._version != version or time.monotonic() > self._failed_at + _PAUSE_S
        return found.result().index_version != version

    def _run(self) -> Twins:
        environment = child_environment(self._settings) | _ONE_THREAD
        try:
            with tempfile.TemporaryFile() as stdout, start_child(_COMMAND, stdout=stdout, env=environment) as child:
                self._wait_for(child)
                stdout.seek(0)
                answer = json.load(stdout)
        except RetryableError as error:
            self._failed_at = time.monotonic()
            logger.warning("the near-duplicates were not found: %s", error)
            raise
        return Twins(answer["index_version"], tuple(map(DuplicateGroup.model_validate, answer["groups"])))

    def _wait_for(self, child: Child) -> None:
        with self._lock:
            self._child = child
            if self._is_stopped:
                child.kill()
        try:
            if child.process.wait(_TIMEOUT_S):
                raise RetryableError(str(child.failure(_COMMAND)))
        except subprocess.TimeoutExpired:
            raise ChildTimeoutError(f"that takes more than {_TIMEOUT_S:.0f} s") from None
        finally:
            with self._lock:
                self._child = None


def main() -> None:
    """What the process apart does: find them, and say them on standard output."""
    limit_this_process()
    os.nice(10)
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no answer
    settings = load_settings()
    store = Store(settings.store)
    with open_current_index(store, settings.index.cache_folder) as index:
        groups = find_duplicates_in(index, settings, store)
        answer = {"index_version": index.manifest.version, "groups": [group.to_json() for group in groups]}
    with os.fdopen(answers, "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main()
