"""What Airflow costs: trailers_refresh beside the same functions without it, on two workers, and over many batches.

The trailers are a few films of the set that the features are measured on, repeated under ids of their own, on loopback:
no source keeps anybody waiting, so that what is measured is work and overhead, and nothing else. A thousand take 25 GB.
"""

from __future__ import annotations

import datetime as dt
import json
import multiprocessing
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.downloads import serve
from benchmarks.films import Film, find_film
from benchmarks.measure import table
from trailer_ml.catalog.batches import plan_batches
from trailer_ml.catalog.crawl import crawl_catalog
from trailer_ml.demo.airflow_stack import LOCAL, Airflow, Worker, run_airflow
from trailer_ml.demo.cluster import run_cluster_servers
from trailer_ml.demo.profile import demo_settings
from trailer_ml.demo.run import find_project, keep_caches, task_environment
from trailer_ml.demo.services import run_seaweedfs
from trailer_ml.media.download import download_batch
from trailer_ml.records import BatchRef, Interval
from trailer_ml.settings import FeatureSettings
from trailer_ml.shards.write import write_shard
from trailer_ml.storage import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trailer_ml.settings import Settings

N_TRAILERS = 1000


class Trailers(NamedTuple):
    """Which films are repeated, and what is looked at in each."""

    name: str
    films: tuple[Film, ...]
    features: FeatureSettings


USUAL = Trailers("trailers of 2 min", (Film(360, "H.264", 120, 600), Film(360, "H.264", 150, 600)), FeatureSettings())
"""In the size that is downloaded by default, and seen as by default."""
SHORT = Trailers(
    "trailers of 30 s",
    (Film(360, "H.264", 30, 600),),
    FeatureSettings(start_s=1.0, interval_s=2.4, spectrogram_s=24.0),
)
"""Seen as in the demo: so little work that overhead shows."""
N_SHARED = 256
"""For one worker and then for two."""
N_BATCHES = (40, 400)
"""Of one trailer each."""
DAYS = [dt.datetime.now(dt.UTC).date() - dt.timedelta(days=n) for n in (3, 2, 1)]
SLOTS = 4
"""Tasks at once: as many as the pools `download` and `cpu` let through together."""
ONE_WORKER = Worker("worker-1", "default")


class Bench(NamedTuple):
    """A store and a source that lists so many trailers on each of some days."""

    folder: Path
    settings: Settings


@contextmanager
def bench(n_listed: dict[dt.date, int], batch_size: int, trailers: Trailers = USUAL) -> Iterator[Bench]:
    films = {f"/{film.seconds}.mp4": ("video/mp4", find_film(film).read_bytes()) for film in trailers.films}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        site = stack.enter_context(serve(films))
        settings = keep_caches(demo_settings(stack.enter_context(run_seaweedfs(folder / "store")), site), folder)
        paths = list(films)
        rows = []
        for day, n in n_listed.items():
            for number in range(n):
                url = f"{site}{paths[number % len(paths)]}?n={day}-{number}"
                rows.append({"id": f"{day}-{number:04d}", "url": url, "genres": ["Drama"], "listed_on": f"{day}"})
        path = folder / "list.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        changed = {
            "catalog": {"sources": ("manifest",), "batch_size": batch_size},
            "sources": {"manifest_path": str(path)},
            "media": {"max_duration_s": 600.0},
        }
        stages = {name: getattr(settings, name).model_copy(update=update) for name, update in changed.items()}
        yield Bench(folder, settings.model_copy(update={**stages, "features": trailers.features}))


@contextmanager
def airflow_of(made: Bench, *, is_cluster: bool = False) -> Iterator[Airflow]:
    """A healthy Airflow that has read its DAGs and wakes no other DAG; as a cluster with one worker."""
    with ExitStack() as stack:
        executor = LOCAL
        if is_cluster:
            servers = stack.enter_context(run_cluster_servers(made.settings.store.bucket))
            executor = servers.executor._replace(workers=(ONE_WORKER,))
        environ = task_environment(made.settings)
        home = made.folder / "airflow"
        airflow = stack.enter_context(
            run_airflow(home, find_project(), environ, port=0, parallelism=SLOTS, executor=executor)
        )
        airflow.wait_until_healthy()
        while not airflow.api.has_dag("trailers_refresh"):
            time.sleep(0.5)
        airflow.api.unpause("trailers_refresh")
        wait_until_idle(airflow)  # the night's run
        yield airflow


def wait_until_idle(airflow: Airflow) -> None:
    time.sleep(3)
    while any(run["state"] in {"queued", "running"} for run in airflow.api.runs()):
        airflow.check_alive()
        time.sleep(0.5)


class Ran(NamedTuple):
    """Seconds of a run, and of its batches from the first start to the last end."""

    seconds: float
    batches_s: float


