"""A loopback API, made answer by answer by each test, and settings that ask it quickly."""

import datetime as dt
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest

from trailer_ml.records import Interval
from trailer_ml.settings import CatalogSettings, Settings, SourcesSettings


class Asked(NamedTuple):
    """A request as it came."""

    path: str
    query: dict[str, str]
    """Several values of one name are joined by a comma."""
    headers: dict[str, str]
    at_s: float


class Answer(NamedTuple):
    """What is sent for it."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_cut: bool
    """The connection is closed in the middle of the body."""


class Api:
    """Answers by path and query; `asked` holds the requests in their order."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.answers: list[tuple[str, dict[str, str], list[Answer]]] = []

    def put(
        self,
        path: str,
        body: object,
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
        is_cut: bool = False,
        **query: str,
    ) -> None:
        """What a path answers where the query holds these values; the most exact one wins.

        Given several times, one answer after the other, the last for ever. With an ETag among the headers, a request
        that names it is answered 304.
        """
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = Answer(status, headers or {}, data, is_cut)
        for known_path, known_query, answers in self.answers:
            if (known_path, known_query) == (path, query):
                answers.append(answer)
                return
        self.answers.append((path, query, [answer]))

    def replace(self, path: str, body: object, **rest: Any) -> None:
        """The same, and what it answered until now is forgotten."""
        self.answers = [known for known in self.answers if known[0] != path]
        self.put(path, body, **rest)

    def paths(self) -> list[str]:
        """The paths that were asked for, in their order."""
        return [request.path for request in self.asked]

    def choose(self, request: Asked) -> Answer:
        """The next answer to a request."""
        fitting = [
            (len(query), answers)
            for path, query, answers in self.answers
            if path == request.path and query.items() <= request.query.items()
        ]
        if not fitting:
            return Answer(404, {}, b'{"error": "nothing here"}', is_cut=False)
        answers = max(fitting, key=lambda entry: entry[0])[1]
        return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture
def api() -> Iterator[Api]:
    """An API that knows nothing yet."""
    made = Api()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: ",".join(values) for name, values in parse_qs(parts.query).items()}
            request = Asked(parts.path, query, dict(self.headers.items()), time.monotonic())
            with lock:
                made.asked.append(request)
                answer = made.choose(request)
            self.reply(answer)

        def reply(self, answer: Answer) -> None:
            is_known = answer.headers.get("ETag", "-") == self.headers.get("If-None-Match")
            body = b"" if is_known else answer.body
            self.send_response(304 if is_known else answer.status)
            for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            if not is_known:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if answer.is_cut else body)
            self.close_connection = answer.is_cut

        def log_message(self, *args: object) -> None:  # noqa: ARG002
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def make_settings(api: Api, tmp_path: Path) -> Callable[..., Settings]:
    """Makes settings with which every source is this API and nobody waits for long."""

    def make(*, max_wait_s: float = 0.02, **sources: Any) -> Settings:
        known = {
            **dict.fromkeys(("tmdb_url", "wikidata_url", "kinocheck_url", "archive_org_url"), api.url),
            "requests_per_s": 1000.0,
            "cache_folder": tmp_path / "cache",
        }
        return Settings(
            catalog=CatalogSettings(user_agent="test-crawler/1 (+mailto:tests@example.invalid)", max_wait_s=max_wait_s),
            sources=SourcesSettings.model_validate(known | sources),
        )

    return make


@pytest.fixture
def november() -> Interval:
    """A month that ends before today."""
    return Interval(start=dt.date(2026, 11, 1), end=dt.date(2026, 11, 23))
