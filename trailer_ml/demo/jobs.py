"""What the demo has Airflow do: the days by backfill, then what follows through assets, then the commercials.

Each step looks first at what is there, so that a second run takes up where the first was.

Does not belong here: how a run is watched (follow.py), and what a task does.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from trailer_ml.demo.follow import ACTIVE_STATES, Follower
from trailer_ml.errors import ChildTimeoutError, PermanentError
from trailer_ml.index.stored import read_pointer
from trailer_ml.search.status import count_states

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from trailer_ml.demo.airflow_api import AirflowApi
    from trailer_ml.demo.airflow_stack import Airflow
    from trailer_ml.demo.progress import Progress
    from trailer_ml.storage import Store

DAG_IDS = ("trailers_refresh", "trailers_train", "trailers_index", "ads_match")
TIMEOUT_S = 1800.0
IDLE_S = 8.0
"""An asset wakes its DAG within a second or two; after this long without a run, nobody was woken."""
UNFINISHED = ("listed", "downloaded", "sharded", "embedded")

STAGES = {
    "trailers_refresh.crawl": "crawl",
    "trailers_refresh.plan": "crawl",
    "trailers_refresh.batch.download": "download",
    "trailers_refresh.batch.shard": "frames, spectrograms, shards",
    "trailers_train.assemble": "training",
    "trailers_train.warm_up": "training",
    "trailers_train.train_phases": "training",
    "trailers_train.evaluate": "evaluation",
    "trailers_index.embed": "embeddings",
    "trailers_index.build": "index",
    "trailers_index.verify": "index",
    "trailers_index.publish": "index",
    "ads_match.match": "commercials",
}
"""DAG and task -> stage, as the table of times names it."""


class StageTime(NamedTuple):
    """What the tasks of a stage took together, in all runs of this folder."""

    stage: str
    n_tasks: int
    seconds: float


class Jobs:
    """Airflow's runs, as the demo wants them.

    Args:
        airflow: a healthy one.
        store: what the runs fill.
        progress: where to say what happens.
    """

    def __init__(self, airflow: Airflow, store: Store, progress: Progress) -> None:
        self._airflow = airflow
        self._api: AirflowApi = airflow.api
        self._store = store
        self._progress = progress
        self._wait_for_dags()
        self._follower = Follower(airflow, progress)

    def refresh(self, days: Sequence[dt.date]) -> None:
        """Backfill the days that have not succeeded yet, and wait for all of them."""
        for dag_id in ("trailers_train", "trailers_index"):
            self._api.unpause(dag_id)  # a paused DAG misses what assets tell it
        span = {"logical_date_gte": f"{min(days)}T00:00:00Z", "logical_date_lte": f"{max(days)}T00:00:00Z"}
        runs = self._api.runs("trailers_refresh", **span)
        is_done = self._have_succeeded(days, runs)
        if not is_done:
            for run in runs:
                if run["state"] == "failed":  # an earlier demo ended on it, perhaps in the middle of its backfill
                    self._api.clear("trailers_refresh", run["dag_run_id"])
            self._api.backfill("trailers_refresh", min(days), max(days), max_active_runs=len(days))
        self._progress.say(f"backfill of trailers_refresh, {min(days)} to {max(days)}{': done earlier' * is_done}")
        self._api.unpause("trailers_refresh")
        if not is_done:
            self._follower.until(lambda runs: self._have_succeeded(days, runs), TIMEOUT_S)

    def follow_to_the_index(self) -> None:
        """Wait until every trailer is indexed with the champion or set aside; start by hand what nobody has started."""
        started: set[str] = set()
        idle_since = time.monotonic()

        def is_done(runs: Sequence[Mapping[str, Any]]) -> bool:
            nonlocal idle_since
            if any(run["state"] in ACTIVE_STATES and run["dag_id"] != "trailers_approve" for run in runs):
                idle_since = time.monotonic()
                return False
            missing = self._missing_step()
            if missing and time.monotonic() - idle_since > IDLE_S:
                if missing in started:
                    raise PermanentError(
                        f"{missing} has run and the index is still not complete; see {self._airflow.url}"
                    )
                started.add(missing)
                self._progress.say(f"{missing} is started by hand: an earlier run was interrupted before it")
                self._api.trigger(missing, f"demo-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}", {})
            return not missing

        self._follower.until(is_done, TIMEOUT_S)

    def match_ads(self, ads: Sequence[str], k: int) -> str:
        """Trigger `ads_match` as the form does, once for each index; returns the name of its results."""
        seen = read_pointer(self._store)
        if seen is None:
            raise PermanentError("there is no index to match commercials with")
        name = f"demo-{seen.pointer.version}"
        self._api.unpause("ads_match")
        states = {run["dag_run_id"]: run["state"] for run in self._api.runs("ads_match")}
        if states.get(name) == "success":
            self._progress.say("ads_match with this index: done earlier")
            return name
        if states.get(name) == "failed":
            self._api.clear("ads_match", name)
        else:
            self._api.trigger("ads_match", name, {"ads": list(ads), "k": k, "run": name})
        self._follower.until(
            lambda runs: any(run["dag_run_id"] == name and run["state"] == "success" for run in runs), TIMEOUT_S
        )
        return name

    def times(self) -> list[StageTime]:
        """What each stage took, in the order of the work."""
        tasks = [task for run in self._api.runs() for task in self._api.tasks(run["dag_id"], run["dag_run_id"])]
        return sum_times(tasks)

    def _wait_for_dags(self) -> None:
        deadline = time.monotonic() + 120
        while not all(self._api.has_dag(dag_id) for dag_id in DAG_IDS):
            if errors := self._api.import_errors():
                name, trace = next(iter(errors.items()))
                raise PermanentError(f"Airflow cannot read {name}: {trace.strip().splitlines()[-1]}")
            if time.monotonic() > deadline:
                raise ChildTimeoutError(f"Airflow has not read its DAGs after 120 s; see {self._airflow.home}/logs")
            self._progress.show("Airflow reads the DAGs")
            time.sleep(0.5)

    def _missing_step(self) -> str:
        """The DAG whose turn it is; empty when all is done."""
        status = count_states(self._store)
        seen = read_pointer(self._store)
        if status.champion is None:
            return "trailers_train"
        is_current = seen is not None and seen.pointer.model_version == status.champion
        if is_current and not any(status.states[state] for state in UNFINISHED):  # type: ignore[index]
            return ""
        return "trailers_index"

    @staticmethod
    def _have_succeeded(days: Iterable[dt.date], runs: Iterable[Mapping[str, Any]]) -> bool:
        succeeded = {
            (run["logical_date"] or "")[:10]
            for run in runs
            if run["dag_id"] == "trailers_refresh" and run["state"] == "success"
        }
        return {day.isoformat() for day in days} <= succeeded


def sum_times(tasks: Iterable[Mapping[str, Any]]) -> list[StageTime]:
    """Task instances, added up by stage."""
    found: dict[str, list[float]] = {stage: [] for stage in STAGES.values()}
    for task in tasks:
        stage = STAGES.get(f"{task['dag_id']}.{task['task_id']}")
        if stage and task["duration"]:
            found[stage].append(task["duration"])
    return [StageTime(stage, len(seconds), sum(seconds)) for stage, seconds in found.items() if seconds]
