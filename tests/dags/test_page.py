"""The page inside Airflow: nothing of it without a login, all of it with one."""

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import httpx
import pytest

from trailer_ml.settings import as_environment


@pytest.fixture
def airflow_app(airflow_database, settings, monkeypatch) -> Any:
    """Airflow's API server as an ASGI app, with our plugin mounted and the test's store behind it."""
    from airflow.api_fastapi.app import create_app

    for name, value in as_environment(settings).items():
        monkeypatch.setenv(name, value)
    key, secret = settings.store.access_key_id, settings.store.secret_access_key
    connection = {"conn_type": "aws", "login": key.get_secret_value(), "password": secret.get_secret_value()}
    monkeypatch.setenv("AIRFLOW_CONN_TRAILER_STORE", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "of these tests " * 5)
    app = create_app(apps="core")
    yield app
    if made := page_of(app)._app:
        made.state.service.stop()


def page_of(app: Any) -> Any:
    """What our plugin has mounted."""
    return next(route.app for route in app.routes if getattr(route, "path", "") == "/trailers")


@pytest.mark.filterwarnings("ignore:Using `httpx` with")  # by svcs, which Airflow imports
def test_nothing_is_shown_without_a_login_and_all_of_it_with_one(
    airflow_app, put_embedded, make_vectors, settings, store
) -> None:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    from trailer_ml.index.build import build_index
    from trailer_ml.index.publish import publish_index

    trailers = put_embedded(make_vectors(8))
    publish_index(build_index(settings, store).version, settings, store)
    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="admin", role="admin"))

    async def ask() -> None:
        transport = httpx.ASGITransport(airflow_app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://airflow.example") as stranger:
            assert (await stranger.get("/trailers/")).status_code == 401
            routes = [route for route in page_of(airflow_app)._app.routes if hasattr(route, "methods")]
            assert len(routes) > 25
            for route in routes:
                path = route.path.format(trailer_id=trailers[0].trailer_id, n=0, run="x")
                answer = await stranger.request(
                    min(route.methods), f"/trailers{path}", headers={"Content-Type": "video/mp4"}
                )
                assert answer.status_code == 401, path
            forged = await stranger.get("/trailers/", headers={"Authorization": "Bearer forged"})
            assert forged.status_code in {401, 403}
            stranger.cookies.set("_token", token)
            assert "<title>Trailer ML</title>" in (await stranger.get("/trailers/")).text
            answer = await stranger.get(f"/trailers/api/v1/trailers/{trailers[0].trailer_id}/similar")
            assert len(answer.json()["neighbours"]) == 7
            assert answer.headers["x-frame-options"] == "SAMEORIGIN"

    asyncio.run(ask())


def test_the_plugin_brings_nothing_of_the_service_before_it_is_asked() -> None:
    code = "import sys, trailer_airflow.plugin; print([name for name in sys.modules if name.startswith('trailer_ml.')])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": "plugins"},
    )
    assert done.stdout.splitlines()[-1] == "[]"
