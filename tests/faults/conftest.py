"""The cluster that is broken here: the real one, with small films, and a door before its store.

At the door a request can be held: what asked for it is then in the middle of something, for certain and for as long as
it takes, and no fault depends on which of two things comes first. Every wait is for something to be seen, and long.
"""

import contextlib
import datetime as dt
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from tests.faults.door import LIMIT_S, Door, StoppableStore
from tests.faults.running import (
    AT_WORK,
    CANARY,
    Cluster,
    Watch,
    generated_secrets,
    make_small_disks,
    plant_canaries,
    small_settings,
    write_list,
)
from tests.faults.serving import Served, watch_service
from trailer_ml.catalog.batches import plan_batches
from trailer_ml.catalog.crawl import crawl_catalog
from trailer_ml.catalog.listing import list_crawled_days
from trailer_ml.demo.airflow_stack import run_airflow
from trailer_ml.demo.cluster import WORKERS, run_cluster_servers
from trailer_ml.demo.follow import explain_failures
from trailer_ml.demo.run import find_project, task_environment
from trailer_ml.demo.services import LOOPBACK
from trailer_ml.demo.site import run_site
from trailer_ml.demo.studio import make_world
from trailer_ml.index.build import build_index
from trailer_ml.index.publish import publish_index
from trailer_ml.index.stored import read_pointer
from trailer_ml.index.verify import verify_index
from trailer_ml.media.download import download_batch
from trailer_ml.records import Interval
from trailer_ml.search.takedown import take_down
from trailer_ml.shards.manifests import list_shards
from trailer_ml.shards.write import write_shard
from trailer_ml.storage import Store, tombstone_key


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
            folder, world, days, settings, airflow, servers, seaweedfs, door, proxy, store, secrets, has_small_disks
        )
        dags = {"trailers_refresh", "trailers_train", "trailers_index"}
        found.wait_until(lambda: all(map(airflow.api.has_dag, dags)), "Airflow reads its DAGs")
        yield found


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
def served(cluster: Cluster, arguments: Watch) -> Iterator[Served]:
    """What came of asking the service, from before the first fault on."""
    with watch_service(cluster) as served:
        yield served


@pytest.fixture(scope="session")
def refreshed(cluster: Cluster, served: Served) -> None:
    """The night, a run by hand over its day and a backfill backwards, all at once, while things fall over."""
    days = cluster.days
    cluster.airflow.api.unpause("trailers_refresh")
    cluster.backfill(days.first, days.second, is_backwards=True)
    cluster.trigger("trailers_refresh", "by-hand", listed_on=days.night.isoformat())
    with cluster.held(r"^GET \S+/media/\S+\.mp4 ", cluster.proxy) as held:
        cluster.kill_worker(held)
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
    """A model, whose training is killed in an epoch of which nothing is kept; meanwhile store and disk fail."""
    cluster.airflow.api.unpause("trailers_train")
    cluster.trigger("trailers_train", "train")
    with cluster.held(r"^PUT /\S+/checkpoints/00/0003\.\w+\.npz ") as held:
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
def moments(cluster: Cluster, contents: object) -> tuple[Seen, Seen]:
    """Before and after all days were asked for once more.

    Before that a trailer is taken down, and the next index is built by two at once: one waits before its last object
    while the other publishes, and is killed there.
    """
    cluster.airflow.api.unpause("trailers_index")
    cluster.trigger("trailers_index", "first")
    cluster.wait_until(cluster.is_over, "the first index is served")
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
