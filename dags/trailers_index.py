"""### The index: from shards and a model to what answers questions.

**Does:** plans which shards the champion has not embedded yet (nor the model of the served index, where that is still
another) → embeds them (mapped, many shards a task:
TensorFlow's import costs more than they do) → builds an Annoy index aside → verifies it against exact search →
publishes it by conditional swap, or keeps the old one, says why, and asks a person (`trailers_approve`) → sums up.

**Runs:** every night, when new shards or another champion are announced, and by hand (the form has publication in any
case).

**In:** `shards/`, `models/champion.json`. **Out:** `embeddings/<model>/`, `index/<version>/`, `index/current.json`.

**Safe to run twice:** yes. Nothing new: nothing is written. Until there is a champion the run is skipped, and says
so.

**When a shard is bad:** the index is built and published without it, and the last task then fails the run and names it,
every night until the shard is mended (`trailer-ml verify`). Embeddings that are damaged in the store are made again.
"""

from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import AssetOrTimeSchedule, TriggerRule, dag, get_current_context, task

from trailer_airflow.approval import ASK, question_about_index
from trailer_airflow.assets import MODEL, SHARDS
from trailer_airflow.defaults import DEFAULT_ARGS, from_now_on
from trailer_airflow.forms import INDEX
from trailer_airflow.notify import Tell, due_within
from trailer_airflow.runs import skip_without_champion, stop_without_plan, sum_up_index
from trailer_airflow.settings import open_stage
from trailer_airflow.stages import run_stage
from trailer_ml.records import EmbedChunk


@dag(
    schedule=AssetOrTimeSchedule(timetable=from_now_on("0 3 * * *"), assets=SHARDS | MODEL),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    on_failure_callback=Tell("failed"),
    deadline=due_within(hours=6),
    params=INDEX,
    tags=["trailers"],
    doc_md=__doc__,
)
def trailers_index() -> None:
    @task
    def plan() -> list[dict[str, Any]]:
        settings, store = open_stage()
        skip_without_champion(store)
        from trailer_ml.embeddings.embed import plan_embeddings

        return [chunk.to_json() for chunk in plan_embeddings(settings, store)]

    @task(pool="cpu", map_index_template="{{ shards }}", multiple_outputs=False)
    def embed(planned: dict[str, Any]) -> dict[str, Any]:
        from trailer_ml.embeddings.embed import embed_shards

        chunk = EmbedChunk.model_validate(planned)
        get_current_context()["shards"] = f"{chunk.batches[0].path} and {len(chunk.batches) - 1} more"
        return run_stage("embed", embed_shards, chunk)

    @task(trigger_rule=TriggerRule.ALL_DONE, multiple_outputs=False)
    def build(planned: Any, embedded: Any) -> dict[str, Any]:
        from trailer_ml.index.build import build_index

        settings, store = open_stage()
        stop_without_plan(planned, store)
        return build_index(settings, store).to_json()

    @task(multiple_outputs=False)
    def verify(built: dict[str, Any]) -> dict[str, Any]:
        from trailer_ml.index.verify import verify_index

        return verify_index(built["version"], *open_stage()).to_json()

    @task(multiple_outputs=False)
    def publish(verified: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
        from trailer_ml.index.publish import publish_index

        return publish_index(verified["version"], *open_stage(), is_forced=params["force"]).to_json()

    @task(multiple_outputs=False)
    def question(published: dict[str, Any]) -> dict[str, Any]:
        return question_about_index(published, open_stage()[1])

    @task(trigger_rule=TriggerRule.ALL_DONE, retries=0, multiple_outputs=False)
    def summary(planned: Any, embedded: Any, built: Any, published: Any) -> dict[str, Any]:
        stop_without_plan(planned, open_stage()[1])
        return sum_up_index(planned, embedded, built, published)

    planned = plan()
    embedded = embed.expand(planned=planned)
    built = build(planned, embedded)
    published = publish(verify(built))
    TriggerDagRunOperator(conf=question(published), **ASK)
    summary(planned, embedded, built, published)


trailers_index()
