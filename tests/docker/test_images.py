"""What can be said of the images without a Docker engine: they are linted, fit their schema and hold no secret."""

import json
import os
import re
import shutil
import string
import subprocess
import sysconfig
import time
from pathlib import Path

import pytest
import yaml

from trailer_ml.demo.services import free_port
from trailer_ml.settings import load_settings

DOCKER = Path(__file__).parents[2] / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]


def run_tool(name: str, *arguments: str) -> str:
    tool = Path(sysconfig.get_path("scripts"), name)
    found = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_hadolint_has_nothing_to_say() -> None:
    assert run_tool("hadolint", "--no-color", str(DOCKER / "Dockerfile")) == ""


def test_compose_fits_its_schema() -> None:
    run_tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(DOCKER / "compose.yaml"))


@pytest.mark.parametrize(
    "script",
    [*(DOCKER / "install").iterdir(), DOCKER / "entrypoint", DOCKER / "clean-logs"],
    ids=lambda path: path.name,
)
def test_a_script_stops_at_its_first_error(script: Path) -> None:
    assert script.read_text().startswith("#!/bin/sh\n")
    assert "\nset -eu\n" in script.read_text()
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0


def test_every_script_that_the_image_runs_is_given_to_the_builder() -> None:
    dockerfile = (DOCKER / "Dockerfile").read_text()
    ignore = (DOCKER.parent / ".dockerignore").read_text().splitlines()
    assert ignore[1] == "*"  # nothing but what is named
    assert {path.name for path in (DOCKER / "install").iterdir()} == set(
        re.findall(r"RUN /install/([a-z-]+)", dockerfile)
    )
    for name in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE):
        for path in name.split():
            assert path == "." or any(f"!{path}".startswith(line) for line in ignore if line.startswith("!")), path


def test_images_are_pinned_and_run_as_nobody_special() -> None:
    dockerfile = (DOCKER / "Dockerfile").read_text()
    outside = re.findall(r"^FROM (\S+:\S+) AS", dockerfile, re.MULTILINE)
    assert outside == ["debian:12.11-slim"]
    finals = re.split(r"^FROM ", dockerfile, flags=re.MULTILINE)[-2:]
    assert all("USER 50000:0" in final and "HEALTHCHECK" in final for final in finals)
    images = {service["image"] for service in SERVICES.values()}
    assert all(re.search(r":v?\d+\.\d", image) for image in images), images


def test_every_service_starts_again_and_says_how_it_is() -> None:
    from_image = {"worker", "worker-training", "worker-gpu"}  # the Dockerfile's own health check
    for name, service in SERVICES.items():
        assert service["restart"] == ("no" if name == "init" else "unless-stopped"), name
        assert "healthcheck" in service or name in from_image | {"init"}, name


def test_no_service_is_root_or_can_become_it() -> None:
    for name, service in SERVICES.items():
        is_ours = service["image"].startswith("trailer-ml")  # the Dockerfile says who runs it
        assert service.get("user", "50000" if is_ours else "root") not in {"root", "0"}, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="there is no Redis here: .ci/system-packages cluster")
