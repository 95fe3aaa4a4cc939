"""What watches it: the board and the alerts ask for nothing that nobody exposes, and every alert says what to do."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import airflow
import pytest
import yaml

from trailer_airflow.stages import COUNTERS

PROJECT = Path(__file__).parents[2]
WATCH = PROJECT / "docker" / "watch"
BOARD = json.loads((WATCH / "grafana" / "trailer-ml.json").read_text())
ALERTS = [rule for group in yaml.safe_load((WATCH / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
QUERIES = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
ASKED = {
    name
    for text in [*QUERIES, *(rule["expr"] for rule in ALERTS)]
    for name in re.findall(r"\b\w*_ml_\w+|\bairflow_\w+", text)
}
OF_THE_SERVICE = {name for name in ASKED if name.startswith("trailer_ml_")}
COMPOSE = yaml.safe_load((PROJECT / "docker" / "compose.yaml").read_text())


def exposed_by_airflow() -> set[str]:
    """As statsd_exporter shows what Airflow says it sends: dots become underscores, a timer a sum and a count."""
    path = Path(airflow.__file__).parent / "_shared" / "observability" / "metrics" / "metrics_template.yaml"
    found = set()
    for metric in yaml.safe_load(path.read_text())["metrics"]:
        name = "airflow_" + metric["name"].replace(".", "_")
        found |= {f"{name}_sum", f"{name}_count"} if metric["type"] == "timer" else {name}
    return found


def test_every_figure_of_airflow_that_is_asked_for_is_one_that_it_sends() -> None:
    ours = {f"airflow_trailer_ml_{name}" for name in COUNTERS}
    asked = ASKED - OF_THE_SERVICE
    assert len(asked) > 10
    assert asked - ours <= exposed_by_airflow()
    assert ours <= asked  # what tasks tell is looked at


def test_airflow_sends_them_as_the_exporter_reads_them() -> None:
    """Without tags beside the names there would be a name for each DAG and task, and none of those on the board."""
    template = (PROJECT / "airflow.cfg.template").read_text()
    assert "statsd_influxdb_enabled = True" in template
    assert "legacy_names_on = False" in template
    environment = COMPOSE["services"]["scheduler"]["environment"]
    assert environment["AIRFLOW__METRICS__STATSD_HOST"] in COMPOSE["services"]


def test_every_alert_speaks_of_what_it_names_and_of_nothing_else() -> None:
    """By what Prometheus itself makes of series of each kind: alerts.test.yml."""
    promtool = shutil.which("promtool")
    assert promtool, "promtool is not here; fix: .ci/system-packages"
    for what in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]):
        found = subprocess.run([promtool, *what], cwd=WATCH, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout + found.stderr
    tests = yaml.safe_load((WATCH / "alerts.test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test.get("alert_rule_test", []) if case.get("exp_alerts")}
    assert fired == {rule["alert"] for rule in ALERTS}


def test_every_query_of_the_board_is_one() -> None:
    groups = [{"name": "board", "rules": [{"record": "a", "expr": query} for query in QUERIES]}]
    found = subprocess.run(
        ["promtool", "check", "rules", "--lint=none", "/dev/stdin"], input=yaml.safe_dump({"groups": groups}),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"{len(QUERIES)} rules found" in found.stdout, found.stdout + found.stderr


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_it_means_and_what_to_do(rule: dict) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"]
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (PROJECT / page).read_text(), re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


def test_the_board_can_be_loaded() -> None:
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids)) == len(BOARD["panels"]) > 10
    (source,) = yaml.safe_load((WATCH / "grafana" / "datasource.yml").read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in BOARD["panels"]} == {source["uid"]}
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in BOARD["panels"]}
    assert len(places) == len(ids)


def test_what_is_scraped_and_mounted_is_there() -> None:
    services = COMPOSE["services"]
    for job in yaml.safe_load((WATCH / "prometheus.yml").read_text())["scrape_configs"]:
        for target in job["static_configs"][0]["targets"]:
            assert target.partition(":")[0] in services
    for name in ("prometheus", "grafana"):
        for mount in services[name]["volumes"]:
            if mount.startswith("./"):
                assert (PROJECT / "docker" / mount.partition(":")[0]).is_file(), mount
