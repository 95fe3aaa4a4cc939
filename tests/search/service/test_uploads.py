"""Videos of strangers: matched when they are videos, refused with a reason when they are not, and nothing stays."""

import socket
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from trailer_ml.search.match import match_videos

MP4 = {"Content-Type": "video/mp4"}


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> Path:
    """Where temporary files go."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_a_video_is_matched_and_what_is_none_is_refused(
    serve, video_world, videos, bombs, settings, store, scratch
) -> None:
    served = serve()
    answer = served.client.post("/api/v1/match?k=3", content=videos["plasma-again"].read_bytes(), headers=MP4)
    assert answer.status_code == 200, answer.text
    (expected,) = match_videos([videos["plasma-again"]], settings, store, k=3, one_per_film=True)
    assert [each["trailer_id"] for each in answer.json()["neighbours"]] == [
        each.trailer_id for each in expected.neighbours
    ]
    assert answer.json()["neighbours"][0]["title"] == "plasma"
    looking = served.app.state.service.looking
    child = looking._child.process.pid
    for body, reason in (
        (b"<!doctype html><script>alert(1)</script>" * 99, "not_a_video"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "not_a_video"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "not_a_video"),
        (make_zip_bomb(scratch.parent), "not_a_video"),
        (videos["bars"].read_bytes()[:3000], "corrupt"),
        *((path.read_bytes(), reason) for path, reason in bombs.values()),
    ):
        answer = served.client.post("/api/v1/match", content=body, headers=MP4)
        assert (answer.status_code, answer.json()["reason"]) == (422, reason)
        assert "root:" not in answer.text
        assert str(scratch) not in answer.text
    assert looking._child.process.pid == child  # none of them cost the process that looks
    looking._child.kill()  # and when it dies, it costs one answer
    assert served.client.post("/api/v1/match", content=videos["test"].read_bytes(), headers=MP4).status_code == 503
    assert list(scratch.rglob("*upload*")) == list(scratch.rglob("*.mp4")) == []


def make_zip_bomb(folder: Path) -> bytes:
    """64 MiB of zeros in 64 kB."""
    with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("trailer.mp4", bytes(64 * 2**20))
    return (folder / "bomb.zip").read_bytes()


def test_what_is_too_large_or_of_another_kind_is_refused_unread(serve, world, scratch) -> None:
    served = serve(max_upload_bytes=1000)
    for headers, status in (
        (MP4 | {"Content-Length": str(2 * 2**30)}, 413),
        (MP4 | {"Content-Length": "1001"}, 413),
        (MP4 | {"Transfer-Encoding": "chunked"}, 411),
        (MP4 | {"Content-Length": "0"}, 400),
        ({"Content-Type": "text/html", "Content-Length": "10"}, 415),
        ({"Content-Length": "10"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x", "Content-Length": "10"}, 415),
    ):
        assert post_head(served.url, headers) == status, headers
    assert list(scratch.iterdir()) == []


def post_head(url: str, headers: dict[str, str]) -> int:
    """The status that is answered when only the head of a request was sent."""
    parts = urlsplit(url)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        connection.sendall(f"POST /api/v1/match HTTP/1.1\r\nHost: {parts.netloc}\r\n{lines}\r\n".encode())
        return int(connection.recv(20).split()[1])


def test_too_many_at_once_are_told_to_come_again_and_slow_ones_are_left(serve, world, scratch) -> None:
    served = serve(max_matches=1, upload_timeout_s=3.0)
    slow: list[int] = []
    thread = threading.Thread(target=lambda: slow.append(post_head(served.url, MP4 | {"Content-Length": "500"})))
    thread.start()
    deadline = time.monotonic() + 3
    while not list(scratch.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    answer = served.client.post("/api/v1/match", content=b"x", headers=MP4)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    thread.join()
    assert slow == [408]
    assert list(scratch.iterdir()) == []
