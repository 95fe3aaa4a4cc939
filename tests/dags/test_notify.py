"""Who is told, and of what: nobody by default, one notifier where one is named, and a deadline as Airflow calls it."""

import datetime as dt
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from trailer_airflow.notify import Tell, load_notifier

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag

RUN = {"dag_run": {"dag_id": "trailers_refresh", "dag_run_id": "scheduled__2026-11-22"}}


def test_nobody_is_told_by_default_and_the_log_says_it_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    assert load_notifier() is None
    Tell("failed")(dict(RUN))
    assert "trailers_refresh scheduled__2026-11-22 failed" in caplog.text


def test_any_notifier_of_airflow_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__TRAILER_ML__NOTIFIER", "airflow.providers.smtp.notifications.smtp.SmtpNotifier")
    arguments = '{"to": "ops@trailers.example", "subject": "{{ trailer_message }}", "html_content": "see the UI"}'
    monkeypatch.setenv("AIRFLOW__TRAILER_ML__NOTIFIER_ARGUMENTS", arguments)
    assert load_notifier().to == "ops@trailers.example"


def test_one_that_fails_fails_nothing_and_keeps_the_address_out_of_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, webhook: Any
) -> None:
    for name, value in webhook.environ.items():
        monkeypatch.setenv(name, value.replace("http://127.0.0.1:", "http://127.0.0.1:1"))  # nobody listens there
    with caplog.at_level(logging.ERROR):
        Tell("failed")(dict(RUN))
    assert "nobody was told" in caplog.text
    assert "hook-secret" not in caplog.text
    assert webhook.told == []


def test_a_run_that_failed_tells_the_notifier_once(run_dag: Callable[..., Any], webhook: Any) -> None:
    """Its form was filled in wrongly."""
    ran = run_dag("trailers_train", {"epochs": [5]}, environ=webhook.environ)
    assert ran.state == "failed"
    assert "the form has 1 numbers of epochs for 4 phases" in ran.log
    assert [(told["event"], told["dag_id"]) for told in webhook.told] == [("failed", "trailers_train")], ran.log[-4000:]
    assert "trailers_train manual__" in webhook.told[0]["text"]
    assert "hook-secret" not in ran.log


def test_the_dag_processor_tells_of_a_run_that_failed_without_a_task(
    dagbag: "DagBag", webhook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that failed before any task was made has nothing to tell of but its own name."""
    import structlog
    from airflow.callbacks.callback_requests import DagCallbackRequest
    from airflow.dag_processing.processor import _execute_dag_callbacks

    for name, value in webhook.environ.items():
        monkeypatch.setenv(name, value)
    request = DagCallbackRequest(
        filepath="trailers_index.py", dag_id="trailers_index", run_id="scheduled__2026-11-22",
        bundle_name="dags-folder", bundle_version=None, is_failure_callback=True, msg="all_tasks_deadlocked",
    )  # fmt: skip
    _execute_dag_callbacks(dagbag, request, structlog.get_logger())
    (told,) = webhook.told
    assert told["text"].startswith("trailers_index scheduled__2026-11-22 failed")


def test_a_missed_deadline_tells_the_notifier(
    dagbag: "DagBag", airflow_database: None, webhook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the scheduler and its executor do it, from the DAG in the database on."""
    import structlog
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import sync_bag_to_db
    from airflow.models.dagbag import DBDagBag
    from airflow.models.deadline import Deadline
    from airflow.sdk.execution_time.callback_supervisor import execute_callback
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType
    from sqlalchemy import select

    for name, value in webhook.environ.items():
        monkeypatch.setenv(name, value)
    DagBundlesManager().sync_bundles_to_db()
    sync_bag_to_db(dagbag, "dags-folder", None)
    with create_session() as session:
        run = DBDagBag().get_latest_version_of_dag("trailers_refresh", session=session).create_dagrun(
            run_id="late", run_after=dt.datetime.now(dt.UTC), run_type=DagRunType.MANUAL, state=DagRunState.QUEUED,
            triggered_by=DagRunTriggeredByType.TEST, session=session,
        )  # fmt: skip
        session.flush()
        deadline = session.scalars(select(Deadline).where(Deadline.dagrun_id == run.id)).one()
        assert deadline.deadline_time - run.queued_at == dt.timedelta(hours=12)
        deadline.handle_miss(session)
        asked: dict[str, Any] = deadline.callback.data
        assert execute_callback(asked["path"], asked["kwargs"], "", None, structlog.get_logger()) == (True, None)
        session.rollback()
    (told,) = webhook.told
    assert (told["event"], told["dag_id"], told["run_id"]) == ("late", "trailers_refresh", "late")


def test_every_dag_says_that_it_failed_and_all_but_the_question_have_a_deadline(dagbag: "DagBag") -> None:
    for dag in dagbag.dags.values():
        assert isinstance(dag.on_failure_callback, Tell), dag.dag_id
        assert bool(dag.deadline) == (dag.dag_id != "trailers_approve"), dag.dag_id
