"""Who is let in: names, keys, sessions, rates; and what a browser is told."""

import socket
import subprocess
import sys

import httpx
import pytest
from pydantic import SecretStr

from trailer_ml.errors import LocalFaultError, SettingsError
from trailer_ml.search.service.access import SESSION_S, Keyholder, check_access
from trailer_ml.search.service.guard import OPEN_PATHS
from trailer_ml.search.service.serve import bind_service
from trailer_ml.settings import ServiceSettings, Settings

KEY = "correct-horse-battery"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "trailers.example.org", ""])
def test_beyond_loopback_it_does_not_start_without_a_key(host) -> None:
    with pytest.raises(SettingsError, match="TRAILER_SERVICE_API_KEY"):
        check_access(ServiceSettings(host=host))
    check_access(ServiceSettings(host=host, api_key=SecretStr(KEY)))


def test_a_key_that_can_be_guessed_is_none() -> None:
    with pytest.raises(SettingsError, match="16 characters"):
        check_access(ServiceSettings(api_key=SecretStr("secret")))


def test_the_command_says_so_in_one_line(settings, store) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trailer_ml.cli", "serve", "--host", "0.0.0.0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("trailer-ml: to be reached at 0.0.0.0 the service needs a key")
    assert done.stderr.count("\n") == 1


def test_a_taken_port_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(LocalFaultError, match=f"cannot listen at 127.0.0.1:{port}"),
            bind_service(Settings(service=ServiceSettings(port=port))),
        ):
            pass


def test_with_a_key_nothing_is_answered_without_it(serve, world) -> None:
    served = serve(api_key=SecretStr(KEY))
    paths = {
        route.path.format(trailer_id=world[0].trailer_id, n=0, run="night-1", ad="ad-fog")
        for route in served.app.routes
    }
    assert len(paths) > 25
    for path in sorted(paths - OPEN_PATHS):
        method = "POST" if path == "/api/v1/match" else "GET"
        for headers in ({}, {"X-API-Key": KEY + "x"}, {"Cookie": "trailer_ml_session=9999999999.00"}):
            answer = served.client.request(method, path, headers=headers)
            assert answer.status_code in {401, 429}, path
            assert answer.headers["content-type"] == "application/problem+json"


