"""Kubernetes: the values say what airflow.cfg.template says, secrets come from Secrets, manifests fit their schemas."""

import configparser
import json
import re
import string
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from trailer_ml.errors import SettingsError
from trailer_ml.settings import load_settings

PROJECT = Path(__file__).parents[2]
HELM = PROJECT / "docker" / "helm"
VALUES = yaml.safe_load((HELM / "values.yaml").read_text())
MANIFESTS = {each["kind"]: each for each in yaml.safe_load_all((HELM / "search.yaml").read_text())}
COMPOSE = yaml.safe_load((PROJECT / "docker" / "compose.yaml").read_text())

OF_THE_CHART = {  # what it writes itself, from other values or the names of its Services
    ("core", "executor"), ("core", "execution_api_server_url"), ("core", "simple_auth_manager_users"),
    ("core", "simple_auth_manager_passwords_file"), ("api", "host"), ("api", "port"), ("api", "base_url"),
    ("logging", "base_log_folder"),
}  # fmt: skip


def closed(**properties: Any) -> dict[str, Any]:
    """A schema of an object that has these properties, all of them or fewer, and no others."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


TEXT = {"type": "string", "minLength": 1}
NUMBER = {"type": "integer", "minimum": 0}
OFF = closed(enabled={"const": False})
QUANTITY = {"type": ["string", "integer"], "pattern": r"^\d+(m|[KMGT]i)?$"}
QUANTITIES = {"type": "object", "additionalProperties": QUANTITY}
RESOURCES = closed(requests=QUANTITIES, limits=QUANTITIES)
VARIABLES = {"type": "array", "items": closed(name=TEXT, value={"type": "string"})}
WORKERS = {
    "queue": TEXT, "replicas": NUMBER, "persistence": OFF, "terminationGracePeriodSeconds": NUMBER,
    "resources": RESOURCES, "logGroomerSidecar": closed(requirePersistence={"const": False}), "env": VARIABLES,
}  # fmt: skip
GPU_SET = {
    "name": TEXT,
    "nodeSelector": {"type": "object", "additionalProperties": TEXT},
    "tolerations": {"type": "array", "items": closed(key=TEXT, operator={"enum": ["Exists", "Equal"]}, effect=TEXT)},
}
SECTION = {"type": "object", "additionalProperties": {"type": "string"}}
SCHEMA = {
    **closed(
        executor=TEXT, airflowVersion=TEXT, defaultAirflowRepository=TEXT, defaultAirflowTag=TEXT,
        enableServiceLinks={"const": False}, postgresql=OFF, redis=OFF,
        data=closed(**dict.fromkeys(("metadataSecretName", "resultBackendSecretName", "brokerUrlSecretName"), TEXT)),
        fernetKeySecretName=TEXT, apiSecretKeySecretName=TEXT, jwtSecretName=TEXT,
        secret={"type": "array", "items": closed(envName=TEXT, secretName=TEXT, secretKey=TEXT)},
        env=VARIABLES,
        config={"type": "object", "additionalProperties": SECTION},
        dags=closed(persistence=OFF, gitSync=OFF), logs=closed(persistence=OFF), triggerer=closed(persistence=OFF),
        createUserJob=OFF,
        workers=closed(celery=closed(
            enableDefault={"const": True}, **WORKERS,
            sets={"type": "array", "items": closed(**WORKERS, **GPU_SET) | {"required": ["name", "queue"]}},
        )),
        statsd=closed(enabled={"const": True}),
    ),
}  # fmt: skip
"""The part of the chart's values that is used here, written by hand after the schema of chart 1.22.0."""


def test_the_values_are_of_the_shape_that_the_chart_documents() -> None:
    jsonschema.validate(VALUES, SCHEMA)


def test_the_configuration_is_that_of_the_template() -> None:
    template = (PROJECT / "airflow.cfg.template").read_text()
    names = json.loads((PROJECT / "docker" / "airflow.json").read_text())
    written = configparser.ConfigParser(interpolation=None)
    written.read_string(string.Template(template).substitute(names))
    expected = {
        (section, name): value
        for section in written.sections()
        for name, value in written[section].items()
        if (section, name) not in OF_THE_CHART
    }
    said = {(section, name): value for section, options in VALUES["config"].items() for name, value in options.items()}
    said_besides = {
        ("core", "auth_manager"): COMPOSE["services"]["scheduler"]["environment"]["AIRFLOW__CORE__AUTH_MANAGER"]
    }
    assert said == expected | said_besides


