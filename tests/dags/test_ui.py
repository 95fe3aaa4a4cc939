"""The page inside Airflow's own UI, in Chromium: behind its login, in its frame."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import expect

from tests.search.service.conftest import picture, put_shard
from trailer_ml.index.build import build_index
from trailer_ml.index.publish import publish_index
from trailer_ml.records import BatchRef
from trailer_ml.shards.schema import encode_jpeg
from trailer_ml.storage import thumb_key


@contextlib.contextmanager
def serving(app: Any) -> Iterator[str]:
    """Airflow's API server on a port of loopback while the block runs."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        while not server.started and thread.is_alive():
            thread.join(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(60)


def admins_password() -> str:
    """As Airflow has made it."""
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    return json.loads(Path(SimpleAuthManager.get_generated_password_file()).read_text())["admin"]


@pytest.mark.filterwarnings("ignore:Using `httpx` with")  # by svcs, which Airflow imports
def test_the_page_is_in_its_frame_after_the_login_and_not_before(
    airflow_app, put_embedded, make_vectors, make_trailer, settings, store, browser, shots
) -> None:
    trailers = [make_trailer(number) for number in range(8)]
    put_embedded(make_vectors(8), trailers)
    put_shard(BatchRef(listed_on=trailers[0].listed_on, number=0), trailers, store)
    for trailer in trailers:
        store.put_bytes(thumb_key(trailer.trailer_id), encode_jpeg(picture(trailer, 3), 90), "image/jpeg")
    publish_index(build_index(settings, store).version, settings, store)
    with serving(airflow_app) as url, browser.new_context(viewport={"width": 1280, "height": 860}) as context:
        page, failed = context.new_page(), []
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.goto(f"{url}/plugin/trailers")
        expect(page.locator("input[name=username]")).to_be_visible()
        page.fill("input[name=username]", "admin")
        page.fill("input[name=password]", admins_password())
        page.keyboard.press("Enter")
        frame = page.frame_locator("iframe")
        expect(frame.locator(".card")).to_have_count(8)
        expect(frame.locator(".card img")).to_have_count(8)  # a picture that does not come is taken out
        page.screenshot(path=shots / "airflow-desktop-light.png")
        frame.locator(f".card a[href$='{trailers[3].trailer_id}']").click()
        expect(frame.locator("h1")).to_have_text(trailers[3].title)
        # The frame opens no other window, so there is no link that would do nothing.
        expect(frame.get_by_text(trailers[3].source_url)).to_be_visible()
        expect(frame.locator("a[target]")).to_have_count(0)
        page.screenshot(path=shots / "airflow-trailer-desktop-light.png")
        assert failed == []
