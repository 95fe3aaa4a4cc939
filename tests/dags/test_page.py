"""The page inside Airflow: nothing of it without a login, all of it with one."""

import asyncio
import os
import subprocess
import sys

import httpx
import pytest


@pytest.mark.filterwarnings("ignore:Using `httpx` with")  # by svcs, which Airflow imports
def test_nothing_is_shown_without_a_login_and_all_of_it_with_one(
    airflow_app, admin_token, put_embedded, make_vectors, settings, store
) -> None:
    from trailer_ml.index.build import build_index
    from trailer_ml.index.publish import publish_index

    trailers = put_embedded(make_vectors(8))
    publish_index(build_index(settings, store).version, settings, store)

    async def ask() -> None:
        transport = httpx.ASGITransport(airflow_app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://airflow.example") as stranger:
            assert (await stranger.get("/trailers/")).status_code == 401
            await see_nothing(airflow_app, stranger, trailers[0].trailer_id, 401)
            forged = await stranger.get("/trailers/", headers={"Authorization": "Bearer forged"})
            assert forged.status_code in {401, 403}
            stranger.cookies.set("_token", token_without_a_role())
            await see_nothing(airflow_app, stranger, trailers[0].trailer_id, 403)
            stranger.cookies.clear()
            stranger.cookies.set("_token", admin_token)
            assert "<title>Trailer ML</title>" in (await stranger.get("/trailers/")).text
            answer = await stranger.get(f"/trailers/api/v1/trailers/{trailers[0].trailer_id}/similar")
            assert len(answer.json()["neighbours"]) == 7
            assert answer.headers["x-frame-options"] == "SAMEORIGIN"

    asyncio.run(ask())


async def see_nothing(app, client, trailer_id: str, status: int) -> None:
    """Whatever is asked for, the answer is this."""
    routes = [route for route in mounted(app)._app.routes if hasattr(route, "methods")]
    assert len(routes) > 25
    for route in routes:
        path = route.path.format(trailer_id=trailer_id, n=0, run="x", ad="x")
        answer = await client.request(min(route.methods), f"/trailers{path}", headers={"Content-Type": "video/mp4"})
        assert answer.status_code == status, path


def token_without_a_role() -> str:
    """Of somebody who is logged in and may see no DAG."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    return get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="somebody", role=None))


def mounted(app):
    return next(route.app for route in app.routes if getattr(route, "path", "") == "/trailers")


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
