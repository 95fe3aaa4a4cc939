"""What Airflow is started with: its configuration, its secrets, its environment."""

import configparser
import os
import stat
import string
import subprocess
import sysconfig
from pathlib import Path

import pytest

from trailer_ml.demo.airflow_stack import Airflow, component_environment, read_or_make_password, render_config

PROJECT = Path(__file__).parents[2]
TEMPLATE = (PROJECT / "airflow.cfg.template").read_text()
VALUES = {
    "dags_folder": str(PROJECT / "dags"),
    "plugins_folder": str(PROJECT / "plugins"),
    "executor": "LocalExecutor",
    "parallelism": "2",
    "execution_api_url": "http://127.0.0.1:8081/execution/",
    "passwords_file": "passwords.json",
    "host": "127.0.0.1",
    "port": "8080",
    "base_url": "http://127.0.0.1:8080",
    "log_folder": "logs",
    "remote_logging": "False",
    "remote_log_folder": "",
}


def test_the_template_asks_for_what_is_given_and_every_setting_has_a_reason() -> None:
    assert {name for _, name, *_ in string.Template.pattern.findall(TEMPLATE) if name} == set(VALUES)
    reasons = 0
    for line in TEMPLATE.splitlines():
        if line.startswith("#"):
            reasons = 2  # one reason may be for two settings that belong together
        elif "=" in line:
            assert reasons or line.startswith(("executor", "base_log_folder")), line
            reasons -= 1


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(KeyError, match="port"):
        render_config("port = $port", {})


def test_airflow_has_nothing_to_say_about_it(tmp_path: Path) -> None:
    (tmp_path / "airflow.cfg").write_text(render_config(TEMPLATE, VALUES))
    airflow = Path(sysconfig.get_path("scripts"), "airflow")
    environ = component_environment(tmp_path, {})
    found = subprocess.run(
        [airflow, "config", "lint"], env=environ, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "No issues found" in found.stdout  # it exits 0 with findings as well


def test_no_secret_is_in_it() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(render_config(TEMPLATE, VALUES))
    options = {f"{section}.{name}" for section in parser.sections() for name in parser[section]}
    assert options.isdisjoint({"core.fernet_key", "api.secret_key", "api_auth.jwt_secret", "database.sql_alchemy_conn"})


def test_secrets_are_made_once_and_for_their_owner_only(tmp_path: Path) -> None:
    first, password = component_environment(tmp_path, {}), read_or_make_password(tmp_path)
    assert component_environment(tmp_path, {}) == first
    assert read_or_make_password(tmp_path) == password
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    secrets = [first[name] for name in first if name.endswith(("_KEY", "_SECRET")) and name.startswith("AIRFLOW__")]
    assert len(set(secrets)) == 3


def test_a_persons_own_airflow_and_settings_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "SequentialExecutor")
    monkeypatch.setenv("TRAILER_STORE_BUCKET", "precious")
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    environ = component_environment(tmp_path, {"TRAILER_STORE_PREFIX": "demo/"})
    assert environ["AIRFLOW_HOME"] == str(tmp_path)
    assert environ["TRAILER_STORE_PREFIX"] == "demo/"
    strangers = {"AIRFLOW__CORE__EXECUTOR", "TRAILER_STORE_BUCKET", "AWS_PROFILE", "PYTHONDONTWRITEBYTECODE"}
    assert strangers.isdisjoint(environ)
    assert environ["PATH"] == os.environ["PATH"]


def test_a_tasks_log_is_where_airflow_writes_it(tmp_path: Path) -> None:
    airflow = Airflow(tmp_path, "http://127.0.0.1:1", {})
    task = {"dag_id": "d", "dag_run_id": "r", "task_id": "g.t", "map_index": 2, "try_number": 3}
    expected = "logs/dag_id=d/run_id=r/task_id=g.t/map_index=2/attempt=3.log"
    assert airflow.task_log(task) == tmp_path / expected
