"""Following Airflow's runs until nothing is left to do, and saying what went wrong when something did.

Does not belong here: which runs the demo wants.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from trailer_ml.demo.progress import describe_tasks, name_run
from trailer_ml.errors import ChildTimeoutError, PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from trailer_ml.demo.airflow_stack import Airflow
    from trailer_ml.demo.progress import Progress

    Run = Mapping[str, Any]

ACTIVE_STATES = frozenset({"queued", "running"})
POLL_S = 1.0
_SKIP = "Skipping task."
REPORTING_TASKS = ("summary", "promote", "publish", "match")
"""Whose returned record says in numbers what a run did."""


class Follower:
    """Watches one Airflow; each run that ends while we watch is told once.

    Args:
        airflow: which.
        progress: where to tell it.
    """

    def __init__(self, airflow: Airflow, progress: Progress) -> None:
        self._airflow = airflow
        self._progress = progress
        self._told = {self._key(run) for run in airflow.api.runs() if run["state"] not in ACTIVE_STATES}

    def until(self, is_done: Callable[[Sequence[Run]], bool], timeout_s: float) -> None:
        """Watch until `is_done` says so of all runs there are.

        Raises:
            PermanentError: a run failed; the message names its failed tasks, their logs and the end of these.
            ChildTimeoutError: it is not done in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            runs = self._airflow.api.runs()
            for run in runs:
                if run["state"] not in ACTIVE_STATES and self._key(run) not in self._told:
                    self._told.add(self._key(run))
                    self._tell(run)
            if is_done(runs):
                return
            if time.monotonic() > deadline:
                raise ChildTimeoutError(f"Airflow did not finish within {timeout_s:.0f} s; see {self._airflow.url}")
            self._show([run for run in runs if run["state"] in ACTIVE_STATES])
            time.sleep(POLL_S)

    @staticmethod
    def _key(run: Run) -> tuple[str, str, str | None]:
        """A run that is cleared and runs again is another one."""
        return run["dag_id"], run["dag_run_id"], run["end_date"]

    def _show(self, active: Sequence[Run]) -> None:
        doing = {
            name_run(run): describe_tasks(self._airflow.api.tasks(run["dag_id"], run["dag_run_id"])) for run in active
        }
        parts = [f"{name}: {tasks}" for name, tasks in doing.items() if tasks]
        self._progress.show(" | ".join(parts) or f"{', '.join(doing) or 'Airflow'}: waiting")

    def _tell(self, run: Run) -> None:
        api = self._airflow.api
        tasks = api.tasks(run["dag_id"], run["dag_run_id"])
        if run["state"] == "failed":
            raise PermanentError(f"{name_run(run)} failed.\n{explain_failures(self._airflow, tasks)}")
        facts = ""
        for task in tasks:
            if task["task_id"] in REPORTING_TASKS and task["state"] == "success":
                facts = summarise(api.returned(run["dag_id"], run["dag_run_id"], task["task_id"]))
            elif task["state"] == "skipped" and not facts:
                facts = last_words(self._airflow.task_log(task))
        self._progress.say(f"{name_run(run)}  {run['duration'] or 0:.0f} s  {facts}".rstrip())


def summarise(record: Any) -> str:
    """The numbers and the reason in what a task returned.

    >>> summarise({"n_listed": 30, "n_rejected": 0, "reason": "better", "version": "abc"})
    'listed 30, better'
    """
    if not isinstance(record, dict):
        return ""
    numbers = [
        f"{name.removeprefix('n_').replace('_', ' ')} {value}"
        for name, value in record.items()
        if name.startswith("n_") and value
    ]
    return ", ".join([*numbers, *([record["reason"]] if record.get("reason") else [])])


def explain_failures(airflow: Airflow, tasks: Sequence[Mapping[str, Any]]) -> str:
    """For each failed task its name, where its log is, and the end of it."""
    parts = []
    for task in tasks:
        if task["state"] != "failed":
            continue
        label = task["rendered_map_index"] or (task["map_index"] if task["map_index"] >= 0 else "")
        log = airflow.task_log(task)
        parts += [f"  task {task['task_id']} {label}".rstrip(), f"  log  {log}"]
        parts += [f"    {line}" for line in read_events(log)[-8:]]
    return "\n".join(parts)


def last_words(log: Path) -> str:
    """Why a task was skipped, as it said itself."""
    skips = [event for event in read_events(log) if event.startswith(_SKIP)]
    return f"skipped: {skips[-1].removeprefix(_SKIP).strip()}" if skips else ""


def read_events(log: Path) -> list[str]:
    """The lines of a task's log as a person reads them: what happened and, of an error, its class and message."""
    if not log.exists():
        return []
    lines = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            lines.append(line)
            continue
        event = str(entry.get("event", ""))
        if not event.startswith("::"):  # marks for the UI
            lines.append(f"{event} {entry.get('reason', '')}".rstrip())
        lines += [f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or []]
    return lines
