"""A throw-away Airflow: home and database of this session, set before airflow is imported for the first time."""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from trailer_ml.settings import Settings, as_environment

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag

PROJECT = Path(__file__).parents[2]
HOME = Path(tempfile.mkdtemp(prefix="trailer-ml-airflow-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

os.environ.update(
    AIRFLOW_HOME=str(HOME),
    AIRFLOW__CORE__DAGS_FOLDER=str(PROJECT / "dags"),
    AIRFLOW__CORE__PLUGINS_FOLDER=str(PROJECT / "plugins"),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{HOME}/airflow.db",
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED="False",
)
sys.path.insert(0, str(PROJECT / "plugins"))


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """Tables and pools."""
    from airflow.utils import db

    from trailer_airflow.plugin import make_pools

    db.initdb()
    make_pools()


@pytest.fixture
def dagbag() -> "DagBag":
    """The DAGs, read anew for each test: a conf given to `dag.test` stays in a DAG's params."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(PROJECT / "dags"), load_op_links=False)


class Ran(NamedTuple):
    """What became of a run."""

    state: str
    tasks: dict[str, str]
    """`task_id/map_index` -> state."""
    tries: dict[str, int]
    names: dict[str, str | None]
    returned: dict[str, Any]
    events: list[dict[str, Any]]
    log: str


@pytest.fixture
def run_dag(airflow_database: None, settings: Settings, tmp_path: Path) -> Callable[..., Ran]:
    """Runs a DAG on this test's store: `run_dag(dag_id, conf, logical_date=..., changed=...)`.

    With `is_scheduled` it is a run as the scheduler makes it at that date.
    """

    def run(
        dag_id: str,
        conf: dict[str, Any],
        *,
        logical_date: str | None = None,
        is_scheduled: bool = False,
        changed: Settings | None = None,
    ) -> Ran:
        of_run = changed or settings
        key, secret = of_run.store.access_key_id, of_run.store.secret_access_key
        assert key
        assert secret
        connection = {"conn_type": "aws", "login": key.get_secret_value(), "password": secret.get_secret_value()}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRAILER_", "AWS_"))}
        environ = kept | as_environment(of_run) | {"AIRFLOW_CONN_TRAILER_STORE": json.dumps(connection)}
        arguments = [
            dag_id,
            json.dumps(conf),
            *([logical_date] if logical_date else []),
            *(["scheduled"] * is_scheduled),
        ]
        child = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("run_dag.py")), *arguments],
            env=environ, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        log = child.stdout + child.stderr
        assert child.returncode == 0, log[-4000:]
        assert secret.get_secret_value() not in log
        return Ran(**json.loads(child.stdout.splitlines()[-1]), log=log)

    return run
