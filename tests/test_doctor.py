"""The doctor looks for real: on this machine, and on one where something is broken."""

import http.server
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from trailer_ml.doctor import check_machine, require_machine
from trailer_ml.errors import LocalFaultError
from trailer_ml.records import Check
from trailer_ml.scratch import scratch_folder
from trailer_ml.settings import CatalogSettings, Settings
from trailer_ml.storage import Store


def _check(settings: Settings, store: Store) -> dict[str, Check]:
    return {check.name: check for check in check_machine(settings, store)}


@pytest.fixture
def consenting(settings: Settings) -> Settings:
    return settings.model_copy(update={"catalog": CatalogSettings(accept_terms=("imdb_html",))})


def test_this_machine_has_all_that_a_night_needs_and_the_store_is_left_as_it_was(
    consenting: Settings, store: Store
) -> None:
    checks = _check(consenting, store)
    assert [check for check in checks.values() if not check.is_ok] == []
    assert all(check.detail and not check.fix for check in checks.values())
    assert checks["javascript"].detail.startswith("deno 2.")
    assert list(store.list_keys("")) == []
    require_machine(consenting, store)


def test_what_is_broken_is_named_with_its_fix_and_the_rest_is_looked_at_all_the_same(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deno").write_text("#!/bin/sh\necho 2.1.0 42\n")
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\necho ffmpeg version 0.1 Copyright\n")
    for name in ("deno", "ffmpeg"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://127.0.0.1:9")
    broken = settings.model_copy(
        update={
            "store": settings.store.model_copy(update={"endpoint_url": "http://127.0.0.1:9"}),
            "features": settings.features.model_copy(update={"ffmpeg_path": str(tmp_path / "ffmpeg")}),
            "media": settings.media.model_copy(update={"min_free_bytes": 2**60}),
        }
    )
    checks = _check(broken, Store(broken.store))
    wrong = {name for name, check in checks.items() if not check.is_ok}
    assert wrong == {"javascript", "ffmpeg", "store", "clock", "disk", "sources", "airflow"}
    assert all(checks[name].fix and checks[name].detail for name in wrong)
    assert "2.1.0 is older" in checks["javascript"].detail
    assert "has no h264" in checks["ffmpeg"].detail
    assert "IMDb's conditions" in checks["sources"].detail
    with pytest.raises(LocalFaultError, match=r"not ready: javascript: .* \(fix: install deno"):
        require_machine(broken, Store(broken.store))
    without = broken.model_copy(update={"media": broken.media.model_copy(update={"allowed_extractors": ("generic",)})})
    assert _check(without, Store(broken.store))["javascript"].is_ok


def test_what_a_killed_run_left_is_removed_and_said(
    consenting: Settings, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder("trailer-ml-download-") as folder:
        name = folder.name
        assert _check(consenting, store)["leftovers"].detail == f"none in {tmp_path}"
        assert folder.exists()
    (tmp_path / name).mkdir()
    (tmp_path / name / "film.part").write_bytes(b"half")
    assert _check(consenting, store)["leftovers"].detail == f"1 removed from {tmp_path}"
    assert not (tmp_path / name).exists()


class _Forgetful(http.server.BaseHTTPRequestHandler):
    """An S3 that knows no conditions, as some do, and whose clock is wrong."""

    objects: dict[str, bytes] = {}  # noqa: RUF012

    def do_PUT(self) -> None:
        self.objects[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200)

    def do_GET(self) -> None:
        self._answer(200, self.objects[self.path])

    def do_DELETE(self) -> None:
        self._answer(204)

    def do_HEAD(self) -> None:
        self._answer(200)

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response_only(status)
        self.send_header("Date", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("ETag", '"x"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def forgetful() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Forgetful)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_store_without_conditional_writes_and_a_wrong_clock_are_found(settings: Settings, forgetful: str) -> None:
    where = settings.store.model_copy(update={"endpoint_url": forgetful})
    checks = _check(settings.model_copy(update={"store": where}), Store(where))
    assert "conditional writes (If-None-Match) are needed" in checks["store"].detail
    assert "ahead of the store's" in checks["clock"].detail


def test_no_secret_reaches_the_javascript_runtime(
    consenting: Settings, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deno").write_text(f"#!/bin/sh\nenv > {tmp_path}/seen\necho 2.9.8 42\n")
    (tmp_path / "deno").chmod(0o755)
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    assert _check(consenting, store)["javascript"].is_ok
    assert "canary" not in (tmp_path / "seen").read_text()
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "canary"
