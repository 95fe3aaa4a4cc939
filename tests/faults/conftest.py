"""The cluster that is broken here: the real one, with small films, and a door before its store.

At the door a request can be held: what asked for it is then in the middle of something, for certain and for as long as
it takes, and no fault depends on which of two things comes first. Every wait is for something to be seen, and long.
"""

import contextlib
import datetime as dt
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import psutil
import pytest

from trailer_ml.catalog.batches import plan_batches
from trailer_ml.catalog.crawl import crawl_catalog
from trailer_ml.catalog.listing import list_crawled_days
from trailer_ml.demo.airflow_stack import Airflow, run_airflow
from trailer_ml.demo.cluster import WORKERS, ClusterServers, Server, _find_postgres, run_cluster_servers
from trailer_ml.demo.follow import ACTIVE_STATES, explain_failures
from trailer_ml.demo.profile import demo_settings
from trailer_ml.demo.run import find_project, keep_caches, task_environment
from trailer_ml.demo.services import LOOPBACK, run_seaweedfs
from trailer_ml.demo.site import run_site
from trailer_ml.demo.studio import make_world
from trailer_ml.demo.world import World
from trailer_ml.errors import StoreUnavailableError
from trailer_ml.index.build import build_index
from trailer_ml.index.publish import publish_index
from trailer_ml.index.stored import ANNOY_FILE, IDS_FILE, MANIFEST_FILE, read_pointer
from trailer_ml.index.verify import verify_index
from trailer_ml.media.download import download_batch
from trailer_ml.records import Interval
from trailer_ml.search.takedown import take_down
from trailer_ml.settings import EvaluationSettings, FeatureSettings, PhaseSettings, Settings, StoreSettings
from trailer_ml.shards.manifests import list_shards
from trailer_ml.shards.write import write_shard
from trailer_ml.storage import Store, index_key, tombstone_key

LIMIT_S = 600.0
"""For anything that is waited for: a fault is noticed after 75 s, on a slow machine among others."""
STOPPED_S = 30.0
AT_WORK = r"^PUT /\S+/(media|shards)/\S+\.json "
"""The last thing that a download of a trailer does, or the making of a shard."""
DISK_BYTES = 96 * 2**20
CANARY = "canary-6b1f"
"""Begins every secret that is planted."""


def wait_until(is_so: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline, f"not after {limit_s:.0f} s: {what}"
        time.sleep(0.2)


class Held:
    """A request that waits at the door; where it came from, and then which worker that is."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.by_port = 0
        self.worker = ""
        self.is_there = threading.Event()
        self.may_go = threading.Event()
        self.is_lost = False

    def let_go(self) -> None:
        self.may_go.set()

    def lose(self) -> None:
        """It never arrives."""
        self.is_lost = True
        self.may_go.set()


class Door:
    """A way to a server at which one request at a time can be held; as a proxy it is asked for whole addresses."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = self._listener.getsockname()[1]
        self._awaited: Held | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self, pattern: str) -> Held:
        """The next request that looks so, such as `PUT /trailers/index/`, waits until it is let go or lost."""
        with self._lock:
            assert self._awaited is None
            self._awaited = Held(pattern)
            return self._awaited

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self._to_port)) as server:
            threading.Thread(target=pour, args=(server, client), daemon=True).start()
            with client.makefile("rb") as requests:
                while (head := read_head(requests)) and self._let_pass(head, client):
                    server.sendall(re.sub(rb"^(\S+) http://[^/ ]+", rb"\1 ", head))
                    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                    left = int(length[1]) if length else 0
                    while left and (part := requests.read1(min(left, 65536))):  # type: ignore[attr-defined]
                        server.sendall(part)
                        left -= len(part)

    def _let_pass(self, head: bytes, client: socket.socket) -> bool:
        line = unquote(head.partition(b"\r\n")[0].decode("latin-1"))
        with self._lock:
            held = self._awaited
            if held is None or not re.search(held.pattern, line):
                return True
            self._awaited = None
        held.by_port = client.getpeername()[1]
        held.is_there.set()
        held.may_go.wait()
        return not held.is_lost


def read_head(requests: IO[bytes]) -> bytes:
    lines = []
    while line := requests.readline():
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)
    return b""


