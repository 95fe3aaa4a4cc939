"""A whole Airflow on this machine, on loopback only, every part a process of its own.

SQLite and LocalExecutor, unless another executor is asked for (cluster.py).

Not `airflow standalone`: that does not handle SIGTERM (its children stay), and a Ctrl-C reaches its scheduler twice and
hangs it. Here each part has a session and a log file of its own, and is stopped by exactly one SIGTERM, then by a kill
of its group. Two API servers, one for people and one for tasks: in one process they block each other on SQLite. No
triggerer: nothing here is deferrable.

Does not belong here: which DAGs there are, and what they need.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import string
import subprocess
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from trailer_ml.demo.airflow_api import AirflowApi
from trailer_ml.demo.services import LOOPBACK, free_ports, write_private
from trailer_ml.errors import ChildFailedError, ChildTimeoutError
from trailer_ml.processes import kill_group, run_child

if TYPE_CHECKING:
    from collections.abc import Iterator

USERNAME = "admin"
GRACE_S = 10.0
_CACHES = ("SOURCES", "MODEL", "INDEX")  # the stages with a `cache_folder`


class Worker(NamedTuple):
    """One Celery worker."""

    name: str
    queue: str


class Executor(NamedTuple):
    """Where tasks run."""

    name: str = "LocalExecutor"
    environ: Mapping[str, str] = {}
    """What every part is told of its servers."""
    workers: tuple[Worker, ...] = ()
    log_folder: str = ""
    """`s3://…` where the logs of tasks are kept; empty: on this disk only."""
    is_supervised: bool = False
    """Whether a part that ends is started again, as an orchestrator does; otherwise its end is an error."""


LOCAL = Executor()


class Airflow:
    """A running Airflow.

    Args:
        home: its AIRFLOW_HOME.
        url: where people and the API find it.
        environ: the environment of every part.
        is_supervised: as of `Executor`.
    """

    def __init__(self, home: Path, url: str, environ: Mapping[str, str], *, is_supervised: bool = False) -> None:
        self.home = home
        self.url = url
        self.environ = environ
        self._is_supervised = is_supervised
        self._commands: dict[str, tuple[tuple[str, ...], Mapping[str, str]]] = {}
        self.password = read_or_make_password(home)
        self.api = AirflowApi(url, USERNAME, self.password, self.check_alive)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str, environ: Mapping[str, str] | None = None) -> None:
        """Start one part, with a log file of its own; `environ` goes on top of what all are given."""
        self._commands[name] = (arguments, environ or {})
        with self.component_log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(_airflow_command()), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self.environ, **(environ or {})},
                cwd=self.home,
                start_new_session=True,
            )

    def start_worker(self, worker: Worker) -> None:
        """Start a Celery worker as if it were on a machine of its own: it shares nothing with the others here."""
        home = self.worker_home(worker)
        for folder in ("tmp", "cache"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        own = {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
            "TMPDIR": str(home / "tmp"),
            **{f"TRAILER_{stage}_CACHE_FOLDER": str(home / "cache" / stage.lower()) for stage in _CACHES},
        }
        arguments = [
            "celery", "worker", "--queues", worker.queue, "--concurrency", "1", "--skip-serve-logs",
            "--celery-hostname", f"{worker.name}@{LOOPBACK}",
        ]  # fmt: skip
        shutil.copy2(self.home / "airflow.cfg", home)
        self.start(worker.name, *arguments, environ=own)

    def worker_home(self, worker: Worker) -> Path:
        """Everything of a worker's own is below this."""
        return self.home / "workers" / worker.name

    def component_log(self, name: str) -> Path:
        """Where a part writes its log."""
        folder = self.home / "logs" / "components"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.log"

    def check_alive(self) -> None:
        """Look after the parts: one that has ended is started again if this Airflow is supervised.

        Raises:
            ChildFailedError: it is not; with the part's name and its last words.
        """
        for name, process in list(self.processes.items()):
            if process.poll() is not None and self._is_supervised:
                kill_group(process.pid)
                arguments, environ = self._commands[name]
                self.start(name, *arguments, environ=environ)
            elif process.poll() is not None:
                tail = _tail(self.component_log(name))
                raise ChildFailedError(
                    f"Airflow's {name} ended with {process.returncode}; its log: {self.component_log(name)}",
                    returncode=process.returncode,
                    stderr_tail=tail,
                )

    def wait_until_healthy(self, timeout_s: float = 180.0) -> None:
        """Return once database, scheduler and DAG processor report health.

        Raises:
            ChildTimeoutError: they did not in time.
        """
        deadline = time.monotonic() + timeout_s
        while not self.api.is_healthy():
            self.check_alive()
            if time.monotonic() > deadline:
                raise ChildTimeoutError(f"Airflow was not up after {timeout_s:.0f} s; see {self.home}/logs/components")
            time.sleep(0.5)

    def task_log(self, task: Mapping[str, object]) -> Path:
        """Where the log of a task instance's last try is (as `[logging] log_filename_template` has it)."""
        parts = [f"dag_id={task['dag_id']}", f"run_id={task['dag_run_id']}", f"task_id={task['task_id']}"]
        if task["map_index"] != -1:
            parts.append(f"map_index={task['map_index']}")
        name = Path("logs", *parts, f"attempt={task['try_number']}.log")
        of_workers = self.home.glob(f"workers/*/{name}")
        return next(of_workers, self.home / name)

    def stop(self) -> None:
        """API servers last: a task that ends must still be able to say so."""
        last = ("execution-api", "api-server")
        for names in ([name for name in self.processes if name not in last], last):
            parts = [self.processes[name] for name in names if name in self.processes]
            for part in parts:
                if part.poll() is None:
                    part.send_signal(signal.SIGTERM)  # once: a second one makes LocalExecutor hang
            deadline = time.monotonic() + GRACE_S
            for part in parts:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    part.wait(max(0.1, deadline - time.monotonic()))
                kill_group(part.pid)
                part.wait()


