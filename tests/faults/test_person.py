"""A run that is late, one that failed, and a person's yes: deadline, notifier, question, StatsD, all in one Airflow.

What happens, and in which order, is in conftest.py. Before the tests of secrets: the notifier's address is one.
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from trailer_ml.index.stored import read_pointer

if TYPE_CHECKING:
    from tests.faults.conftest import Asked
    from tests.faults.running import Cluster, Watch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

WATCH = Path(__file__).parents[2] / "docker" / "watch"
ALERTS = [rule for group in yaml.safe_load((WATCH / "alerts.yml").read_text())["groups"] for rule in group["rules"]]


def test_a_yes_serves_the_index_that_was_judged_worse(asked: "Asked", cluster: "Cluster") -> None:
    assert asked.conf["kind"] == "index"
    assert asked.conf["against"] == asked.served_before
    seen = read_pointer(cluster.store)
    assert seen is not None
    assert seen.pointer.version == asked.conf["version"] != asked.served_before


def test_somebody_is_told_of_each_once_and_of_nothing_else(asked: "Asked", webhook: Any) -> None:
    question = f"index-{asked.conf['version']}-for-{asked.served_before}"
    told = {(each["event"], each["dag_id"], each["run_id"]) for each in webhook.told}
    assert told == {
        ("late", "trailers_index", "worse"),
        ("waits", "trailers_approve", question),
        ("failed", "trailers_index", "worse"),
    }
    assert len(webhook.told) == 3


def test_all_that_the_board_and_the_alerts_ask_airflow_for_was_sent(asked: "Asked", counted: "Watch") -> None:
    """With the tags that the alerts' words name; a timer becomes a sum and a count."""
    sent: dict[str, set[str]] = {}
    for line in counted.end():
        name, *tags = line.partition("|")[0].split(",")
        name = name.replace(".", "_")
        for each in [f"{name}_sum", f"{name}_count"] if line.endswith("|ms") else [name]:
            sent.setdefault(each, set()).update(tag.partition("=")[0] for tag in tags)
    board = json.loads((WATCH / "grafana" / "trailer-ml.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked_for = set(re.findall(r"\bairflow_\w+", " ".join([*queries, *(rule["expr"] for rule in ALERTS)])))
    assert len(asked_for) > 10
    assert sorted(asked_for - sent.keys()) == []
    for rule in ALERTS:
        tags = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        for name in re.findall(r"\bairflow_\w+", rule["expr"]):
            assert tags <= sent[name], (rule["alert"], name)
