"""A model or an index that was judged worse: who is asked, what a yes does, and that nothing else does anything."""

import asyncio
import datetime as dt
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from trailer_airflow.approval import question_about_index, question_about_model, use_index, use_model
from trailer_ml.index.build import build_index
from trailer_ml.index.publish import publish_index
from trailer_ml.model.card import ModelCard, card_key
from trailer_ml.model.registry import read_champion
from trailer_ml.records import Evaluation, Promotion
from trailer_ml.settings import FeatureSettings, ModelSettings, Settings
from trailer_ml.storage import CHAMPION_KEY, CURRENT_INDEX_KEY, Store

MODEL = {"kind": "model", "version": "m-2", "against": "m-1", "reason": "mAP@10 0.300 is not better than 0.400"}
PATIENCE_S = 120.0


@pytest.fixture
def two_models(store: Store) -> None:
    """A champion, and one that was judged worse."""
    for version, map_at_k in (("m-1", 0.4), ("m-2", 0.3)):
        evaluation = Evaluation(
            version=version, n_queries=20, k=10, map_at_k=map_at_k, untrained_map_at_k=0.2, chance_map_at_k=0.1,
            recall_at_k=0.9, precision_at_k=0.9,
        )  # fmt: skip
        card = ModelCard(
            version=version, encoder_sha256="0" * 64, video_dim=8, audio_dim=8, genres=("Action", "Comedy"),
            backbone="MobileNetV2", backbone_weights="random", model=ModelSettings(), features=FeatureSettings(),
            dataset_key=f"models/{version}/dataset.json", shards=(), n_trailers={}, n_films={}, test_films=(),
            evaluation=evaluation, held_out_gallery={}, history=(), previous_champion=None, software={},
        )  # fmt: skip
        store.create_json(card_key(version), card.to_json())
    store.swap_pointer(CHAMPION_KEY, {"version": "m-1", "map_at_k": 0.4, "k": 10}, None)


@pytest.mark.filterwarnings("ignore:Using `httpx` with")  # by svcs, which Airflow imports
def test_a_yes_through_the_api_puts_the_model_into_use(
    run_dag: Callable[..., Any], airflow_app: Any, admin_token: str, webhook: Any, two_models: None, store: Store
) -> None:
    async def answer(run_id: str) -> httpx.Response:
        transport = httpx.ASGITransport(airflow_app)
        headers = {"Authorization": f"Bearer {admin_token}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://airflow.example", headers=headers) as client:
            path = f"/api/v2/dags/trailers_approve/dagRuns/{run_id}/taskInstances/ask/-1/hitlDetails"
            return await client.patch(path, json={"chosen_options": ["Approve"]})

    with ThreadPoolExecutor() as pool:
        running = pool.submit(run_dag, "trailers_approve", MODEL, environ=webhook.environ)
        run_id = _wait_for_question(running)
        assert read_champion(store) == "m-1"  # nothing has changed while it waits
        assert asyncio.run(answer(run_id)).status_code == 200
        ran = running.result()
    assert ran.state == "success", ran.log[-6000:]
    assert (ran.tasks["promote/-1"], ran.tasks["publish/-1"]) == ("success", "skipped")
    assert read_champion(store) == "m-2"
    assert ran.events == [{"asset": "trailer_model", "extra": {"version": "m-2"}}]
    (told,) = webhook.told
    assert (told["event"], told["dag_id"], told["run_id"]) == ("waits", "trailers_approve", run_id)
    assert "hook-secret" not in ran.log


def test_no_answer_in_time_is_a_no(run_dag: Callable[..., Any], two_models: None, store: Store) -> None:
    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner

    with ThreadPoolExecutor() as pool:
        running = pool.submit(run_dag, "trailers_approve", MODEL)
        _wait_for_question(running, is_over=True)
        SchedulerJobRunner(job=Job()).check_awaiting_input_timeouts()
        ran = running.result()
    assert ran.state == "success", ran.log[-6000:]
    assert (ran.tasks["promote/-1"], ran.tasks["publish/-1"]) == ("skipped", "skipped")
    assert read_champion(store) == "m-1"
    assert ran.events == []


def _wait_for_question(running: "Future[Any]", *, is_over: bool = False) -> str:
    """The run that waits for an answer, once it does; with `is_over` its time is up."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with create_session() as session:
            for task in session.scalars(select(TaskInstance).where(TaskInstance.state == "awaiting_input")):
                assert task.trigger_timeout - task.start_date > dt.timedelta(days=2)
                if is_over:
                    task.trigger_timeout = task.start_date
                return str(task.run_id)
        assert not running.done(), running.result()
        time.sleep(0.2)
    raise AssertionError("nobody was asked")


def test_only_what_was_judged_worse_is_a_question(store: Store) -> None:
    worse = Promotion(version="m-2", is_promoted=False, champion="m-1", reason=MODEL["reason"], is_worse=True)
    assert question_about_model(worse.to_json()) == MODEL
    for reason in ("it is the champion already", "it was gone back from"):
        with pytest.raises(AirflowSkipException, match=reason):
            question_about_model(worse.model_copy(update={"is_worse": False, "reason": reason}).to_json())
    with pytest.raises(AirflowSkipException, match="it is served"):
        question_about_index({"version": "i-1", "is_worse": False, "reason": ""}, store)


def test_a_yes_serves_the_index_as_long_as_nothing_else_was_published(
    settings: Settings, store: Store, put_embedded: Callable[..., Any], make_vectors: Callable[..., np.ndarray]
) -> None:
    put_embedded(make_vectors(60))
    good = build_index(settings, store).version
    publish_index(good, settings, store)
    for number in range(31):
        store.create_json(f"tombstones/imdb-vi{number:07d}.json", {})
    small = publish_index(build_index(settings, store).version, settings, store)
    params = question_about_index(small.to_json(), store)
    assert (params["kind"], params["version"], params["against"]) == ("index", small.version, good)
    with pytest.raises(AirflowSkipException, match="about the index"):
        use_model(params, settings, store)
    with pytest.raises(AirflowFailException, match=f"to take the place of i-0, and {good} is in use by now"):
        use_index(params | {"against": "i-0"}, settings, store)
    assert store.read_json(CURRENT_INDEX_KEY)["version"] == good
    assert "by hand, although it has 29 trailers where" in use_index(params, settings, store)["reason"]
    assert store.read_json(CURRENT_INDEX_KEY)["version"] == small.version
    assert use_index(params, settings, store)["reason"] == "it is served already"


def test_a_yes_to_an_old_question_changes_nothing(settings: Settings, store: Store, two_models: None) -> None:
    with pytest.raises(AirflowFailException, match="to take the place of m-0, and m-1 is in use by now"):
        use_model(MODEL | {"against": "m-0"}, settings, store)
    assert read_champion(store) == "m-1"
    assert use_model(MODEL, settings, store).champion == "m-2"
    again = use_model(MODEL, settings, store)
    assert (again.champion, again.is_promoted) == ("m-2", False)