def pour(source: socket.socket, into: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(65536):
            into.sendall(part)
    with contextlib.suppress(OSError):
        into.shutdown(socket.SHUT_RDWR)


class StoppableStore:
    """SeaweedFS on one port, with the same data whenever it is started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self.settings: StoreSettings = self._stack.enter_context(run_seaweedfs(folder))
        self.port = int(str(self.settings.endpoint_url).rpartition(":")[2])

    def start(self) -> None:
        again = self._stack.enter_context(run_seaweedfs(self._folder, port=self.port))
        assert again == self.settings, "its port was taken meanwhile"

    def stop(self) -> None:
        self._stack.close()


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
    def held(self, pattern: str) -> Iterator[Held]:
        """While the block runs, a request that looks so waits at the door."""
        held = self.door.hold(pattern)
        try:
            self.wait_until(held.is_there.is_set, f"a request like {pattern}")
            held.worker = self._worker_of(held)
            yield held
        finally:
            held.let_go()

    def _worker_of(self, held: Held) -> str:
        pid = next(
            each.pid for each in psutil.net_connections("tcp") if each.laddr and each.laddr.port == held.by_port
            and each.raddr and each.raddr.port == self.door.port
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


@pytest.fixture(scope="session")
def webhook(run_webhook: Callable[[str], contextlib.AbstractContextManager[Any]]) -> Iterator[Any]:
    """Whom the notifier of the cluster tells; the address is a secret too."""
    with run_webhook(f"{CANARY}-hook") as running:
        yield running


@pytest.fixture(scope="session")
def statsd(run_statsd: Callable[[], contextlib.AbstractContextManager[Any]]) -> Iterator[Any]:
    """Where everything of the cluster counts."""
    with run_statsd() as running:
        yield running


@pytest.fixture(scope="session")
def counted(statsd: Any) -> Iterator["Watch"]:
    """What was counted, by name, tags and kind, such as `airflow.pool.open_slots,pool_name=cpu|g`."""

    def look() -> Iterator[str]:
        yield from (re.sub(r":[^|]*", "", line) for line in statsd.lines())

    watch = Watch(look)
    watch.start()
    yield watch
    watch.end()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, webhook: Any, statsd: Any, counted: "Watch") -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with contextlib.ExitStack() as stack:
        world = make_world(folder / "world", n_films=42, seconds=8.0)
        site = stack.enter_context(run_site(folder / "world"))
        proxy, seaweedfs = Door(int(site.rpartition(":")[2])), StoppableStore(folder / "store")
        door = Door(seaweedfs.port)
        for opened in (proxy.close, door.close, seaweedfs.stop):
            stack.callback(opened)
        days = write_list(folder / "list.jsonl", world, site)
        settings = small_settings(seaweedfs.settings, site, folder)
        servers = stack.enter_context(run_cluster_servers(seaweedfs.settings.bucket))
        through_door = seaweedfs.settings.model_copy(update={"endpoint_url": f"http://{LOOPBACK}:{door.port}"})
        planted = plant_canaries(settings, folder, proxy.port)
        environ = task_environment(settings.model_copy(update={"store": through_door})) | planted
        environ |= webhook.environ | statsd.environ
        home = folder / "airflow"
        has_small_disks = make_small_disks(stack, [home / "workers" / each.name / "tmp" for each in WORKERS[:2]])
        airflow = stack.enter_context(
            run_airflow(home, find_project(), environ, port=0, parallelism=8, executor=servers.executor)
        )
        airflow.wait_until_healthy(LIMIT_S)
        secrets = {"a planted one": CANARY, **generated_secrets(airflow, servers, seaweedfs.settings)}
        store = Store(settings.store)
        found = Cluster(
            folder, world, days, settings, airflow, servers, seaweedfs, door, store, secrets, has_small_disks
        )
        dags = {"trailers_refresh", "trailers_train", "trailers_index"}
        found.wait_until(lambda: all(map(airflow.api.has_dag, dags)), "Airflow reads its DAGs")
        yield found


def write_list(path: Path, world: World, site: str) -> Days:
    """A list of the films' trailers: most on the night's day, and the odd ones, some on each of four days before."""
    today = dt.datetime.now(dt.UTC).date()
    days = Days(*(today - dt.timedelta(days=n) for n in (5, 4, 3, 2, 1)))
    lines = []
    for number, clip in enumerate(world.clips):
        film = world.film(clip.film_id)
        day = days.night if clip.oddity else (*days[:4], *[days.night] * 3)[number % 7]
        row = {
            "id": clip.video_id, "url": f"{site}/media/{clip.video_id}.mp4", "film": film.film_id, "title": film.title,
            "genres": film.genres, "year": film.year, "listed_on": day.isoformat(),
        }  # fmt: skip
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines))
    return days


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
        self._is_over.set()
        self.join()
        return self.seen


@pytest.fixture(scope="session")
def arguments(cluster: Cluster) -> Iterator[Watch]:
    """Secrets among the arguments and titles of any process, from here on."""

    def look() -> Iterator[str]:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                text = path.read_bytes().decode(errors="replace")
                yield from (f"{name}: {text}" for name, secret in cluster.secrets.items() if secret in text)

    watch = Watch(look)
    watch.start()
    yield watch
    watch.end()


@pytest.fixture(scope="session")
def served(cluster: Cluster) -> Iterator[Watch]:
    """What is ever missing of the index that is served, from here on: it has to be there already."""

    def look() -> Iterator[str]:
        with contextlib.suppress(StoreUnavailableError):  # slow is not missing
            seen = read_pointer(cluster.store)
            keys = (
                [index_key(seen.pointer.version, name) for name in (ANNOY_FILE, IDS_FILE, MANIFEST_FILE)]
                if seen
                else []
            )
            yield from (key for key in keys if not cluster.store.exists(key))
            if not seen:
                yield "the pointer"

    watch = Watch(look)
    watch.start()
    yield watch
    watch.end()


@pytest.fixture(scope="session")
def refreshed(cluster: Cluster, arguments: Watch) -> None:
    """The night, a run by hand over its day and a backfill backwards, all at once, while things fall over."""
    days = cluster.days
    cluster.airflow.api.unpause("trailers_refresh")
    cluster.backfill(days.first, days.second, is_backwards=True)
    cluster.trigger("trailers_refresh", "by-hand", listed_on=days.night.isoformat())
    with cluster.held(r"^PUT /\S+/media/\S+\.json ") as held:
        cluster.kill_worker(held)
    with cluster.held(r"^PUT /\S+/shards/\S+\.json ") as held:
        cluster.kill_worker(held)
    with cluster.held(AT_WORK):
        cluster.kill_scheduler()
    cluster.stop_for_a_while(cluster.servers.redis)
    cluster.stop_for_a_while(cluster.servers.postgres)
    cluster.wait_until(cluster.is_over, "the night, the backfill and the run by hand end")


@pytest.fixture(scope="session")
def trained(cluster: Cluster, refreshed: None) -> None:
    """A model, whose training is killed in an epoch; meanwhile the store stops, and a disk is full."""
    cluster.airflow.api.unpause("trailers_train")
    cluster.trigger("trailers_train", "train")
    with cluster.held(r"^PUT /\S+/checkpoints/00/0003.json ") as held:
        cluster.kill_worker(held)
    cluster.trigger("trailers_refresh", "late", listed_on=cluster.days.late.isoformat())
    cluster.stop_for_a_while(cluster.seaweedfs)
    cluster.wait_until(lambda: cluster.has_succeeded("late"), "the day of the store's absence is in")
    if cluster.has_small_disks:
        cluster.trigger("trailers_refresh", "full", listed_on=cluster.days.full.isoformat())
        with cluster.held(r"^PUT /\S+/media/\S+\.json ") as held:
            ballast = fill_disk(cluster.airflow.home / "workers" / held.worker / "tmp")
        cluster.wait_until(lambda: cluster.has_failed_once("full", "batch.download"), "the disk is noticed")
        ballast.unlink()
    cluster.wait_until(cluster.is_over, "training and the two days end")


def fill_disk(folder: Path) -> Path:
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(65536))
    return ballast


@pytest.fixture(scope="session")
def contents(cluster: Cluster, trained: None) -> tuple[dict[str, object], dict[str, object]]:
    """What there is of the days, and what one pass over them leaves, in order and without Airflow."""
    settings = cluster.settings.model_copy(
        update={"store": cluster.settings.store.model_copy(update={"prefix": "reference/"})}
    )
    store = Store(settings.store)
    for day in sorted(list_crawled_days(cluster.store)):
        crawl_catalog(Interval.of_day(day), settings, store)
        for batch in plan_batches(Interval.of_day(day), settings, store):
            download_batch(batch, settings, store)
            write_shard(batch, settings, store)
    return read_contents(cluster.store), read_contents(store)


def read_contents(store: Store) -> dict[str, object]:
    """Key -> bytes of all that is made of days; of what was set aside not how often it was tried."""
    folders = ("catalog/", "batches/", "media/", "shards/", "thumbs/", "quarantine/")
    found: dict[str, object] = {key: store.read_bytes(key) for folder in folders for key in store.list_keys(folder)}
    for key in store.list_keys("quarantine/"):
        found[key] = store.read_json(key) | {"attempts": 0}
    return found


class Seen(NamedTuple):
    """At one moment."""

    objects: dict[str, str]
    n_events: int
    """Of assets: how often somebody was told that there is something new."""


@pytest.fixture(scope="session")
def moments(cluster: Cluster, contents: object, request: pytest.FixtureRequest) -> tuple[Seen, Seen]:
    """Before and after all days were asked for once more.

    Before that a trailer is taken down, and the next index is built by two at once: one waits before its last object
    while the other publishes, and is killed there.
    """
    cluster.airflow.api.unpause("trailers_index")
    cluster.trigger("trailers_index", "first")
    cluster.wait_until(cluster.is_over, "the first index is served")
    request.getfixturevalue("served")
    taken_down = next(manifest.trailer_ids[0] for _, manifest in list_shards(cluster.store))
    take_down(taken_down, cluster.store)
    cluster.trigger("trailers_index", "second")
    with cluster.held(r"^PUT /\S+/index/\S+/manifest.json ") as held:
        built = build_index(cluster.settings, cluster.store)
        verify_index(built.version, cluster.settings, cluster.store)
        publish_index(built.version, cluster.settings, cluster.store)
        cluster.kill_worker(held)
    before = see(cluster)
    days = cluster.days
    cluster.backfill(days.full, days.night, is_backwards=False)
    cluster.trigger("trailers_refresh", "by-hand-again", listed_on=days.late.isoformat())
    cluster.wait_until(cluster.is_over, "the second index and the days' second runs end")
    return before, see(cluster)


def see(cluster: Cluster) -> Seen:
    """Key -> tag and time of writing, of all but the logs of tasks, and of a day that began meanwhile."""
    pages = cluster.store._client.get_paginator("list_objects_v2").paginate(Bucket=cluster.settings.store.bucket)
    items = [item for page in pages for item in page.get("Contents", [])]
    today = f"listed={dt.datetime.now(dt.UTC).date()}"
    objects = {
        item["Key"]: f"{item['ETag']} {item['LastModified']}"
        for item in items
        if not item["Key"].startswith("logs/") and today not in item["Key"]
    }
    return Seen(objects, cluster.airflow.api.get("/assets/events", limit=1)["total_entries"])


class Asked(NamedTuple):
    """A question that a person has answered with yes."""

    served_before: str
    conf: dict[str, Any]
    """What the question was about, as the form of `trailers_approve` has it."""


@pytest.fixture(scope="session")
def asked(cluster: Cluster, moments: object, webhook: Any) -> Asked:
    """An index that lost two thirds of its trailers, built by a run that is late, and served by a person's yes."""
    before = read_pointer(cluster.store)
    assert before is not None
    indexed = [trailer_id for _, manifest in list_shards(cluster.store) for trailer_id in manifest.trailer_ids]
    for trailer_id in indexed[: 2 * len(indexed) // 3]:  # a half is allowed (`max_shrink_share`)
        cluster.store.create_json(tombstone_key(trailer_id), {})
    cluster.trigger("trailers_index", "worse")
    with cluster.held(r"^PUT /\S+/index/\S+/manifest.json "):
        cluster.make_late("worse")
        cluster.wait_until(lambda: webhook.told, "somebody is told that it is late")
    api = cluster.airflow.api

    def waiting() -> list[dict[str, Any]]:
        runs = api.runs("trailers_approve")
        return [
            run for run in runs for task in api.tasks("trailers_approve", run["dag_run_id"])
            if task["task_id"] == "ask" and task["state"] == "awaiting_input"
        ]  # fmt: skip

    cluster.wait_until(waiting, "a person is asked")
    cluster.wait_until(lambda: len(webhook.told) == 3, "somebody is told that a run waits, and that one failed")
    (question,) = waiting()
    path = f"/dags/trailers_approve/dagRuns/{quote(question['dag_run_id'])}/taskInstances/ask/-1/hitlDetails"
    api._call("PATCH", path, {"chosen_options": ["Approve"]})

    def answered() -> bool:
        (run,) = api.runs("trailers_approve")
        assert run["state"] != "failed", explain_failures(
            cluster.airflow, api.tasks("trailers_approve", run["dag_run_id"])
        )
        return bool(run["state"] == "success")

    cluster.wait_until(answered, "the answer is taken")
    return Asked(before.pointer.version, question["conf"])
