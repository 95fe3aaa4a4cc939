"""What holds for every DAG file: it is listed, light, documented, short, and Airflow can store what it says."""

import configparser
import datetime as dt
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from trailer_ml.records import BatchRef
from trailer_ml.settings import Settings

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag

PROJECT = Path(__file__).parents[2]
DAG_FILES = sorted((PROJECT / "dags").glob("*.py"))
DAG_IDS = {"trailers_refresh", "trailers_train", "trailers_index", "trailers_approve", "ads_match"}
HEAVY = {"tensorflow", "keras", "numpy", "boto3", "botocore", "scrapy", "yt_dlp", "annoy", "av", "PIL", "google_crc32c"}

IMPORT_ONE = """
import json, runpy, sys, time
import airflow.sdk, airflow.sdk.exceptions
from airflow.sdk import dag, task, Asset, Param
before = set(sys.modules)
started = time.process_time()
runpy.run_path(sys.argv[1])
took = time.process_time() - started
print(json.dumps({"cpu_s": took, "roots": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


def test_only_listed_dags_and_no_import_error(dagbag: "DagBag") -> None:
    assert dagbag.import_errors == {}
    assert set(dagbag.dags) == DAG_IDS == {path.stem for path in DAG_FILES}


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.stem)
def test_imports_in_under_a_second_and_nothing_heavy(path: Path) -> None:
    import json

    environ = {**os.environ, "PYTHONPATH": str(PROJECT / "plugins")}
    found = subprocess.run(
        [sys.executable, "-c", IMPORT_ONE, str(path)], check=True, capture_output=True, env=environ, text=True
    )
    facts = json.loads(found.stdout.splitlines()[-1])
    assert facts["cpu_s"] < 1.0
    assert HEAVY.isdisjoint(facts["roots"])


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.stem)
def test_is_short_and_says_what_it_does(path: Path, dagbag: "DagBag") -> None:
    assert len(path.read_text().splitlines()) <= 110
    text = dagbag.dags[path.stem].doc_md
    for heading in ("**Does:**", "**Runs:**", "**In:**", "**Out:**", "**Safe to run twice:**"):
        assert heading in text


def test_airflow_can_store_each(dagbag: "DagBag") -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    for dag in dagbag.dags.values():
        again = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        assert again.dag_id == dag.dag_id
        assert set(again.task_dict) == set(dag.task_dict)


def test_any_day_can_be_backfilled_and_no_past_one_runs_by_itself(dagbag: "DagBag") -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    refresh = DagSerialization.from_dict(DagSerialization.to_dict(dagbag.dags["trailers_refresh"]))
    first, last = (dt.datetime(1999, 12, day, tzinfo=dt.UTC) for day in (30, 31))
    assert len(list(refresh.iter_dagrun_infos_between(first, last))) == 2
    before = dt.datetime.now(dt.UTC).date()
    by_itself = refresh.next_dagrun_info(last_automated_run_info=None)
    after = dt.datetime.now(dt.UTC).date()
    assert before <= by_itself.data_interval.end.date() <= after


def test_every_pool_is_made_at_the_start(dagbag: "DagBag", airflow_database: None) -> None:
    from airflow.models.pool import Pool

    asked = {task.pool for dag in dagbag.dags.values() for task in dag.tasks}
    assert asked == {"default_pool", "download", "cpu", "gpu"}
    assert asked <= {pool.pool for pool in Pool.get_pools()}


def test_pools_keep_what_an_operator_made_of_them(airflow_database: None) -> None:
    from airflow.models.pool import Pool

    from trailer_airflow.plugin import make_pools

    Pool.create_or_update_pool("download", slots=1, description="by hand", include_deferred=False)
    make_pools()
    assert Pool.get_pool("download").slots == 1


def test_a_day_may_have_as_many_batches_as_it_can_name() -> None:
    template = configparser.ConfigParser(interpolation=None)
    template.read(PROJECT / "airflow.cfg.template")
    BatchRef(listed_on=dt.date(2026, 11, 22), number=template.getint("core", "max_map_length") - 1)
    with pytest.raises(ValidationError):
        BatchRef(listed_on=dt.date(2026, 11, 22), number=template.getint("core", "max_map_length"))


def test_airflow_knows_every_option_of_the_template_and_has_nothing_to_say_of_it(tmp_path: Path) -> None:
    from airflow.configuration import conf

    command = [
        PROJECT / "docker" / "render-config",
        PROJECT / "docker" / "airflow.json",
        PROJECT / "airflow.cfg.template",
    ]
    (tmp_path / "airflow.cfg").write_text(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    environ = {"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(PROJECT / "plugins")}
    # Logs go to S3, and tasks to Celery, by way of providers that only the images have.
    environ |= {"AIRFLOW__LOGGING__REMOTE_LOGGING": "False", "AIRFLOW__CORE__EXECUTOR": "LocalExecutor"}
    linted = subprocess.run(
        [sys.executable, "-m", "airflow", "config", "lint", "--ignore-option", "executor"],
        check=True, capture_output=True, text=True, env=environ,
    )  # fmt: skip
    assert "No issues found" in linted.stdout

    written = configparser.ConfigParser(interpolation=None)
    written.read(tmp_path / "airflow.cfg")
    elsewhere = {"trailer_ml", "celery", "celery_broker_transport_options"}  # not described: ours, providers
    for section in set(written.sections()) - elsewhere:
        assert set(written[section]) <= set(conf.configuration_description[section]["options"]), section


def test_training_goes_to_the_gpu_queue_and_nothing_else_does(dagbag: "DagBag") -> None:
    queued = {task.task_id for dag in dagbag.dags.values() for task in dag.tasks if task.queue == "gpu"}
    assert queued == {"warm_up", "train_phases", "evaluate"}


def test_a_task_may_wait_for_a_worker_longer_than_any_task_takes(dagbag: "DagBag") -> None:
    """Airflow fails what has waited three times as long for good, past its retries."""
    template = configparser.ConfigParser(interpolation=None)
    template.read(PROJECT / "airflow.cfg.template")
    waits_s = template.getfloat("scheduler", "task_queued_timeout")
    longest = max(
        task.execution_timeout for dag in dagbag.dags.values() for task in dag.tasks if task.execution_timeout
    )
    assert waits_s > longest.total_seconds() > Settings().media.batch_timeout_s
    assert waits_s >= template.getfloat("celery_broker_transport_options", "visibility_timeout")


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.stem)
def test_every_param_is_typed_described_and_has_a_title(path: Path, dagbag: "DagBag") -> None:
    params = dagbag.dags[path.stem].params
    for name in params:
        schema = params.get_param(name).schema
        assert {"type", "title"} <= set(schema), name
        assert params.get_param(name).description, name


@pytest.mark.parametrize(
    ("dag_id", "conf"),
    [
        ("trailers_refresh", {"listed_on": "yesterday"}),
        ("trailers_refresh", {"listed_on": 20261122}),
        ("trailers_refresh", {"listed_on": "2026-11-22", "until": "tomorrow"}),
        ("trailers_refresh", {"retry": "gone"}),
        ("trailers_train", {"epochs": [8, 0]}),
        ("trailers_train", {"epochs": "8"}),
        ("trailers_train", {"seed": -1}),
        ("trailers_train", {"force": "yes"}),
        ("trailers_index", {"force": 1}),
        ("trailers_approve", {}),
        ("trailers_approve", {"kind": "trailer", "version": "m-1"}),
        ("trailers_approve", {"kind": "model", "version": "../up"}),
        ("ads_match", {}),
        ("ads_match", {"ads": []}),
        ("ads_match", {"ads": ["http://127.0.0.1/a.mp4"], "k": 0}),
        ("ads_match", {"ads": ["http://127.0.0.1/a.mp4"], "run": "../up"}),
    ],
)
def test_the_form_refuses_what_makes_no_sense(dag_id: str, conf: dict[str, object], dagbag: "DagBag") -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        _fill_in(dagbag, dag_id, conf)


def test_the_form_takes_what_it_should(dagbag: "DagBag") -> None:
    _fill_in(dagbag, "trailers_refresh", {})
    _fill_in(dagbag, "trailers_refresh", {"listed_on": "2026-11-22", "until": "2026-11-24", "retry": ["gone"]})
    _fill_in(dagbag, "trailers_train", {})
    _fill_in(dagbag, "trailers_train", {"epochs": [8, 6], "seed": 9, "force": True})
    _fill_in(dagbag, "trailers_index", {"force": True})
    _fill_in(dagbag, "trailers_approve", {"kind": "index", "version": "i-1", "against": "i-0", "reason": "recall"})
    _fill_in(dagbag, "ads_match", {"ads": ["http://127.0.0.1/a.mp4"], "run": "spring-2026"})


def _fill_in(dagbag: "DagBag", dag_id: str, conf: dict[str, object]) -> None:
    params = dagbag.dags[dag_id].params
    params.update(conf)
    params.validate()
