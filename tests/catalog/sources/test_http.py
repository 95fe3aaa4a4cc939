import datetime as dt
import gzip
import json
import logging
import re
import socket
import sqlite3
import time
import traceback
from collections.abc import Callable, Iterator
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from trailer_ml.catalog.http import ApiClient, JsonObject, read_key
from trailer_ml.errors import (
    LocalFaultError,
    RateLimitedError,
    SettingsError,
    SourceBlockedError,
    SourceUnavailableError,
)
from trailer_ml.settings import Settings

KEY = "s3cr3t-k3y-0123456789"
SETTING = "TRAILER_SOURCES_TMDB_BEARER"


class Page(BaseModel):
    page: int


@pytest.fixture
def ask(make_settings: Callable[..., Settings]) -> Callable[..., Any]:
    """Asks once with a client of its own, as every crawl does."""

    def ask(path: str = "/films", *, key: str = "", is_needed: bool = True, **settings: Any) -> Any:
        made = make_settings(**settings)
        secret = {"Authorization": f"Bearer {key}", "X-Api-Key": key} if key else {}
        with ApiClient(
            "tmdb", made.sources.tmdb_url, made, secret_headers=secret, key_setting=SETTING if key else ""
        ) as client:
            answer = (client.get if is_needed else client.find)(path, {"page": 1}, Page)
        return answer.page if answer else None

    return ask


def test_says_who_it_is_and_keeps_no_cookie(api: Any, make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    api.put("/films", {}, headers={"Set-Cookie": "visitor=1; Path=/"})
    with ApiClient("tmdb", api.url, settings) as client:
        for _ in range(2):
            client.get("/films", {}, JsonObject)
    assert [request.headers["User-Agent"] for request in api.asked] == [settings.catalog.user_agent] * 2
    assert "Cookie" not in api.asked[1].headers


def test_what_may_be_kept_is_asked_for_once(api: Any, ask: Callable[..., Any]) -> None:
    api.put("/films", {"page": 7}, headers={"Cache-Control": "public, max-age=600"})
    assert [ask(), ask()] == [7, 7]
    assert len(api.asked) == 1


def test_what_has_not_changed_is_not_sent_again(api: Any, ask: Callable[..., Any]) -> None:
    api.put("/films", {"page": 7}, headers={"ETag": '"v1"', "Cache-Control": "max-age=0"})
    assert [ask(), ask()] == [7, 7]
    assert [request.headers.get("If-None-Match") for request in api.asked] == [None, '"v1"']
    api.replace("/films", {"page": 8}, headers={"ETag": '"v2"'})
    assert [ask(), ask()] == [8, 8]
    assert [request.headers.get("If-None-Match") for request in api.asked[2:]] == ['"v1"', '"v2"']


@pytest.mark.parametrize(
    ("headers", "n_kept"),
    [({}, 0), ({"Cache-Control": "no-store", "ETag": '"v1"'}, 0), ({"Expires": "0"}, 1), ({"Expires": "-1"}, 1)],
)
def test_what_may_not_be_used_again_is_not(
    api: Any, ask: Callable[..., Any], tmp_path: Path, headers: Any, n_kept: int
) -> None:
    api.put("/films", {"page": 7}, headers=headers)
    assert [ask(), ask()] == [7, 7]
    assert len(api.asked) == 2
    assert count_kept(tmp_path) == n_kept


@pytest.mark.parametrize("status", [404, 500, 203])
def test_only_a_200_is_kept(api: Any, ask: Callable[..., Any], status: int) -> None:
    kept = {"Cache-Control": "max-age=600", "ETag": '"v1"'}
    for _ in range(4 if status == 500 else 1):
        api.put("/films", {"page": 6}, status=status, headers=kept)
    api.put("/films", {"page": 7})
    with pytest.raises(SourceUnavailableError, match=re.compile(f"404|status {status}")):
        ask()
    assert ask() == 7


@pytest.mark.parametrize("body", [b"<html>Sorry</html>", b'{"page": 1', b'{"page": "many"}', b"[]", b""])
def test_an_answer_in_no_known_shape_is_an_error_and_is_not_kept(
    api: Any, ask: Callable[..., Any], body: bytes
) -> None:
    api.put("/films", body, headers={"Cache-Control": "max-age=600"})
    with pytest.raises(SourceUnavailableError, match="shape that is not known") as caught:
        ask()
    assert "many" not in str(caught.value) and "\n" not in str(caught.value)
    api.replace("/films", {"page": 7})
    assert ask() == 7


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_a_setting_to_mend(api: Any, ask: Callable[..., Any], status: int) -> None:
    api.put("/films", {"status_code": 7, "status_message": f"Invalid API key: {KEY}"}, status=status)
    with pytest.raises(SettingsError, match=SETTING):
        ask(key=KEY)
    with pytest.raises(SourceBlockedError, match=str(status)):
        ask()
    assert len(api.asked) == 2


def test_what_is_not_there_is_none_where_that_may_be(api: Any, ask: Callable[..., Any]) -> None:
    assert ask(is_needed=False) is None
    with pytest.raises(SourceUnavailableError, match="404"):
        ask()


def test_a_short_wait_is_waited_for(api: Any, ask: Callable[..., Any]) -> None:
    api.put("/films", {}, status=429, headers={"Retry-After": "1"})
    api.put("/films", {"page": 7})
    assert ask(max_wait_s=2) == 7
    assert api.asked[1].at_s - api.asked[0].at_s >= 0.95


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("is_date", [False, True])
def test_a_long_wait_is_not(api: Any, ask: Callable[..., Any], status: int, is_date: bool) -> None:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    api.put("/films", {}, status=status, headers={"Retry-After": format_datetime(later) if is_date else "3600"})
    with pytest.raises(RateLimitedError) as caught:
        ask()
    assert caught.value.retry_after_s == pytest.approx(3600, abs=60)
    assert len(api.asked) == 1


@pytest.mark.parametrize(("headers", "expected_s"), [({}, 60.0), ({"Retry-After": "0.01"}, 0.01)])
def test_who_never_stops_asking_us_to_wait(api: Any, ask: Callable[..., Any], headers: Any, expected_s: float) -> None:
    api.put("/films", {}, status=429, headers=headers)
    with pytest.raises(RateLimitedError) as caught:
        ask()
    assert caught.value.retry_after_s == expected_s
    assert len(api.asked) == 4


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "soon"}])
def test_what_fails_for_a_moment_is_tried_again(api: Any, ask: Callable[..., Any], headers: Any) -> None:
    for status in (500, 502, 503):
        api.put("/films", {}, status=status, headers=headers)
    api.put("/films", {"page": 7})
    assert ask() == 7
    assert len(api.asked) == 4


