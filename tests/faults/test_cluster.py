"""The demo's job on the real cluster while everything in it is killed or stopped in turn: the run ends by itself.

Each fault waits until a task of its kind runs, and happens once. What ends is started again, as compose or Kubernetes
would. At the end all is as if nothing had happened: every trailer in its state, each shard once and whole, the index
served, nothing half-written.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from trailer_ml.demo.airflow_stack import Airflow, Worker, run_airflow
from trailer_ml.demo.cluster import WORKERS, ClusterServers, run_cluster_servers
from trailer_ml.demo.jobs import Jobs
from trailer_ml.demo.profile import demo_settings
from trailer_ml.demo.progress import Progress
from trailer_ml.demo.run import find_project, keep_caches, task_environment
from trailer_ml.demo.services import LOOPBACK, free_port, run_seaweedfs
from trailer_ml.demo.site import run_site
from trailer_ml.demo.studio import make_world
from trailer_ml.demo.world import DAYS, World
from trailer_ml.index.stored import read_pointer
from trailer_ml.index.verify import verify_index
from trailer_ml.search.status import count_states, read_standings
from trailer_ml.settings import Settings, StoreSettings
from trailer_ml.shards.manifests import list_shards
from trailer_ml.shards.verify import verify_shards
from trailer_ml.storage import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

STOPPED_S = 30.0


class Cluster(NamedTuple):
    """All that runs."""

    folder: Path
    world: World
    settings: Settings
    airflow: Airflow
    servers: ClusterServers
    store: "StoppableStore"


class StoppableStore:
    """SeaweedFS on one port, with the same data whenever it is started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self.settings: StoreSettings = self._stack.enter_context(run_seaweedfs(folder))
        self._port = int(str(self.settings.endpoint_url).rpartition(":")[2])

    def start(self) -> None:
        again = self._stack.enter_context(run_seaweedfs(self._folder, port=self._port))
        assert again == self.settings, "its port was taken meanwhile"

    def stop(self) -> None:
        self._stack.close()


class Fault(NamedTuple):
    """What happens when a task of this name runs."""

    task_id: str
    name: str
    happen: Callable[[Cluster, dict[str, Any]], None]


def kill_worker(cluster: Cluster, task: dict[str, Any]) -> None:
    """SIGKILL to the worker of a task and all below it: the power cord of its machine."""
    worker = worker_of(cluster, task)
    os.killpg(cluster.airflow.processes[worker.name].pid, signal.SIGKILL)
    for pid in below(cluster.airflow.worker_home(worker)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def worker_of(cluster: Cluster, task: dict[str, Any]) -> Worker:
    log = cluster.airflow.task_log(task)
    return next(worker for worker in WORKERS if log.is_relative_to(cluster.airflow.worker_home(worker)))


def below(home: Path) -> Iterator[int]:
    """Every process that was given this worker's home."""
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"AIRFLOW_HOME={home}\0".encode() in environ.read_bytes():
                yield int(environ.parent.name)


def kill_scheduler(cluster: Cluster, task: dict[str, Any]) -> None:
    del task
    os.killpg(cluster.airflow.processes["scheduler"].pid, signal.SIGKILL)


def stop_for_a_while(name: str) -> Callable[[Cluster, dict[str, Any]], None]:
    def happen(cluster: Cluster, task: dict[str, Any]) -> None:
        del task
        server = cluster.store if name == "store" else getattr(cluster.servers, name)
        server.stop()
        time.sleep(STOPPED_S)
        server.start()

    return happen


FAULTS = (
    Fault("batch.download", "a worker killed in a download", kill_worker),
    Fault("batch.shard", "a worker killed in a shard", kill_worker),
    Fault("batch.download", "Redis stopped", stop_for_a_while("redis")),
    Fault("batch.shard", "the scheduler killed", kill_scheduler),
    Fault("batch.shard", "the store stopped", stop_for_a_while("store")),
    Fault("batch.shard", "Postgres stopped", stop_for_a_while("postgres")),
    Fault("train_phases", "a worker killed in an epoch", kill_worker),
    Fault("build", "a worker killed in an index build", kill_worker),
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with contextlib.ExitStack() as stack:
        store = StoppableStore(folder / "store")
        stack.callback(store.stop)
        port = free_port()
        settings = keep_caches(demo_settings(store.settings, f"http://{LOOPBACK}:{port}"), folder / "cache")
        servers = stack.enter_context(run_cluster_servers(store.settings.bucket))
        environ = task_environment(settings)
        airflow = stack.enter_context(
            run_airflow(folder / "airflow", find_project(), environ, port=0, executor=servers.executor)
        )
        world = make_world(folder / "world")
        stack.enter_context(run_site(folder / "world", port=port, report_folder=folder / "report"))
        airflow.wait_until_healthy()
        yield Cluster(folder, world, settings, airflow, servers, store)


@pytest.fixture(scope="module")
def happened(cluster: Cluster) -> list[str]:
    """The whole job, with all faults; what happened, in order."""
    told: list[str] = []
    is_over = threading.Event()
    thread = threading.Thread(target=break_things, args=(cluster, told, is_over))
    thread.start()
    try:
        jobs = Jobs(cluster.airflow, Store(cluster.settings.store), Progress())
        jobs.refresh(DAYS)
        jobs.follow_to_the_index()
    finally:
        is_over.set()
        thread.join()
    return told


def break_things(cluster: Cluster, told: list[str], is_over: threading.Event) -> None:
    """Let each fault happen when its time has come, one after the other."""
    left = list(FAULTS)
    while left and not is_over.wait(0.2):
        with contextlib.suppress(Exception):  # the server that answers may be the one that is down
            running = find_running(cluster)
            for fault in left:
                if fault.task_id in running:
                    left.remove(fault)
                    fault.happen(cluster, running[fault.task_id])
                    told.append(fault.name)
                    break


def find_running(cluster: Cluster) -> dict[str, dict[str, Any]]:
    answer = cluster.airflow.api.get("/dags/~/dagRuns/~/taskInstances", state="running", limit=100)
    return {task["task_id"]: task for task in answer["task_instances"] if cluster.airflow.task_log(task).exists()}


def test_everything_that_was_to_happen_did(happened: list[str]) -> None:
    assert sorted(happened) == sorted(fault.name for fault in FAULTS)


def test_nothing_is_lost_and_nothing_is_there_twice(happened: list[str], cluster: Cluster) -> None:
    del happened
    store = Store(cluster.settings.store)
    status, standings = count_states(store), read_standings(store)
    assert status.n_listed == sum(status.states.values())
    for clip in cluster.world.clips:
        expected = {"corrupt": "rejected", "gone": "rejected", "series": None}.get(str(clip.oddity), "indexed")
        found = standings.get(f"imdb-{clip.video_id}")
        assert (found and found[0]) == expected, clip
    ids = [trailer_id for _, manifest in list_shards(store) for trailer_id in manifest.trailer_ids]
    assert len(ids) == len(set(ids)) == status.states["indexed"]


def test_nothing_is_half_written(happened: list[str], cluster: Cluster) -> None:
    del happened
    store = Store(cluster.settings.store)
    assert verify_shards(cluster.settings, store).bad == ()
    seen = read_pointer(store)
    assert seen is not None
    assert verify_index(seen.pointer.version, cluster.settings, store).reason == ""
