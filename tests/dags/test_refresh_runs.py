"""trailers_refresh as Airflow runs it: a real site, real downloads, real ffmpeg, a real store."""

import datetime as dt
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trailer_ml.catalog.batches import plan_batches
from trailer_ml.catalog.blocked import read_blocked
from trailer_ml.catalog.crawl import crawl_catalog
from trailer_ml.demo.profile import demo_settings
from trailer_ml.demo.site import run_site
from trailer_ml.demo.studio import make_world
from trailer_ml.demo.world import DAYS, World, read_world
from trailer_ml.records import Interval
from trailer_ml.settings import Settings, StoreSettings
from trailer_ml.shards.manifests import list_shards
from trailer_ml.storage import Store, catalog_key

DAY = DAYS[0].isoformat()


@pytest.fixture(scope="module")
def world_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_world(folder, n_films=12, seconds=8.0)
    return folder


@pytest.fixture(scope="module")
def site(world_folder: Path) -> Iterator[tuple[World, str]]:
    """A small film world and the address of its site."""
    with run_site(world_folder) as url:
        yield read_world(world_folder), url


@pytest.fixture
def settings(settings: Settings, site: tuple[World, str]) -> Settings:
    """The demo's settings, on this test's store."""
    made = demo_settings(StoreSettings.model_validate(settings.store.model_dump()), site[1])
    catalog = made.catalog.model_copy(update={"max_catch_up_days": 14})
    return made.model_copy(update={"catalog": catalog})


def _sum_up(lines: list[str]) -> dict[str, float]:
    """What statsd_exporter would show: the sum of what was sent under each name."""
    sums: dict[str, float] = {}
    for line in lines:
        name, _, value = line.partition(":")
        sums[name] = sums.get(name, 0.0) + float(value.partition("|")[0])
    return sums


def _contents(store: Store) -> dict[str, bytes]:
    return {key: store.read_bytes(key) for key in store.list_keys("")}


def test_a_missed_night_is_made_up_for_and_by_hand_gives_the_same_store(
    run_dag: Callable[..., Any], statsd: Any, settings: Settings, store: Store, site: tuple[World, str]
) -> None:
    """One day was planned and no more, the night over the next was missed, and nothing was listed on that after it."""
    day = DAYS[2]
    crawl_catalog(Interval.of_day(DAYS[1]), settings, store)
    plan_batches(Interval.of_day(DAYS[1]), settings, store)
    next_but_one = day + dt.timedelta(days=2)  # the scheduler makes a run of an interval at its end
    midnight = f"{next_but_one}T00:00:00+00:00"
    ran = run_dag("trailers_refresh", {}, logical_date=midnight, is_scheduled=True, environ=statsd.environ)
    assert ran.state == "success", ran.log[-6000:]
    summary = ran.returned["summary/-1"]
    assert (summary["start"], summary["end"], summary["n_caught_up"]) == (f"{DAYS[1]}", f"{next_but_one}", 2)
    n_shards = len(list_shards(store))
    assert n_shards == summary["n_batches"] > 0
    assert ran.names["batch.shard/0"] == f"listed={DAYS[1]}/0000"
    (event,) = ran.events
    assert event["asset"] == "trailer_shards"
    assert event["extra"] == {
        "listed_on": [f"{DAYS[1]}", f"{day}"],
        "n_shards": n_shards,
        "n_trailers": summary["n_sharded"],
    }
    listed = Counter(clip.listed_on for clip in site[0].clips if clip.oddity != "series")
    assert summary["n_listed"] == listed[DAYS[1]] + listed[day]
    for key, value in ran.returned.items():
        assert len(json.dumps(value)) < 1024, key
    assert store.read_bytes(catalog_key(next_but_one - dt.timedelta(days=1))) == b""

    counted = _sum_up(statsd.lines())
    shards = [manifest for _, manifest in list_shards(store)]
    assert counted["airflow.trailer_ml.trailers,stage=shard"] == summary["n_sharded"]
    assert counted["airflow.trailer_ml.bytes,stage=shard"] == sum(manifest.size_bytes for manifest in shards)
    assert counted["airflow.trailer_ml.milliseconds,stage=download"] > 0
    lost = {name: n for name, n in counted.items() if name.startswith("airflow.trailer_ml.lost,stage=download,reason=")}
    waiting_or_gone = [ran.returned[f"batch.download/{number}"] for number in range(n_shards)]
    assert sum(lost.values()) == sum(sum((row["rejected"] | row["waiting"]).values()) for row in waiting_or_gone)
    assert any(name.startswith("airflow.task.duration,") for name in counted), counted

    before = _contents(store)
    again = run_dag("trailers_refresh", {"listed_on": f"{day}", "retry": ["live"]})
    assert again.state == "success", again.log[-6000:]
    assert "tried again: live 0" in again.log
    assert again.tasks["batch.download/-1"] == "skipped"
    assert again.tasks["announce/-1"] == "skipped"
    assert again.events == []
    found = again.returned["summary/-1"]
    assert (found["n_listed"], found["n_caught_up"]) == (listed[day], 0)
    assert _contents(store) == before