def test_training_has_workers_of_its_own_on_nodes_with_a_gpu() -> None:
    celery = VALUES["workers"]["celery"]
    (gpu,) = celery["sets"]
    assert {celery["queue"], gpu["queue"]} == {"default", "gpu"}
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in celery["resources"]["limits"]
    assert gpu["nodeSelector"]
    assert VALUES["defaultAirflowTag"] == COMPOSE["services"]["worker-gpu"]["image"].partition(":")[2]


def test_every_secret_is_a_reference_and_named_on_top() -> None:
    text = (HELM / "values.yaml").read_text()
    names = {*VALUES["data"].values(), *(VALUES[f"{name}SecretName"] for name in ("fernetKey", "apiSecretKey"))}
    names |= {VALUES["jwtSecretName"], *(entry["secretName"] for entry in VALUES["secret"])}
    for entry in MANIFESTS["Deployment"]["spec"]["template"]["spec"]["containers"][0]["env"]:
        if re.search("KEY|SECRET|PASSWORD", entry["name"]):
            names.add(entry["valueFrom"]["secretKeyRef"]["name"])
    head = text[: text.index("executor:")]
    assert len(names) == 8
    assert all(f" {name} " in head for name in names)
    assert not re.search(r"://[^/\s:]+:[^@\s]+@", text)


@pytest.mark.parametrize("kind", ["Deployment", "Service"])
def test_a_manifest_fits_its_schema_and_the_other(kind: str) -> None:
    manifest = MANIFESTS[kind]
    for version in ("1.31", "1.37"):
        kubernetes_validate.validate(manifest, version, strict=True)
    labels = MANIFESTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selector = manifest["spec"]["selector"]
    assert (selector.get("matchLabels") or selector) == labels


def test_no_pod_is_told_of_services_by_variables() -> None:
    """They would begin as our settings do, and one that is no setting is an error."""
    name = MANIFESTS["Service"]["metadata"]["name"].upper().replace("-", "_")
    with pytest.raises(SettingsError, match=f"{name}_PORT is not a setting"):
        load_settings({f"{name}_PORT": "tcp://10.0.0.1:8000"})
    assert VALUES["enableServiceLinks"] is False
    assert MANIFESTS["Deployment"]["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_a_worker_does_as_much_at_once_as_in_compose() -> None:
    celery = VALUES["workers"]["celery"]
    for workers, service in ((celery, "worker"), (*celery["sets"], "worker-gpu")):
        (variable,) = workers["env"]
        assert variable["name"] == "AIRFLOW__CELERY__WORKER_CONCURRENCY"
        command = COMPOSE["services"][service]["command"]
        assert variable["value"] == command[command.index("--concurrency") + 1]


def test_the_service_runs_as_in_compose() -> None:
    pod = MANIFESTS["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    service = COMPOSE["services"]["search"]
    assert container["args"] == service["command"]
    assert container["image"].endswith(service["image"])
    assert pod["securityContext"]["runAsUser"] == 50000
    (port,) = MANIFESTS["Service"]["spec"]["ports"]
    assert port["targetPort"] == container["ports"][0]["name"]
    variables = {entry["name"] for entry in container["env"]}
    assert set(service["secrets"]) <= variables


def test_every_pod_has_the_same_store() -> None:
    (container,) = MANIFESTS["Deployment"]["spec"]["template"]["spec"]["containers"]
    of_airflow = {entry["name"]: entry["value"] for entry in VALUES["env"]}
    of_search = {entry["name"]: entry.get("value") for entry in container["env"]}
    ours = {name: value for name, value in of_airflow.items() if name.startswith("TRAILER_STORE_")}
    assert ours == {name: value for name, value in of_search.items() if name.startswith("TRAILER_STORE_")}
    assert of_airflow["AWS_ENDPOINT_URL_S3"] == ours["TRAILER_STORE_ENDPOINT_URL"]
    assert of_airflow["AWS_DEFAULT_REGION"] == ours["TRAILER_STORE_REGION"]
    logs = VALUES["config"]["logging"]["remote_base_log_folder"]
    assert logs == f"s3://{ours['TRAILER_STORE_BUCKET']}/logs"
