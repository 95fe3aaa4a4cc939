"""Many trailers at once, each in a process that may die.

A decoder that crashes, hangs or eats memory costs the one trailer it was at: its process is killed, a new one started.
It may have been the machine's fault (memory that others took, a busy hour), so the trailer gets a second try first; one
that crashes the quick engine twice is left to ffmpeg if the setting `engine` is `auto`.
Processes and not threads: 6.6 against 5.4 trailers a second were measured on two cores.

Does not belong here: what is extracted (extract.py), and what a lost trailer means (shards).
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, cast

from trailer_ml.errors import ChildTimeoutError, LocalFaultError, MediaError
from trailer_ml.features.extract import Features, check_version
from trailer_ml.features.worker import LOCAL_FAULT
from trailer_ml.processes import clean_environment, start_child
from trailer_ml.scratch import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trailer_ml.processes import Child
    from trailer_ml.settings import FeatureSettings

logger = logging.getLogger(__name__)

_NAME = "the extracting process"
# Parallelism comes from many processes; a thread a core would also count against the memory limit.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_START_TIMEOUT_S = 120.0
MAY_PASS = ("crashed", "timeout", "out_of_memory")
"""Reasons that may lie in the machine and not in the file: for a second try."""
_GRACE_S = 2.0
"""The worker has its own clock and gives the better reason; this much later it is killed."""
_AHEAD = 1
"""Results that may wait for a slower one before them, beyond one a worker."""


def extract_many(paths: Iterable[Path], settings: FeatureSettings, workers: int = 1) -> Iterator[Features | MediaError]:
    """Features of many files, in the order of the files.

    Only a few files are looked at ahead of the one that is asked for, so memory does not grow with their number;
    `paths` may be a generator that fetches each file when it is its turn.

    Args:
        paths: of any origin.
        settings: what to look at, and the wall clock and memory that one file may take.
        workers: processes at a time.

    Yields:
        Features, or the MediaError that says why there are none.

    Raises:
        LocalFaultError: this machine cannot go on: its disk is full, it has no ffmpeg, no process can be started.
        SettingsError: they are of another version of the extractor.
    """
    check_version(settings)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("trailer-ml-features-"))
        all_workers = [stack.enter_context(_Worker(settings, folder / f"{i}.npz")) for i in range(workers)]
        threads = stack.enter_context(ThreadPoolExecutor(workers))
        free: SimpleQueue[_Worker] = SimpleQueue()
        for worker in all_workers:
            stack.callback(worker.kill)  # whoever leaves early does not wait for the rest
            free.put(worker)

        def extract(path: Path) -> Features | MediaError:
            worker = free.get()
            try:
                return worker.extract(path)
            finally:
                free.put(worker)

        pending: deque[Future[Features | MediaError]] = deque()
        stack.callback(lambda: [future.cancel() for future in pending])
        for path in paths:
            pending.append(threads.submit(extract, path))
            if len(pending) > workers + _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


class _Worker(ExitStack):
    """One child process, started when there is something to do and again after it was lost.

    Args:
        settings: given to the child.
        output: where the child leaves its results, one after the other.
    """

    def __init__(self, settings: FeatureSettings, output: Path) -> None:
        super().__init__()
        self._settings = settings
        self._output = output
        self._child: Child | None = None
        self._unread = b""
        self._is_killed = False

    def extract(self, path: Path) -> Features | MediaError:
        """What there is to be seen of a file; a loss that may not be the file's doing is tried once more, afresh."""
        result = self._try(path)
        if not isinstance(result, MediaError) or result.reason not in MAY_PASS or self._is_killed:
            return result
        logger.warning("%s (%s): tried once more", result, result.reason)
        self._end()
        again = self._try(path)
        if isinstance(again, MediaError) and again.reason == "crashed" and not self._is_killed:
            again = self._leave_to_ffmpeg(path, again)
        return result if isinstance(again, MediaError) else again  # what it said first is what it was about

    def _leave_to_ffmpeg(self, path: Path, error: MediaError) -> Features | MediaError:
        if self._settings.engine != "auto":
            return error
        logger.warning("%s: tried with ffmpeg", error)
        return self._try(path, engine="ffmpeg")

    def _try(self, path: Path, engine: str | None = None) -> Features | MediaError:
        child = self._child or self._start()
        try:
            request = {"path": str(path.absolute()), "output": str(self._output)}
            _write_line(child, request | ({"engine": engine} if engine else {}))
            answer = json.loads(self._read_line(child, self._settings.timeout_s + _GRACE_S))
        except (BrokenPipeError, EOFError):
            error = child.failure([_NAME])
            self._end()
            return MediaError(f"{path.name}: {error}", reason="crashed", stderr_tail=error.stderr_tail)
        except TimeoutError:
            self._end()
            message = f"{path.name}: not done after {self._settings.timeout_s:g} s, killed"
            return MediaError(message, reason="timeout")
        if answer["reason"] is None:
            return Features.load_npz(self._output)
        message = f"{path.name}: {answer['message']}"
        if answer["reason"] == LOCAL_FAULT:
            raise LocalFaultError(message)
        return MediaError(message, reason=answer["reason"], stderr_tail=answer.get("stderr_tail", ""))

    def kill(self) -> None:
        """Called from another thread: what this worker is at ends now, and nothing else begins."""
        self._is_killed = True
        if child := self._child:
            child.kill()

    def _start(self) -> Child:
        arguments = [sys.executable, "-m", "trailer_ml.features.worker", self._settings.model_dump_json()]
        child = self.enter_context(
            start_child(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean_environment() | _ONE_THREAD)
        )
        self._child, self._unread = child, b""
        if self._is_killed:
            child.kill()
        try:
            self._read_line(child, _START_TIMEOUT_S)
        except EOFError:
            error = child.failure([_NAME])  # whatever ended it, there was no trailer yet
            raise LocalFaultError(f"it could not start: {error}", stderr_tail=error.stderr_tail) from None
        except TimeoutError:
            raise ChildTimeoutError(f"{_NAME} did not start in {_START_TIMEOUT_S:.0f} s") from None
        return child

    def _end(self) -> None:
        self._child = None
        self.close()

    def _read_line(self, child: Child, timeout_s: float) -> bytes:
        """One line of the child's; EOFError when it is gone, TimeoutError when it does not come."""
        end = time.monotonic() + timeout_s
        stdout = cast("IO[bytes]", child.process.stdout)
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise TimeoutError
                data = os.read(stdout.fileno(), 65536)
                if not data:
                    raise EOFError
                self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line


def _write_line(child: Child, request: dict[str, str]) -> None:
    # Past the buffer, which would want to be flushed again when a broken pipe is closed.
    os.write(cast("IO[bytes]", child.process.stdin).fileno(), json.dumps(request).encode() + b"\n")
