"""Secrets were planted wherever one is set (running.py): after all that has happened none is where it can be read."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.faults.running import Cluster, Watch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


def find_secrets(texts: Iterator[tuple[str, bytes]], secrets: dict[str, str]) -> list[str]:
    """Where which one is, as it is or as the dump of a database has bytes."""
    needles = {name: (value.encode(), value.encode().hex().encode()) for name, value in secrets.items()}
    return [f"{name} in {where}" for where, text in texts for name, forms in needles.items() if any(
        form in text for form in forms)]  # fmt: skip


def test_none_is_in_a_file_of_a_component(moments: object, cluster: "Cluster") -> None:
    kept = {"secrets.json", "passwords.json"}
    paths = [path for path in cluster.airflow.home.rglob("*") if path.is_file() and path.name not in kept]
    assert sum(path.suffix == ".log" for path in paths) > 50
    assert find_secrets(((str(path), path.read_bytes()) for path in paths), cluster.secrets) == []


def test_none_is_in_the_store(moments: object, cluster: "Cluster") -> None:
    keys = list(cluster.store.list_keys(""))
    assert any(key.startswith("logs/") for key in keys)
    assert find_secrets(((key, cluster.store.read_bytes(key)) for key in keys), cluster.secrets) == []


def test_none_is_in_the_database(moments: object, cluster: "Cluster") -> None:
    """XComs, rendered templates, Connections and the audit log among the rest."""
    dump = cluster.run_at_database("pg_dump")
    for table in (b"public.xcom ", b"public.rendered_task_instance_fields ", b"public.celery_taskmeta "):
        assert b"COPY " + table in dump
    assert find_secrets(iter([("the database", dump)]), cluster.secrets) == []


def test_none_was_an_argument_or_a_title_of_a_process(moments: object, arguments: "Watch") -> None:
    assert arguments.end() == set()
    assert arguments.n_looks > 100
