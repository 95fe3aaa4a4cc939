"""A thousand requests made from the description of the API, valid and invalid: none is too much for it."""

import tempfile

import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as with_settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

N_REQUESTS = 1000
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
MISREAD = {"/api/v1/duplicates": [response_schema_conformance]}  # its pairs are prefixItems, which schemathesis lacks


def send_many(operation, mode: GenerationMode, n: int, url: str) -> int:
    """Send up to `n` different requests; how many there were."""
    sent = []

    @given(case=operation.as_strategy(generation_mode=mode))
    @with_settings(
        max_examples=n,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def send(case):
        sent.append(case)
        response = case.call(base_url=url, timeout=30)
        case.validate_response(response, checks=CHECKS, excluded_checks=MISREAD.get(operation.path, []))
        assert b"root:x:" not in response.content
        assert b"Traceback" not in response.content

    send()
    return len(sent)


def test_no_request_is_a_server_error_or_answered_against_the_description(
    serve, world, put_champion, tmp_path, monkeypatch
) -> None:
    put_champion()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    served = serve()
    schema = schemathesis.openapi.from_url(f"{served.url}/api/v1/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    varied = [each for each in operations if each.definition.raw.get("parameters")]
    assert len(operations) >= 15
    assert len(varied) >= 9
    n_sent = sum(send_many(each, GenerationMode.POSITIVE, 1, served.url) for each in operations)
    n_each = N_REQUESTS // (2 * (len(varied) - 1)) + 1
    for operation in varied:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            n_sent += send_many(operation, mode, n_each, served.url)
    assert n_sent >= N_REQUESTS
    assert list((tmp_path / "scratch").iterdir()) == []
