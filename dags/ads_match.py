"""### Ads to films: which films does a commercial go with?

**Does:** fetches the commercials → the same frames and spectrograms → the same vectors → for each commercial its
films, ranked, with score, percentile and the share of picture and sound in it, and for each film its commercials →
lines and a report.

**Runs:** by hand, from the form.

**In:** URLs or paths of videos; the published index and its model; shards, for the frames that are shown.
**Out:** `ads/<run>/matches.jsonl`, `films.jsonl`, `report.html` and `pictures/`, the frames of the ads.

**Safe to run twice:** yes; the same ads against the same index under the same name give the same files.

**When an ad cannot be used:** its line says why, and the others go on; where none can be used, the run fails once its
lines are written.
"""

from typing import Any

from airflow.sdk import Param, dag, get_current_context, result, task

from trailer_airflow.defaults import DEFAULT_ARGS, START
from trailer_airflow.notify import Tell, due_within
from trailer_airflow.settings import open_stage
from trailer_ml.records import ID_PATTERN


@dag(
    schedule=None,
    start_date=START,
    default_args=DEFAULT_ARGS,
    on_failure_callback=Tell("failed"),
    deadline=due_within(hours=4),
    params={
        "ads": Param(
            type="array",
            items={"type": "string", "minLength": 1},
            minItems=1,
            maxItems=100,
            title="Commercials",
            description="One URL (or path, where the worker sees it) of a video a line.",
        ),
        "k": Param(10, type="integer", minimum=1, maximum=200, title="Films", description="Films per commercial."),
        "run": Param(
            None,
            type=["null", "string"],
            pattern=ID_PATTERN,
            title="Name",
            description="Where the results lie: ads/<name>/. Empty: named by the time of this run.",
        ),
    },
    tags=["trailers"],
    doc_md=__doc__,
)
def ads_match() -> None:
    @result
    @task(pool="cpu", multiple_outputs=False)
    def match(params: dict[str, Any]) -> dict[str, Any]:
        from trailer_ml.search.ads import match_ads

        settings, store = open_stage()
        search = settings.search.model_copy(update={"k": params["k"]})
        run = params["run"] or f"{get_current_context()['dag_run'].run_after:%Y%m%dt%H%M%S}"
        return match_ads(params["ads"], run, settings.model_copy(update={"search": search}), store).to_json()

    match()


ads_match()