def refresh(airflow: Airflow, day: dt.date) -> Ran:
    run_id = f"day-{day}"
    airflow.api.trigger("trailers_refresh", run_id, {"listed_on": f"{day}"})
    wait_until_idle(airflow)
    (run,) = [run for run in airflow.api.runs("trailers_refresh") if run["dag_run_id"] == run_id]
    if run["state"] != "success":
        raise AssertionError(f"{run_id}: {run['state']}, see {airflow.home}")
    of_batches = [task for task in read_tasks(airflow, run_id) if task["task_id"].startswith("batch.")]
    began = min(moment(task["start_date"]) for task in of_batches)
    ended = max(moment(task["end_date"]) for task in of_batches)
    return Ran(run["duration"], (ended - began).total_seconds())


def read_tasks(airflow: Airflow, run_id: str) -> Iterator[dict[str, Any]]:
    path, offset = f"/dags/trailers_refresh/dagRuns/{run_id}/taskInstances", 0
    while page := airflow.api.get(path, limit=100, offset=offset)["task_instances"]:
        yield from page
        offset += len(page)


def moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def do_batch(job: tuple[BatchRef, Settings]) -> None:
    batch, settings = job
    download_batch(batch, settings, Store(settings.store))
    write_shard(batch, settings, Store(settings.store))


def work_without_airflow(made: Bench, day: dt.date, *, processes: int = 2) -> float:
    """Seconds of the same functions in so many processes, into a part of the store of their own."""
    store = made.settings.store.model_copy(update={"prefix": f"plain-{processes}/"})
    settings = made.settings.model_copy(update={"store": store})
    began = time.perf_counter()
    crawl_catalog(Interval.of_day(day), settings, Store(store))
    batches = plan_batches(Interval.of_day(day), settings, Store(store))
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(do_batch, [(batch, settings) for batch in batches], chunksize=1)
    return time.perf_counter() - began


def measure_share(trailers: Trailers = USUAL, n: int = N_TRAILERS) -> list[list[str]]:
    with bench({DAYS[0]: n}, 64, trailers) as made:
        plain_s = work_without_airflow(made, DAYS[0])
        with airflow_of(made) as airflow:
            ran = refresh(airflow, DAYS[0])
    return [
        [
            f"{n:,} {trailers.name}, the same functions in two processes",
            f"{plain_s:.0f} s",
            f"{plain_s / n * 1000:.0f} ms each",
        ],
        ["through trailers_refresh", f"{ran.seconds:.0f} s", f"{ran.seconds / plain_s:.2f} × the work"],
    ]


def measure_speed_up(n: int = N_SHARED) -> list[list[str]]:
    with bench(dict.fromkeys(DAYS[:2], n), 32) as made, airflow_of(made, is_cluster=True) as airflow:
        one = refresh(airflow, DAYS[0]).batches_s
        airflow.start_worker(Worker("worker-2", "default"))
        wait_for_workers(airflow, 2)
        two = refresh(airflow, DAYS[1]).batches_s
    with bench({DAYS[0]: n}, 32) as made:
        alone, both = (work_without_airflow(made, DAYS[0], processes=processes) for processes in (1, 2))
    return [
        [f"{n} {USUAL.name}, the same functions in one process", f"{alone:.0f} s", ""],
        ["in two", f"{both:.0f} s", f"{alone / both:.2f} × as fast"],
        ["through trailers_refresh, by one Celery worker", f"{one:.0f} s", ""],
        ["by two", f"{two:.0f} s", f"{one / two:.2f} × as fast"],
    ]


def wait_for_workers(airflow: Airflow, n: int) -> None:
    def is_ready(number: int) -> bool:
        return "ready." in airflow.component_log(f"worker-{number}").read_text()

    while not all(is_ready(number + 1) for number in range(n)):
        time.sleep(0.5)


def measure_many(few: int = N_BATCHES[0], many: int = N_BATCHES[1]) -> list[list[str]]:
    with bench({DAYS[0]: few, DAYS[1]: many}, 1, SHORT) as made, airflow_of(made) as airflow:
        seconds = {n: refresh(airflow, day).batches_s / n for n, day in ((few, DAYS[0]), (many, DAYS[1]))}
    return [
        [f"{few} mapped batches of one of the {SHORT.name}", f"{seconds[few]:.2f} s a batch", ""],
        [f"{many}", f"{seconds[many]:.2f} s a batch", f"{seconds[many] / seconds[few]:.2f} ×"],
    ]


def run() -> str:
    rows = [*measure_share(), *measure_share(SHORT), *measure_speed_up(), *measure_many()]
    return table(
        "Overhead: a few films, repeated under ids of their own, from loopback", ("", "measured", "ratio"), rows
    )