def test_what_fails_for_ever_is_an_error(api: Any, ask: Callable[..., Any]) -> None:
    api.put("/films", {}, status=503)
    with pytest.raises(SourceUnavailableError, match="status 503"):
        ask()
    assert len(api.asked) == 4


def test_a_body_that_breaks_off_is_asked_for_once_more(api: Any, ask: Callable[..., Any]) -> None:
    api.put("/films", {"page": 7}, is_cut=True)
    api.put("/films", {"page": 7})
    assert ask() == 7
    api.replace("/films", {"page": 7}, is_cut=True)
    with pytest.raises(SourceUnavailableError, match="does not answer"):
        ask()
    assert len(api.asked) == 4


@pytest.mark.parametrize("headers", [{"Expires": "never"}, {"Cache-Control": f"max-age={10**15}"}])
def test_headers_that_make_no_sense(api: Any, ask: Callable[..., Any], headers: Any) -> None:
    api.put("/films", {"page": 7}, headers=headers)
    with pytest.raises(SourceUnavailableError, match="headers"):
        ask()


def test_nobody_there(ask: Callable[..., Any]) -> None:
    with socket.socket() as held:  # bound and not listening: nobody else gets the port
        held.bind(("127.0.0.1", 0))
        with pytest.raises(SourceUnavailableError, match=r"does not answer \(ConnectionError\)"):
            ask(tmdb_url=f"http://127.0.0.1:{held.getsockname()[1]}")


