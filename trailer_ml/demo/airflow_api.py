"""Airflow's REST API as the demo uses it: what a person does in the UI, over the same door.

Does not belong here: what is triggered, and when.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from trailer_ml.errors import ChildFailedError, RetryableError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Mapping

TRIES = 15
"""With what is waited between them: a minute, in which a database or a server comes back."""


class AirflowApi:
    """A logged-in user of one Airflow.

    A call is repeated when the server is busy (5xx, no answer): SQLite says "database is locked" now and then. What
    creates something is named by us, so the repeat of a call that did succeed is answered with "conflict": fine.

    Args:
        url: the API server's address.
        username: who logs in.
        password: and how.
        check_alive: called before each try; raises when the server is known to be gone.
    """

    def __init__(self, url: str, username: str, password: str, check_alive: Callable[[], None]) -> None:
        self.url = url
        self._login = {"username": username, "password": password}
        self._check_alive = check_alive
        self._token: str | None = None

    def is_healthy(self) -> bool:
        """Whether database, scheduler and DAG processor all say so."""
        try:
            health = self._request("GET", "/api/v2/monitor/health", None, {})
        except (OSError, http.client.HTTPException, ValueError):
            return False
        parts = ("metadatabase", "scheduler", "dag_processor")
        return all((health.get(part) or {}).get("status") == "healthy" for part in parts)

    def has_dag(self, dag_id: str) -> bool:
        """Whether the DAG processor has read it."""
        return any(dag["dag_id"] == dag_id for dag in self.get("/dags", limit=100)["dags"])

    def import_errors(self) -> dict[str, str]:
        """File -> what went wrong when the DAG processor read it."""
        return {row["filename"]: row["stack_trace"] for row in self.get("/importErrors")["import_errors"]}

    def unpause(self, dag_id: str) -> None:
        """Let its schedule, its assets and its backfills run it."""
        self._call("PATCH", f"/dags/{dag_id}?update_mask=is_paused", {"is_paused": False})

    def backfill(self, dag_id: str, first: dt.date, last: dt.date, max_active_runs: int) -> None:
        """Run a daily DAG for each day from `first` to `last`; days that succeeded stay as they are."""
        if self._active_backfills(dag_id):
            return
        body = {
            "dag_id": dag_id,
            "from_date": f"{first.isoformat()}T00:00:00Z",
            "to_date": f"{last.isoformat()}T00:00:00Z",
            "reprocess_behavior": "failed",
            "max_active_runs": max_active_runs,
        }
        self._call("POST", "/backfills", body)

    def _active_backfills(self, dag_id: str) -> list[dict[str, Any]]:
        found = self.get("/backfills", dag_id=dag_id)["backfills"]
        return [backfill for backfill in found if not backfill["completed_at"]]

    def trigger(self, dag_id: str, run_id: str, conf: Mapping[str, Any]) -> None:
        """Start a run by hand, as the form does; one that is there is left as it is."""
        self._call("POST", f"/dags/{dag_id}/dagRuns", {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)})

    def runs(self, dag_id: str = "~", **filters: str) -> list[dict[str, Any]]:
        """The last hundred runs of a DAG, or of all, oldest first."""
        answer = self.get(f"/dags/{dag_id}/dagRuns", order_by="-id", limit=100, **filters)
        return list(reversed(answer["dag_runs"]))

    def clear(self, dag_id: str, run_id: str) -> None:
        """Have the failed tasks of a run, and what comes after them, run again."""
        self._call("POST", f"/dags/{dag_id}/dagRuns/{quote(run_id)}/clear", {"dry_run": False, "only_failed": True})

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The task instances of a run."""
        answer = self.get(f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances", limit=100)
        return list(answer["task_instances"])

    def returned(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """What a task of a run returned; None where it did not."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/xcomEntries/return_value"
        try:
            return self.get(path, deserialize="true")["value"]
        except LookupError:
            return None

    def get(self, path: str, **query: Any) -> Any:
        """Read something.

        Raises:
            LookupError: there is no such thing.
        """
        return self._call("GET", f"{path}?{urlencode(query)}" if query else path, None)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        problem = ""
        for attempt in range(TRIES):
            self._check_alive()
            try:
                if self._token is None:
                    self._token = self._request("POST", "/auth/token", self._login, {})["access_token"]
                return self._request(method, f"/api/v2{path}", body, {"Authorization": f"Bearer {self._token}"})
            except urllib.error.HTTPError as error:
                problem = f"{error.code} {error.read(500).decode(errors='replace')}"
                if error.code == http.HTTPStatus.CONFLICT and method == "POST":
                    return None
                if error.code == http.HTTPStatus.NOT_FOUND:
                    raise LookupError(f"Airflow knows no {path}") from None
                if error.code == http.HTTPStatus.UNAUTHORIZED:
                    self._token = None
                elif error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR:
                    raise ChildFailedError(f"Airflow refused {method} {path}: {problem}", returncode=1) from None
            except (OSError, http.client.HTTPException) as error:
                problem = str(error)
            time.sleep(0.5 * (attempt + 1))
        raise RetryableError(f"Airflow does not answer {method} {path}: {problem}")

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Any:
        request = urllib.request.Request(  # noqa: S310 - our own loopback server
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **headers},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.loads(answer.read() or b"null")
