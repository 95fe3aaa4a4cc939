"""What a person sees while the demo runs: a line for what is done, and one that changes for what is being done.

Does not belong here: asking anybody how things are going.
"""

from __future__ import annotations

import itertools
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DONE_STATES = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
BUSY_STATES = frozenset({"running", "up_for_retry", "restarting"})
PLAIN_EVERY_S = 10.0
_CLEAR_LINE = "\r\x1b[K"


class Progress:
    """Lines on a terminal or in a file; in a file, what changes is written now and then.

    Args:
        stream: where to; None: standard output.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._is_terminal = self._stream.isatty()
        self._started = time.monotonic()
        self._shown = ""
        self._shown_at = float("-inf")

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def say(self, text: str = "") -> None:
        """A line that stays, with the time since the start."""
        self._write(f"{self._clock()}  {text}" if text else "")

    def show(self, text: str) -> None:
        """What is going on now; the next call replaces it."""
        if self._is_terminal:
            room = shutil.get_terminal_size().columns - 1
            line = f"{self._clock()}  {text}"
            self._stream.write(_CLEAR_LINE + (line if len(line) <= room else line[: room - 1] + "…"))
            self._stream.flush()
        elif text != self._shown and self.elapsed_s - self._shown_at >= PLAIN_EVERY_S:
            self._shown, self._shown_at = text, self.elapsed_s
            self._write(f"{self._clock()}  … {text}")

    def clear(self) -> None:
        """Nothing is going on any more."""
        if self._is_terminal:
            self._stream.write(_CLEAR_LINE)
            self._stream.flush()

    def _write(self, line: str) -> None:
        self.clear()
        self._stream.write(line + "\n")
        self._stream.flush()

    def _clock(self) -> str:
        return f"{int(self.elapsed_s) // 60:d}:{int(self.elapsed_s) % 60:02d}"


def name_run(run: Mapping[str, Any]) -> str:
    """A run as a person would call it.

    >>> name_run({"dag_id": "trailers_refresh", "run_type": "backfill", "logical_date": "2026-11-22T00:00:00Z"})
    'trailers_refresh 2026-11-22'
    """
    if run["run_type"] in {"backfill", "scheduled"} and run["logical_date"]:
        return f"{run['dag_id']} {run['logical_date'][:10]}"
    return str(run["dag_id"])


def describe_tasks(tasks: Iterable[Mapping[str, Any]]) -> str:
    """What a run is doing: the tasks at work and, where they are mapped, which of how many; empty when it waits.

    >>> task = {"task_id": "batch.shard", "map_index": 0, "state": "success"}
    >>> describe_tasks([task, {**task, "map_index": 1, "state": "running"}])
    'shard 2 of 2'
    """
    parts = []
    for task_id, group in itertools.groupby(
        sorted(tasks, key=lambda task: task["task_id"]), lambda task: task["task_id"]
    ):
        states = [task["state"] for task in group]
        if not BUSY_STATES.isdisjoint(states):
            done = sum(state in DONE_STATES for state in states)
            name = str(task_id).rpartition(".")[2]
            parts.append(f"{name} {done + 1} of {len(states)}" if len(states) > 1 else name)
    return ", ".join(parts)