def test_somebody_who_never_answers(ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trailer_ml.catalog.http._TIMEOUTS_S", (5.0, 0.05))
    silent = socket.create_server(("127.0.0.1", 0))
    with silent, pytest.raises(SourceUnavailableError, match="does not answer"):
        ask(tmdb_url=f"http://127.0.0.1:{silent.getsockname()[1]}")


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_not_followed(api: Any, ask: Callable[..., Any], status: int) -> None:
    host = api.url.replace("127.0.0.1", "localhost")
    api.put("/films", {}, status=status, headers={"Location": f"{host}/elsewhere?api_key={KEY}"})
    api.put("/elsewhere", {"page": 7})
    with pytest.raises(SourceUnavailableError, match="sends us to localhost") as caught:
        ask(key=KEY)
    assert api.paths() == ["/films"] and KEY not in str(caught.value)


@pytest.mark.parametrize("location", ["/elsewhere", "http://[", ""])
def test_a_redirect_that_leads_nowhere(api: Any, ask: Callable[..., Any], location: str) -> None:
    api.put("/films", {}, status=302, headers={"Location": location})
    with pytest.raises(SourceUnavailableError, match=r"another path|headers that cannot be read"):
        ask()


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_body_has_a_limit_also_when_it_is_packed(api: Any, ask: Callable[..., Any], is_packed: bool) -> None:
    body = b" " * (33 * 2**20)
    packed = {"Content-Encoding": "gzip"} if is_packed else {}
    api.put("/films", gzip.compress(body, 1) if is_packed else body, headers=packed)
    with pytest.raises(SourceUnavailableError, match="32 MiB"):
        ask()


@pytest.mark.parametrize("is_failing", [False, True])
def test_the_pace_is_kept_also_when_trying_again(
    api: Any, make_settings: Callable[..., Settings], is_failing: bool
) -> None:
    api.put("/films", {}, status=500 if is_failing else 200)
    started_s = time.monotonic()
    with ApiClient("tmdb", api.url, make_settings(requests_per_s=10.0)) as client:
        if is_failing:
            with pytest.raises(SourceUnavailableError):
                client.get("/films", {}, JsonObject)
        else:
            for _ in range(4):
                client.get("/films", {}, JsonObject)
    assert len(api.asked) == 4
    assert time.monotonic() - started_s >= 0.3  # a gap after each but the last


def test_the_key_is_sent_and_seen_nowhere_else(
    api: Any, ask: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    api.put("/films", {"page": 7}, headers={"ETag": '"v1"', "Vary": "Authorization"})
    assert [ask(key=KEY), ask(key=KEY)] == [7, 7]
    assert {request.headers["Authorization"] for request in api.asked} == {f"Bearer {KEY}"}
    assert count_kept(tmp_path) == 1
    said = caplog.text
    for how in ({"status": 403}, {"status": 503}, {"status": 429}, {"is_cut": True}, {"status": 302}):
        api.replace("/films", {"no": "page"}, **how)
        with pytest.raises((SettingsError, SourceUnavailableError, RateLimitedError)) as caught:
            ask(key=KEY)
        said += "".join(traceback.format_exception(caught.value)) + "".join(say_all(caught.value))
    with socket.socket() as held:  # bound and not listening
        held.bind(("127.0.0.1", 0))
        with pytest.raises(SourceUnavailableError) as caught:
            ask(key=KEY, tmdb_url=f"http://127.0.0.1:{held.getsockname()[1]}")
    said += caplog.text + "".join(say_all(caught.value))
    assert "Bearer" not in said and KEY not in said
    assert all(KEY.encode() not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def say_all(error: BaseException | None) -> Iterator[str]:
    """What an error holds, down to its first cause."""
    while error:
        request = getattr(error, "request", None)
        yield f"{error!r} {vars(error)} {getattr(request, 'headers', '')} {getattr(request, 'url', '')}"
        error = error.__context__


@pytest.mark.parametrize("key", ["two words", "a\nb", "schlüssel", "a\x00b"])
def test_what_cannot_be_a_key_is_not_said(key: str) -> None:
    with pytest.raises(SettingsError, match=SETTING) as caught:
        read_key(SecretStr(key), SETTING)
    assert key not in str(caught.value)


def test_a_key_may_end_with_the_line_it_was_read_from() -> None:
    assert read_key(SecretStr(f" {KEY}\n"), SETTING) == KEY
    assert (read_key(SecretStr(""), SETTING), read_key(None, SETTING)) == ("", "")


@pytest.mark.parametrize(
    "url",
    [
        "", "api.example.org", "ftp://example.org", "file:///etc/passwd", "https://", "https://example.org:port/",
        f"https://name:{KEY}@example.org", f"https://example.org/3?api_key={KEY}", f"https://example.org/#{KEY}",
    ],
)  # fmt: skip
def test_an_address_that_is_none(ask: Callable[..., Any], url: str) -> None:
    with pytest.raises(SettingsError, match="TRAILER_SOURCES_TMDB_URL") as caught:
        ask(tmdb_url=url)
    assert KEY not in str(caught.value)


def test_the_answers_of_another_quarter_are_deleted(api: Any, ask: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "tmdb-2019-q3.sqlite").write_bytes(b"old")
    (folder / "tmdb-2019-q3.sqlite-wal").write_bytes(b"old")
    (folder / "wikidata-2019-q3.sqlite").write_bytes(b"of another source")
    api.put("/films", {"page": 7})
    ask()
    today = dt.datetime.now(dt.UTC)
    assert {file.name for file in folder.iterdir()} == {
        f"tmdb-{today.year}-q{(today.month - 1) // 3 + 1}.sqlite",
        "wikidata-2019-q3.sqlite",
    }


def test_a_cache_that_cannot_be_used(
    api: Any, ask: Callable[..., Any], make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    api.put("/films", {"page": 7}, headers={"ETag": '"v1"'})
    ask()
    file = next((tmp_path / "cache").glob("*.sqlite"))
    file.write_bytes(b"this is no data base" * 100)
    with pytest.raises(LocalFaultError, match="delete it"):
        ask()
    file.unlink()
    settings = make_settings()
    with ApiClient("tmdb", api.url, settings) as client:
        file.write_bytes(b"this is no data base" * 1000)  # in the middle of a crawl
        with pytest.raises(LocalFaultError, match="delete it"):
            client.get("/films", {}, Page)
    file.unlink()
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(LocalFaultError, match="cannot be used"):
        ask(cache_folder=tmp_path / "file")


def count_kept(tmp_path: Path) -> int:
    """How many answers lie in the cache, each with what was asked in plain sight."""
    file = next((tmp_path / "cache").glob("*.sqlite"))
    connection = sqlite3.connect(file)
    try:
        rows = connection.execute("SELECT value FROM responses").fetchall()
    finally:
        connection.close()
    assert all(json.loads(value)["request"]["method"] == "GET" for (value,) in rows)
    return len(rows)
