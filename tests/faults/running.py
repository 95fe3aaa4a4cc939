"""A cluster that runs, with a list of small films and secrets planted in it, and what is watched of it meanwhile."""

import contextlib
import datetime as dt
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psutil
import pytest

from tests.faults.door import Door, Held, StoppableStore, wait_until
from trailer_ml.demo.airflow_stack import Airflow
from trailer_ml.demo.cluster import ClusterServers, Server, _find_postgres
from trailer_ml.demo.follow import ACTIVE_STATES, explain_failures
from trailer_ml.demo.profile import demo_settings
from trailer_ml.demo.run import keep_caches
from trailer_ml.demo.services import LOOPBACK
from trailer_ml.demo.world import World
from trailer_ml.settings import EvaluationSettings, FeatureSettings, PhaseSettings, Settings, StoreSettings
from trailer_ml.storage import Store

STOPPED_S = 30.0
AT_WORK = r"^PUT /\S+/(media|shards)/\S+\.json "
"""The last thing that a download of a trailer does, or the making of a shard."""
DISK_BYTES = 96 * 2**20
CANARY = "canary-6b1f"
"""Begins every secret that is planted."""


class Days(NamedTuple):
    """What is listed when; the last is yesterday, the night's."""

    full: dt.date
    late: dt.date
    first: dt.date
    second: dt.date
    night: dt.date