def test_a_bad_batch_fails_the_run_and_harms_no_other(
    run_dag: Callable[..., Any], statsd: Any, settings: Settings, store: Store, site: tuple[World, str]
) -> None:
    day = site[0].odd("corrupt").listed_on.isoformat()
    small = settings.model_copy(
        update={
            "catalog": settings.catalog.model_copy(update={"batch_size": 2}),
            # One lost trailer is too many for a batch.
            "media": settings.media.model_copy(update={"max_loss_share": 0.0, "min_losses": 1}),
            "shards": settings.shards.model_copy(update={"max_loss_share": 0.0, "min_losses": 1}),
        }
    )
    ran = run_dag("trailers_refresh", {"listed_on": day}, changed=small, environ=statsd.environ)
    states = {name: state for name, state in ran.tasks.items() if name.startswith("batch.shard/")}
    assert ran.state == "failed", ran.log[-6000:]
    assert "success" in states.values()
    assert not set(states.values()) <= {"success"}
    lost = [name for name, state in ran.tasks.items() if state == "failed" and name.startswith("batch.")]
    assert lost
    assert {ran.tries[name] for name in lost} == {1}  # a permanent error is not tried again
    told = _sum_up(statsd.lines())  # what the alert TrailersLost asks for
    assert sum(n for name, n in told.items() if name.startswith("airflow.trailer_ml.lost,stage=download,")) >= len(
        [name for name in lost if name.startswith("batch.download/")]
    )
    assert sum(n for name, n in told.items() if name.startswith("airflow.trailer_ml.lost,stage=shard,")) >= len(
        [name for name in lost if name.startswith("batch.shard/")]
    )
    assert ran.tasks["announce/-1"] == "success"
    assert ran.tasks["summary/-1"] == "failed"
    (event,) = ran.events
    assert event["extra"]["n_shards"] == len(list_shards(store)) == list(states.values()).count("success")
    assert "batches were lost" in ran.log


def test_a_source_that_wants_no_robots_fails_the_run_at_once(
    run_dag: Callable[..., Any], settings: Settings, store: Store, world_folder: Path
) -> None:
    with run_site(world_folder, challenge=True) as url:
        catalog = settings.catalog.model_copy(update={"base_url": url})
        ran = run_dag("trailers_refresh", {"listed_on": DAY}, changed=settings.model_copy(update={"catalog": catalog}))
    assert ran.state == "failed"
    assert ran.tasks["crawl/-1"] == "failed"
    assert ran.tries["crawl/-1"] == 1
    assert "SourceBlockedError" in ran.log
    assert ran.tasks["summary/-1"] == "failed"
    assert ran.events == []
    assert not any(key.startswith(("catalog/listed=", "batches/", "shards/")) for key in store.list_keys(""))
    assert [blocked.source for blocked in read_blocked(store)] == ["imdb_html"]