def test_redis_asks_for_a_password_and_its_health_check_has_it(tmp_path: Path) -> None:
    service, port = SERVICES["redis"], free_port()
    (tmp_path / "redis_password").write_text("sesame")

    def here(text: str) -> str:
        text = text.replace("$$", "$").replace("/run/secrets", str(tmp_path)).replace("/data", str(tmp_path))
        text = text.replace("appendonly yes", f"appendonly yes\nport {port}\nbind 127.0.0.1")
        return text.replace("redis-cli", f"redis-cli -p {port}")

    def is_healthy() -> bool:
        return not subprocess.run(["sh", "-c", here(service["healthcheck"]["test"][1])], check=False).returncode

    server = subprocess.Popen([*service["command"][:-1], here(service["command"][-1])], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not is_healthy():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (tmp_path / "redis_password").write_text("wrong")
        assert not is_healthy()
    finally:
        server.terminate()
        server.wait(60)


def test_whoever_asks_airflow_how_it_is_has_its_secrets() -> None:
    """A health check is a process beside the first one, whose variables it does not have."""
    dockerfile = (DOCKER / "Dockerfile").read_text()
    checks = re.findall(r"HEALTHCHECK .*\\\n +CMD (.+)$", dockerfile, re.MULTILINE)
    checks += [service["healthcheck"]["test"][1] for service in SERVICES.values() if "healthcheck" in service]
    of_airflow = [check for check in checks if re.search(r"airflow (jobs|\.)|celery", check)]
    assert len(of_airflow) == 5
    assert all("/entrypoint " in check for check in of_airflow)


def test_who_is_asked_to_stop_may_finish_its_tasks() -> None:
    """Celery's children, and the tasks below them, end at once when the signal reaches them as well (`tini -g`)."""
    entrypoints = re.findall(r"^ENTRYPOINT (.+)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    assert [json.loads(entrypoint) for entrypoint in entrypoints] == [["/usr/bin/tini", "--", "/entrypoint"]] * 2
    assert (DOCKER / "entrypoint").read_text().splitlines()[-1] == 'exec "$@"'


def test_what_the_chart_calls_is_in_the_image() -> None:
    for name in ("entrypoint", "clean-logs"):
        assert f"ln -s /opt/trailer-ml/bin/{name} /{name}" in (DOCKER / "install" / "system").read_text()
        assert f"/src/docker/{name} " in (DOCKER / "install" / "project").read_text()


def test_old_logs_are_cleared_away(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    for name, age_s in (("old/1.log", 3 * 86400), ("new/2.log", 3600)):
        path = logs / name
        path.parent.mkdir(parents=True)
        path.touch()
        for each in (path, path.parent):
            os.utime(each, times=(time.time() - age_s,) * 2)
    once = (DOCKER / "clean-logs").read_text().replace("sleep ", "exit 0; ")
    environ = {"PATH": "/usr/bin:/bin", "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__LOG_RETENTION_DAYS": "2"}
    subprocess.run(["sh", "-c", once], env=environ, check=True)
    assert [path.name for path in logs.rglob("*.log")] == ["2.log"]


def test_nothing_is_open_to_other_machines() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_secrets_are_files_and_nowhere_else(tmp_path: Path) -> None:
    text = (DOCKER / "compose.yaml").read_text()
    made = tmp_path / "docker"
    made.mkdir()
    (made / "make-secrets").write_text((DOCKER / "make-secrets").read_text())
    for _ in range(2):
        subprocess.run(["python3", made / "make-secrets"], check=True, capture_output=True)
    names = {path.name for path in (made / "secrets").iterdir()}
    assert names == set(COMPOSE["secrets"])
    assert {Path(entry["file"]) for entry in COMPOSE["secrets"].values()} == {Path("secrets", name) for name in names}
    assert (made / "secrets").stat().st_mode & 0o777 == 0o700
    used = {name for service in SERVICES.values() for name in service.get("secrets", [])}
    assert used == names
    assert not re.search(
        r"(?i)(password|secret|key): *[\w-]{8,}$", re.sub(r"file: secrets/\S+", "", text), re.MULTILINE
    )
    key = json.loads((made / "secrets" / "AIRFLOW_CONN_TRAILER_STORE").read_text())
    assert key["password"] == (made / "secrets" / "AWS_SECRET_ACCESS_KEY").read_text()
    assert set(key) == {"conn_type", "login", "password"}  # it would win over where docker/.env says that the store is


def environment_of(service: str, env_file: dict[str, str]) -> dict[str, str]:
    """The variables of a service as Compose makes them: docker/.env below its `environment`, which may name them."""

    def fill_in(found: re.Match[str]) -> str:
        value = env_file.get(found["name"])
        return found["default"] if value is None or (found["or_empty"] and not value) else value

    reference = r"\$\{(?P<name>\w+)(?P<or_empty>:?)-(?P<default>[^}]*)\}"
    assert SERVICES[service]["env_file"] == [{"path": ".env", "required": False}]
    written = {name: re.sub(reference, fill_in, value) for name, value in SERVICES[service]["environment"].items()}
    assert not any("$" in value for value in written.values())
    return env_file | written


@pytest.mark.parametrize("service", ["scheduler", "worker", "worker-gpu", "search"])
def test_the_store_is_the_one_that_the_settings_name(service: str) -> None:
    embedded = environment_of(service, {})
    elsewhere = {
        "TRAILER_STORE_ENDPOINT_URL": "", "TRAILER_STORE_BUCKET": "mine", "TRAILER_STORE_REGION": "eu-west-1",
        "TRAILER_STORE_PREFIX": "films/",
    }  # fmt: skip
    on_aws = environment_of(service, elsewhere)
    for variables, url, bucket in ((embedded, "http://store:8333", "trailers"), (on_aws, "", "mine")):
        found = load_settings(variables).store
        assert (found.endpoint_url, found.bucket) == (url, bucket)
        if service != "search":
            assert variables["AWS_ENDPOINT_URL_S3"] == url
    if service != "search":
        assert on_aws["AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER"] == "s3://mine/films/logs"
        assert on_aws["AWS_DEFAULT_REGION"] == "eu-west-1"
    waits_for = SERVICES["init" if service != "search" else service]["depends_on"]["store"]
    assert waits_for["required"] is False


def test_a_secret_file_becomes_a_variable(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "SOME_KEY").write_text("of the file")
    (secrets / "OTHER_KEY").write_text("of the file")
    (secrets / "postgres_password").write_text("stays a file")
    entrypoint = (DOCKER / "entrypoint").read_text().replace("/run/secrets", str(secrets))
    found = subprocess.run(
        ["sh", "-c", entrypoint, "entrypoint", "env"],
        env={"PATH": "/usr/bin:/bin", "OTHER_KEY": "of the environment"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    variables = dict(line.split("=", 1) for line in found.stdout.splitlines())
    assert variables["SOME_KEY"] == "of the file"
    assert variables["OTHER_KEY"] == "of the environment"
    assert "postgres_password" not in variables


def test_the_image_has_a_value_for_every_name_of_the_template() -> None:
    template = (DOCKER.parent / "airflow.cfg.template").read_text()
    wanted = {name for _, name, *_ in string.Template.pattern.findall(template) if name}
    assert wanted == set(json.loads((DOCKER / "airflow.json").read_text()))
    command = [DOCKER / "render-config", DOCKER / "airflow.json", DOCKER.parent / "airflow.cfg.template"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "executor = CeleryExecutor" in found.stdout
    assert "$" not in re.sub(r"#.*", "", found.stdout)