def test_a_key_lets_in(serve) -> None:
    served = serve(api_key=SecretStr(KEY))
    for headers in ({"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}):
        assert served.get("/api/v1/status", headers=headers).status_code == 200
    assert served.get("/api/v1/status", headers={"X-API-Key": "ключ".encode()}).status_code == 401


def test_wrong_keys_are_few(serve) -> None:
    served = serve(api_key=SecretStr(KEY))
    statuses = [served.get("/api/v1/status", headers={"X-API-Key": f"guess-{n}"}).status_code for n in range(14)]
    assert statuses[:10] == [401] * 10
    assert statuses[-1] == 429
    assert served.client.post("/login", data={"key": "wrong"}).headers["location"] == "login?wait"
    # Behind a proxy the guesser and everybody else have one address: a key that is right lets in.
    assert served.get("/api/v1/status", headers={"X-API-Key": KEY}).status_code == 200
    assert served.client.post("/login", data={"key": KEY}).headers["location"] == "."


def test_a_session_is_begun_with_the_key_and_ended(serve, world) -> None:
    served = serve(api_key=SecretStr(KEY))
    with httpx.Client(base_url=served.url) as browser:
        sent_on = browser.get("/", headers={"Accept": "text/html"})
        assert (sent_on.status_code, sent_on.headers["location"]) == (303, "login")
        assert browser.post("/login", data={"key": "wrong"}).headers["location"] == "login?wrong"
        assert "That is not the key." in browser.get("/login?wrong").text
        begun = browser.post("/login", data={"key": KEY})
        assert begun.headers["location"] == "."
        cookie = begun.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert KEY not in cookie
        assert "Secure" not in cookie
        by_tls = served.client.post("/login", data={"key": KEY}, headers={"X-Forwarded-Proto": "https"})
        assert "Secure" in by_tls.headers["set-cookie"]
        assert browser.get("/api/v1/trailers").status_code == 200
        browser.post("/logout")
        assert browser.get("/api/v1/trailers").status_code == 401
        again = browser.post("/logout")  # by a page whose session had ended
        assert (again.status_code, again.headers["location"]) == (303, "login")


def test_a_session_runs_out_and_is_not_forged() -> None:
    clock = [1000.0]
    holder = Keyholder(KEY, now=lambda: clock[0])
    cookie = holder.begin_session()
    assert holder.is_session(cookie)
    assert not holder.is_session(cookie.replace(str(1000 + SESSION_S), str(9000 + SESSION_S)))
    assert not Keyholder(KEY + "x", now=lambda: clock[0]).is_session(cookie)
    clock[0] += SESSION_S
    assert not holder.is_session(cookie)
    assert not any(holder.is_session(text) for text in ("", ".", "1.2.3", "²." + "0" * 64, "\ud800.x"))


def test_a_page_of_a_stranger_cannot_give_us_its_name(serve) -> None:
    served = serve()
    for host in ("evil.example", "127.0.0.1.evil.example", "", "[::1", "169.254.169.254"):
        assert served.get("/health/live", headers={"Host": host}).status_code in {400, 421}
    named = serve(allowed_hosts=("trailers.example",))
    assert named.get("/health/live", headers={"Host": "trailers.example:443"}).status_code == 200


def test_a_page_of_a_stranger_cannot_post(serve) -> None:
    served = serve(api_key=SecretStr(KEY))
    for headers in (
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"},
        {"Origin": "null"}, {"Origin": f"{served.url}.evil.example"},
    ):  # fmt: skip
        for path in ("/api/v1/match", "/login", "/logout"):
            answer = served.client.post(path, headers={"X-API-Key": KEY, **headers}, content=f"key={KEY}".encode())
            assert answer.status_code == 403
            assert "set-cookie" not in answer.headers


def test_without_a_key_nobody_is_let_in_through_a_proxy(serve) -> None:
    without, with_key = serve(), serve(api_key=SecretStr(KEY))
    for name in ("Forwarded", "X-Forwarded-For", "X-Real-IP"):
        assert without.get("/api/v1/status", headers={name: "192.0.2.7"}).status_code == 403
        assert with_key.get("/api/v1/status", headers={name: "192.0.2.7", "X-API-Key": KEY}).status_code == 200


def test_whoever_comes_too_often_is_told_when_to_come_again(serve) -> None:
    served = serve(requests_per_s=0.01)
    assert served.get("/health/live").status_code == 200
    again = served.get("/health/live")
    assert again.status_code == 429
    assert 90 <= int(again.headers["retry-after"]) <= 100


def test_every_answer_holds_the_browser_to_what_the_page_needs(serve, world) -> None:
    served = serve()
    for path in ("/", "/main.js", "/api/v1/trailers", "/nothing", f"/api/v1/trailers/{world[0].trailer_id}/thumb"):
        headers = served.get(path).headers
        assert "script-src 'self';" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "SAMEORIGIN"  # Airflow's UI is of the same origin
        assert "server" not in headers


def test_tricks_in_ids_find_nothing(serve, world) -> None:
    served = serve()
    for path in (
        "..%2f..%2fetc%2fpasswd", "%2e%2e/similar", "x%00y", "%2Fetc%2Fpasswd/thumb", "A", "a" * 129, "..;/thumb",
        "%5c..%5c/frames/0.jpg", "x/frames/-1.jpg", "x/frames/../thumb/..%2f", "%c0%ae%c0%ae%c0%afetc%c0%afpasswd",
        "%ef%bc%8e%ef%bc%8e%ef%bc%8fetc%ef%bc%8fpasswd", "%252e%252e%252fetc%252fpasswd", "%ff%fe", "\u0130/thumb",
        "x%0d%0aset-cookie:a=b", "x/frames/\u0661.jpg",
    ):  # fmt: skip
        answer = served.get(f"/api/v1/trailers/{path}")
        assert answer.status_code in {404, 422}
        assert answer.json()["status"] == answer.status_code
        assert "root:" not in answer.text


def test_a_head_that_does_not_end_is_not_waited_for(serve, monkeypatch) -> None:
    monkeypatch.setattr("trailer_ml.search.service.patience.HEAD_S", 0.2)
    monkeypatch.setattr("trailer_ml.search.service.pages._FORM_S", 0.2)
    served = serve(api_key=SecretStr(KEY))
    host = served.client.base_url.host, served.client.base_url.port
    alive = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for said in (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n", alive + b"GET"):
        with socket.create_connection(host, timeout=60) as connection:
            connection.sendall(said)
            assert read_all(connection).count(b"200 OK") == said.count(alive)
    with socket.create_connection(host, timeout=60) as connection:  # a form that does not come
        connection.sendall(b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nkey")
        assert read_all(connection).startswith(b"HTTP/1.1 303 ")
    assert served.get("/health/live").status_code == 200


def test_what_comes_after_an_answer_and_is_no_request_is_not_waited_for(serve, monkeypatch) -> None:
    served = serve(api_key=SecretStr(KEY))
    host = served.client.base_url.host, served.client.base_url.port
    refused = b"POST /api/v1/match HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
    answered = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(host, timeout=60) as connection:  # all of a body that was refused, then a request
        connection.sendall(refused + b"x" * 100)
        assert b"401" in connection.recv(65536)
        connection.sendall(answered.replace(b"localhost", b"localhost\r\nConnection: close"))
        assert b"200 OK" in read_all(connection)
    for said, then in ((refused, b"x"), (answered, b"\r\n"), (answered, b"G")):
        with socket.create_connection(host, timeout=60) as connection:
            connection.sendall(said)
            assert connection.recv(65536).startswith(b"HTTP/1.1 401" if said is refused else b"HTTP/1.1 200")
            with monkeypatch.context() as patch:
                patch.setattr("trailer_ml.search.service.patience.HEAD_S", 0.1)
                connection.sendall(then)
                read_all(connection)


def test_a_head_that_is_too_long_is_not_read(serve) -> None:
    served = serve()
    assert served.get("/health/live", headers={"X-Long": "x" * 30_000}).status_code == 200

    def pour(connection: socket.socket) -> None:
        connection.sendall(b"GET / HTTP/1.1\r\nX-Long: ")
        for _ in range(1024):
            connection.sendall(b"x" * 65536)

    with (
        socket.create_connection((served.client.base_url.host, served.client.base_url.port), timeout=60) as connection,
        pytest.raises(OSError, match=r"reset|[Bb]roken"),
    ):
        pour(connection)


def read_all(connection: socket.socket) -> bytes:
    """What comes until the other side hangs up."""
    data = b""
    try:
        while part := connection.recv(65536):
            data += part
    except ConnectionResetError:
        pass
    return data


def test_what_nobody_foresaw_is_no_traceback(serve, world, monkeypatch) -> None:
    monkeypatch.setattr("trailer_ml.search.service.trailers.find_neighbours", lambda *_, **__: 1 / 0)
    answer = serve().get(f"/api/v1/trailers/{world[0].trailer_id}/similar")
    assert answer.status_code == 500
    assert answer.json() == {
        "type": "about:blank", "title": "Internal Server Error", "status": 500,
        "detail": "this could not be answered; the log of the service says why",
        "instance": f"/api/v1/trailers/{world[0].trailer_id}/similar",
    }  # fmt: skip
    assert answer.headers["x-content-type-options"] == "nosniff"