@contextlib.contextmanager
def run_airflow(
    home: Path,
    project: Path,
    environ: Mapping[str, str],
    *,
    port: int = 8080,
    parallelism: int = 2,
    executor: Executor = LOCAL,
) -> Iterator[Airflow]:
    """Airflow while the block runs; `wait_until_healthy` says when it is up.

    Args:
        home: its AIRFLOW_HOME, kept between runs.
        project: the folder with airflow.cfg.template, dags/ and plugins/.
        environ: variables for its parts and their tasks, on top of ours.
        port: of the UI, if that port is free.
        parallelism: tasks at once.
        executor: where they run.
    """
    home.mkdir(parents=True, exist_ok=True)
    port, execution_port = free_ports(port, port + 1 if port else 0)
    url = f"http://{LOOPBACK}:{port}"
    values = {
        "dags_folder": str(project / "dags"),
        "plugins_folder": str(project / "plugins"),
        "executor": executor.name,
        "parallelism": str(parallelism),
        "execution_api_url": f"http://{LOOPBACK}:{execution_port}/execution/",
        "passwords_file": str(_password_file(home)),
        "host": LOOPBACK,
        "port": str(port),
        "base_url": url,
        "log_folder": str(home / "logs"),
        "remote_logging": str(bool(executor.log_folder)),
        "remote_log_folder": executor.log_folder,
    }
    template = (project / "airflow.cfg.template").read_text(encoding="utf-8")
    (home / "airflow.cfg").write_text(render_config(template, values), encoding="utf-8")
    environ = component_environment(home, {**environ, **executor.environ})
    airflow = Airflow(home, url, environ, is_supervised=executor.is_supervised)
    run_child([str(_airflow_command()), "db", "migrate"], timeout_s=300, env=airflow.environ, cwd=home)
    try:
        airflow.start("api-server", "api-server", "--apps", "core")
        airflow.start("execution-api", "api-server", "--apps", "execution", "--port", str(execution_port))
        airflow.start("scheduler", "scheduler", "--skip-serve-logs")
        airflow.start("dag-processor", "dag-processor")
        for worker in executor.workers:
            airflow.start_worker(worker)
        yield airflow
    finally:
        airflow.stop()


def render_config(template: str, values: Mapping[str, str]) -> str:
    r"""airflow.cfg.template with its $names filled in.

    Raises:
        KeyError: a name has no value.

    >>> render_config("[api]\nport = $port\n", {"port": "8080"})
    '[api]\nport = 8080\n'
    """
    return string.Template(template).substitute(values)


def component_environment(home: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of every part: ours without its own Airflow, the secrets, and `extra`."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "TRAILER_", "AWS_"))}
    # Without .pyc files each task would compile Airflow again: 4 to 7 s instead of 0.5 s.
    ours.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**ours, "AIRFLOW_HOME": str(home), **read_or_make_secrets(home), **extra}


def read_or_make_secrets(home: Path) -> dict[str, str]:
    """What all parts have to agree on, as variables: made once, readable by their owner only."""
    path = home / "secrets.json"
    if not path.exists():
        made = {
            "AIRFLOW__CORE__FERNET_KEY": _random_key(32),
            "AIRFLOW__API__SECRET_KEY": _random_key(32),
            "AIRFLOW__API_AUTH__JWT_SECRET": _random_key(64),
        }
        write_private(path, json.dumps(made))
    kept: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return {**kept, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home.resolve()}/airflow.db"}


def read_or_make_password(home: Path) -> str:
    """The password of the one user, generated once."""
    path = _password_file(home)
    if not path.exists():
        write_private(path, json.dumps({USERNAME: secrets.token_urlsafe(12)}))
    return str(json.loads(path.read_text(encoding="utf-8"))[USERNAME])


def _password_file(home: Path) -> Path:
    return home / "passwords.json"


def _random_key(n_bytes: int) -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(n_bytes)).decode()


def _airflow_command() -> Path:
    return Path(sysconfig.get_path("scripts"), "airflow")


def _tail(path: Path, n_bytes: int = 2000) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - n_bytes))
        return file.read().decode(errors="replace").strip()