class Cluster(NamedTuple):
    """All that runs."""

    folder: Path
    world: World
    days: Days
    settings: Settings
    """They lead to the store itself; the workers' lead to the door."""
    airflow: Airflow
    servers: ClusterServers
    seaweedfs: StoppableStore
    door: Door
    """Before the store."""
    proxy: Door
    """Before the films' site."""
    store: Store
    secrets: dict[str, str]
    has_small_disks: bool

    def wait_until(self, is_so: Callable[[], object], what: str) -> None:
        """As above, and whatever of Airflow ends meanwhile is started again."""

        def look() -> object:
            self.airflow.check_alive()
            return is_so()

        wait_until(look, what)

    @contextlib.contextmanager
    def held(self, pattern: str, door: Door | None = None) -> Iterator[Held]:
        """While the block runs, a request that looks so waits at a door, the store's if nothing else is said."""
        door = door or self.door
        held = door.hold(pattern)
        try:
            self.wait_until(held.is_there.is_set, f"a request like {pattern}")
            held.worker = self._worker_of(held, door)
            yield held
        finally:
            held.let_go()

    def _worker_of(self, held: Held, door: Door) -> str:
        pid = next(
            each.pid for each in psutil.net_connections("tcp") if each.laddr and each.laddr.port == held.by_port
            and each.raddr and each.raddr.port == door.port
        )  # fmt: skip
        ancestors = {each.pid for each in psutil.Process(pid).parents()}
        return next(name for name, process in self.airflow.processes.items() if process.pid in ancestors)

    def kill_worker(self, held: Held) -> None:
        """SIGKILL to the worker that asks and all below it: the power cord of its machine."""
        worker = psutil.Process(self.airflow.processes[held.worker].pid)
        for process in [worker, *worker.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        held.lose()

    def kill_scheduler(self) -> None:
        os.killpg(self.airflow.processes["scheduler"].pid, signal.SIGKILL)

    def stop_for_a_while(self, server: Server | StoppableStore) -> None:
        """From a moment on in which something is at work, and for as long as the issue says."""
        with self.held(AT_WORK):
            server.stop()
        end = time.monotonic() + STOPPED_S
        self.wait_until(lambda: time.monotonic() > end, "the time is over")
        server.start()

    def trigger(self, dag_id: str, run_id: str, **conf: object) -> None:
        self.airflow.api.trigger(dag_id, run_id, conf)

    def backfill(self, first: dt.date, last: dt.date, *, is_backwards: bool) -> None:
        body = {
            "dag_id": "trailers_refresh", "from_date": f"{first}T00:00:00Z", "to_date": f"{last}T00:00:00Z",
            "reprocess_behavior": "completed", "run_backwards": is_backwards, "max_active_runs": 2,
        }  # fmt: skip
        self.airflow.api._call("POST", "/backfills", body)

    def make_late(self, run_id: str) -> None:
        """The deadline of this run is over, as if hours had gone by."""
        self.ask_database(
            "UPDATE deadline SET deadline_time = now() FROM dag_run"
            f" WHERE dag_run.id = deadline.dagrun_id AND dag_run.run_id = '{run_id}'"
        )

    def ask_database(self, statement: str) -> bytes:
        """What Airflow's database says."""
        return self.run_at_database("psql", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--command", statement)

    def run_at_database(self, program: str, *arguments: str) -> bytes:
        """What one of PostgreSQL's programs prints of Airflow's database."""
        at = urlsplit(self.servers.executor.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
        reached = ["-h", str(at.hostname), "-p", str(at.port), "-U", str(at.username), "-d", at.path.strip("/")]
        return subprocess.run(
            [_find_postgres() / program, *reached, *arguments],
            env={**os.environ, "PGPASSWORD": str(at.password)}, check=True, capture_output=True,
        ).stdout  # fmt: skip

    def is_over(self) -> bool:
        """Whether nothing runs or waits; a run that has failed is an error."""
        api = self.airflow.api
        runs = api.runs()
        for run in runs:
            if run["state"] == "failed":
                tasks = api.tasks(run["dag_id"], run["dag_run_id"])
                pytest.fail(f"{run['dag_id']} {run['dag_run_id']} failed\n{explain_failures(self.airflow, tasks)}")
        return not any(run["state"] in ACTIVE_STATES for run in runs) and not api._active_backfills("trailers_refresh")

    def has_succeeded(self, run_id: str) -> bool:
        """Whether this run of trailers_refresh has."""
        runs = self.airflow.api.runs("trailers_refresh")
        return [run["state"] for run in runs if run["dag_run_id"] == run_id] == ["success"]

    def has_failed_once(self, run_id: str, task_id: str) -> bool:
        """Whether some task of this name is at its second try, or waits for it."""
        tasks = self.airflow.api.tasks("trailers_refresh", run_id)
        return any(
            task["task_id"] == task_id and (task["try_number"] > 1 or task["state"] == "up_for_retry") for task in tasks
        )


def write_list(path: Path, world: World, site: str) -> Days:
    """A list of the films' trailers: most on the night's day, and the odd ones, some on each of four days before."""
    today = dt.datetime.now(dt.UTC).date()
    days = Days(*(today - dt.timedelta(days=n) for n in (5, 4, 3, 2, 1)))
    lines = []
    for number, clip in enumerate(world.clips):
        film = world.film(clip.film_id)
        day = days.night if clip.oddity or is_of_night(number) else days[number % 7]
        row = {
            "id": clip.video_id, "url": f"{site}/media/{clip.video_id}.mp4", "film": film.film_id, "title": film.title,
            "genres": film.genres, "year": film.year, "listed_on": day.isoformat(),
        }  # fmt: skip
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines))
    return days


def is_of_night(number: int) -> bool:
    """Whether the trailer of this number in the world is listed on the night's day, whatever is odd about it."""
    return number % 7 > 3


def small_settings(store: StoreSettings, site: str, folder: Path) -> Settings:
    demo = keep_caches(demo_settings(store, site), folder / "cache")
    changed: dict[str, dict[str, Any]] = {
        "catalog": {"sources": ("manifest",), "batch_size": 4},
        "sources": {"manifest_path": str(folder / "list.jsonl")},
        "media": {"min_free_bytes": DISK_BYTES // 8, "item_timeout_s": 300.0},  # this machine may be slow
        "model": {
            "min_films": 4,
            "min_gain": 0.0,
            "phases": (
                PhaseSettings(name="warm-up", loss="classifier", epochs=8, learning_rate=2e-3),
                PhaseSettings(name="triplet", loss="triplet_semi_hard", epochs=6, learning_rate=1e-3),
            ),
        },
    }
    stages = {name: getattr(demo, name).model_copy(update=update) for name, update in changed.items()}
    stages["features"] = FeatureSettings(start_s=0.5, interval_s=0.8, spectrogram_s=7.0)
    stages["evaluation"] = EvaluationSettings(n_copied=2)
    return demo.model_copy(update=stages)


def plant_canaries(settings: Settings, folder: Path, proxy_port: int) -> dict[str, str]:
    """Secrets as a person sets them: keys, a proxy that downloads go through, cookies that are sent."""
    cookies = folder / "cookies.txt"
    lines = ["# Netscape HTTP Cookie File", f"{LOOPBACK}\tFALSE\t/\tFALSE\t4102444800\tsession\t{CANARY}-cookie", ""]
    cookies.write_text("\n".join(lines))
    return {
        "TRAILER_MEDIA_COOKIES_PATH": str(cookies),
        "TRAILER_MEDIA_PROXY": f"http://user:{CANARY}-proxy@{LOOPBACK}:{proxy_port}",
        "TRAILER_SOURCES_TMDB_BEARER": f"{CANARY}-tmdb",
        "TRAILER_SOURCES_KINOCHECK_API_KEY": f"{CANARY}-kinocheck",
        "TRAILER_SERVICE_API_KEY": f"{CANARY}-service-key",
    }


def generated_secrets(airflow: Airflow, servers: ClusterServers, store: StoreSettings) -> dict[str, str]:
    """What nobody typed: of the store, the database, the broker and of Airflow itself."""
    made: Mapping[str, str] = json.loads((airflow.home / "secrets.json").read_text())
    passwords = {
        name: url.partition("@")[0].rpartition(":")[2]
        for name, url in servers.executor.environ.items()
        if "CONN" in name or "BROKER" in name
    }
    assert store.secret_access_key
    return {**made, **passwords, "store": store.secret_access_key.get_secret_value(), "admin": airflow.password}


def make_small_disks(stack: contextlib.ExitStack, folders: Iterable[Path]) -> bool:
    """Whether each of these is a small file system of its own; only root may do that, and not everywhere."""
    for folder in folders:
        folder.mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return False
        stack.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=False)
    return True


class Watch(threading.Thread):
    """Looks again and again, until the end, and keeps what was seen."""

    def __init__(self, look: Callable[[], Iterable[str]]) -> None:
        super().__init__(daemon=True)
        self._look = look
        self._is_over = threading.Event()
        self.seen: set[str] = set()
        self.n_looks = 0

    def run(self) -> None:
        while not self._is_over.wait(0.3):
            self.seen |= set(self._look())
            self.n_looks += 1

    def end(self) -> set[str]:
        assert self.is_alive() or self._is_over.is_set(), "it has not looked to the end"
        self._is_over.set()
        self.join()
        return self.seen
