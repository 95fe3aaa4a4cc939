"""### A model: from shards to a champion.

**Does:** fixes a data set (which shards, split by film) → warm-up as a genre classifier → the triplet phases, with
more and more trainable layers → retrieval and near-duplicates on films never trained on → promotes the model if it
beats the champion and finds no fewer near-duplicates → tells the index; if it does not, asks a person
(`trailers_approve`), and the champion stays → sums up.

**Runs:** every Sunday, by hand (the form has epochs, a seed, and promotion in any case), and when new shards come
while there is no champion yet and enough films are there (`TRAILER_MODEL_MIN_FILMS`). In every other case new shards
are no reason to train: the first task is skipped and says so.

**In:** `shards/`, and `media/` of some held-out trailers. **Out:** `models/<version>/`, `models/champion.json`, and an
event of the asset `trailer_model` when the new model has become the champion.

**Safe to run twice:** yes. The version is determined by data and settings; finished phases are found and not
repeated, and a phase that was cut off goes on from its last checkpoint.

**Queue:** `gpu`, one at a time (pool `gpu`). LocalExecutor has no queues: it trains where it runs.
"""

from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import AssetOrTimeSchedule, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from trailer_airflow.approval import ASK, question_about_model
from trailer_airflow.assets import MODEL, SHARDS
from trailer_airflow.defaults import DEFAULT_ARGS, GPU, from_now_on
from trailer_airflow.forms import TRAIN, training_settings
from trailer_airflow.notify import Tell, due_within
from trailer_airflow.runs import sum_up_training, training_reason
from trailer_airflow.settings import open_stage
from trailer_ml.records import DatasetRef, Evaluation


@dag(
    schedule=AssetOrTimeSchedule(timetable=from_now_on("0 4 * * 0"), assets=[SHARDS]),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    on_failure_callback=Tell("failed"),
    deadline=due_within(hours=48),
    params=TRAIN,
    tags=["trailers"],
    doc_md=__doc__,
)
def trailers_train() -> None:
    @task
    def decide() -> str:
        return training_reason(get_current_context()["dag_run"].run_type, *open_stage())

    @task(multiple_outputs=False)
    def assemble(reason: str, params: dict[str, Any]) -> dict[str, Any]:
        from trailer_ml.model.dataset import assemble_dataset

        settings, store = open_stage()
        return assemble_dataset(training_settings(params, settings), store).to_json()

    @task(**GPU, multiple_outputs=False)
    def warm_up(dataset: dict[str, Any]) -> dict[str, Any]:
        from trailer_ml.model.train import warm_up

        return warm_up(DatasetRef.model_validate(dataset), *open_stage()).to_json()

    @task(**GPU, multiple_outputs=False)
    def train_phases(dataset: dict[str, Any], warm: dict[str, Any]) -> dict[str, Any]:
        from trailer_ml.model.train import train_phases

        return train_phases(DatasetRef.model_validate(dataset), *open_stage()).to_json()

    @task(**GPU, multiple_outputs=False)
    def evaluate(dataset: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any]:
        from trailer_ml.model.evaluate import evaluate_model

        return evaluate_model(DatasetRef.model_validate(dataset), *open_stage()).to_json()

    @task(multiple_outputs=False)
    def promote(evaluation: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
        from trailer_ml.model.registry import promote_model

        measured = Evaluation.model_validate(evaluation)
        return promote_model(measured, *open_stage(), is_forced=params["force"]).to_json()

    @task(outlets=[MODEL])
    def announce(dataset: dict[str, Any], promotion: dict[str, Any]) -> None:
        if promotion["champion"] != promotion["version"]:  # not is_promoted: a promotion that was tried twice counts
            raise AirflowSkipException(promotion["reason"])
        get_current_context()["outlet_events"][MODEL].extra = {
            "version": promotion["version"],
            "n_trailers": dataset["n_trailers"],
            "n_films": dataset["n_films"],
        }

    @task(multiple_outputs=False)
    def summary(dataset: dict[str, Any], evaluation: dict[str, Any], promotion: dict[str, Any]) -> dict[str, Any]:
        return sum_up_training(dataset, evaluation, promotion)

    dataset = assemble(decide())
    evaluation = evaluate(dataset, train_phases(dataset, warm_up(dataset)))
    promotion = promote(evaluation)
    announce(dataset, promotion)
    question = task(task_id="question", multiple_outputs=False)(question_about_model)
    TriggerDagRunOperator(conf=question(promotion), **ASK)
    summary(dataset, evaluation, promotion)


trailers_train()
