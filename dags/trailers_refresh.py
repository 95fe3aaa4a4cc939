"""### What is new: from a source's listing to shards.

**Does:** looks whether the machine is ready (`trailer-ml doctor`) → settles which days are due → crawls what was
listed on them → plans batches → for each batch: downloads → makes a shard (frames and spectrogram, TFRecord) → tells
the other DAGs → sums up.

**Runs:** every night over the day before (a real `[start, end)` interval), as a backfill over any days, or by hand:
with a day or several from the form, or without one for yesterday (UTC), and with reasons from the form for which
trailers of any day were lost: these are tried again. A scheduled night also takes the nights that were missed
before it (days that were not crawled, or have a trailer in no batch or a batch without a shard,
`TRAILER_CATALOG_MAX_CATCH_UP_DAYS` back at most), and its summary counts them; a backfill or a run by hand takes its
own days only.

**In:** the source named by `TRAILER_CATALOG_*`. **Out:** `catalog/`, `batches/`, `media/`, `shards/`, `quarantine/`
in the store, and one event of the asset `trailer_shards` when there are new shards.

**Safe to run twice:** yes. What is there is found and left as it is; a run with nothing to do writes nothing and
wakes nobody.

**When a batch fails:** the others go on, their shards are announced, and the last task then fails the run and names
the lost batches. Clear that batch's failed task to try again, or leave it to the next night. Trailers that are gone,
broken or have to wait do not fail a batch: they are in `quarantine/`, with their reason, and those that wait are taken
up by the first run after their time has come, whatever its days.
"""

from typing import Any

from airflow.sdk import CronDataIntervalTimetable, TriggerRule, dag, get_current_context, task, task_group

from trailer_airflow.assets import SHARDS
from trailer_airflow.defaults import DEFAULT_ARGS, START
from trailer_airflow.forms import REFRESH
from trailer_airflow.notify import Tell, due_within
from trailer_airflow.runs import days_of_run, interval_of_days, read_batch, shards_event, sum_up
from trailer_airflow.settings import open_stage
from trailer_airflow.stages import run_stage


@dag(
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=START,
    catchup=False,
    max_active_runs=2,
    default_args=DEFAULT_ARGS,
    on_failure_callback=Tell("failed"),
    deadline=due_within(hours=12),
    params=REFRESH,
    tags=["trailers"],
    doc_md=__doc__,
)
def trailers_refresh() -> None:
    @task(multiple_outputs=False)
    def settle() -> dict[str, Any]:  # once: after a crawl that was killed at its end no day seems to be missed any more
        from trailer_ml.doctor import require_machine

        require_machine(*open_stage())
        return days_of_run(get_current_context(), *open_stage())

    @task(multiple_outputs=False)
    def crawl(days: dict[str, Any]) -> dict[str, Any]:
        from trailer_ml.catalog.crawl import crawl_catalog

        return crawl_catalog(interval_of_days(days), *open_stage()).to_json()

    @task
    def plan(days: dict[str, Any], found: dict[str, Any], params: dict[str, Any]) -> list[dict[str, Any]]:
        from trailer_ml.catalog.again import try_again
        from trailer_ml.catalog.batches import plan_batches

        settings, store = open_stage()
        try_again(params["retry"], store)
        return [batch.to_json() for batch in plan_batches(interval_of_days(days), settings, store)]

    @task(pool="download", map_index_template="{{ batch }}", multiple_outputs=False)
    def download(planned: dict[str, Any]) -> dict[str, Any]:
        from trailer_ml.media.download import download_batch

        return run_stage("download", download_batch, read_batch(planned))

    @task(pool="cpu", map_index_template="{{ batch }}", multiple_outputs=False)
    def shard(downloaded: dict[str, Any]) -> dict[str, Any]:
        from trailer_ml.shards.write import write_shard

        return run_stage("shard", write_shard, read_batch(downloaded["batch"]))

    @task_group
    def batch(planned: dict[str, Any]) -> Any:
        return shard(download(planned))

    @task(trigger_rule=TriggerRule.ALL_DONE, outlets=[SHARDS])
    def announce(planned: Any, shards: Any) -> None:
        get_current_context()["outlet_events"][SHARDS].extra = shards_event(planned, shards)

    @task(trigger_rule=TriggerRule.ALL_DONE, retries=0, multiple_outputs=False)
    def summary(days: Any, found: Any, planned: Any, shards: Any) -> dict[str, Any]:
        return sum_up(days, found, planned, shards)

    days = settle()
    found = crawl(days)
    planned = plan(days, found)
    shards = batch.expand(planned=planned)
    announce(planned, shards) >> summary(days, found, planned, shards)


trailers_refresh()
