"""A throw-away Airflow: home and database of this session, set before airflow is imported for the first time."""

import atexit
import configparser
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
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
        environ: dict[str, str] | None = None,
    ) -> Ran:
        of_run = changed or settings
        key, secret = of_run.store.access_key_id, of_run.store.secret_access_key
        assert key
        assert secret
        connection = {"conn_type": "aws", "login": key.get_secret_value(), "password": secret.get_secret_value()}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRAILER_", "AWS_"))}
        secrets = {"AIRFLOW_CONN_TRAILER_STORE": json.dumps(connection)}
        arguments = [
            dag_id,
            json.dumps(conf),
            *([logical_date] if logical_date else []),
            *(["scheduled"] * is_scheduled),
        ]
        child = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("run_dag.py")), *arguments],
            env={**kept, **as_environment(of_run), **secrets, **(environ or {})}, cwd=tmp_path,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        log = child.stdout + child.stderr
        assert child.returncode == 0, log[-4000:]
        assert secret.get_secret_value() not in log
        return Ran(**json.loads(child.stdout.splitlines()[-1]), log=log)

    return run


@pytest.fixture
def webhook(run_webhook: Callable[[], contextlib.AbstractContextManager[Any]]) -> Iterator[Any]:
    """Somebody who is told, for one test."""
    with run_webhook() as running:
        yield running


@pytest.fixture
def statsd(run_statsd: Callable[[], contextlib.AbstractContextManager[Any]]) -> Iterator[Any]:
    """A StatsD that keeps everything, configured as airflow.cfg.template has it."""
    template = configparser.ConfigParser(interpolation=None)
    template.read(PROJECT / "airflow.cfg.template")
    metrics = {f"AIRFLOW__METRICS__{name.upper()}": value for name, value in template["metrics"].items()}
    with run_statsd() as running:
        yield running._replace(environ={**metrics, **running.environ})


@pytest.fixture
def airflow_app(airflow_database: None, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Airflow's API server as an ASGI app, with our plugin mounted and the test's store behind it."""
    from airflow.api_fastapi.app import create_app

    for name, value in as_environment(settings).items():
        monkeypatch.setenv(name, value)
    key, secret = settings.store.access_key_id, settings.store.secret_access_key
    assert key
    assert secret
    connection = {"conn_type": "aws", "login": key.get_secret_value(), "password": secret.get_secret_value()}
    monkeypatch.setenv("AIRFLOW_CONN_TRAILER_STORE", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "of these tests " * 5)
    app = create_app(apps="core")
    yield app
    page = page_of(app)
    if made := page._app:
        made.state.service.stop()
    page._app = None  # the plugin lives as long as the process, and is of this test's store


def page_of(app: Any) -> Any:
    """What our plugin has mounted."""
    return next(route.app for route in app.routes if getattr(route, "path", "") == "/trailers")


@pytest.fixture
def admin_token(airflow_app: Any) -> str:
    """What the UI sends along for the administrator."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    return get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="admin", role="admin"))
