"""The one polite client of the sources that are an API: the JSON of one host, asked slowly and not twice.

Answers are kept as long as their owner allows, and asked for again with If-None-Match; one that says neither is not
kept. A key is put on below the cache, by the adapter: neither the cache nor an exception nor a log ever sees it.

Does not belong here: what an answer means (sources/), and pages for people (spiders/).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import sqlite3
import time
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import requests
from pydantic import BaseModel, RootModel, ValidationError
from requests.adapters import HTTPAdapter
from requests_cache import EXPIRE_IMMEDIATELY, CachedSession
from requests_cache.backends.sqlite import SQLiteCache
from urllib3.util import Retry

from trailer_ml.catalog.findings import describe
from trailer_ml.catalog.retry_after import parse_retry_after
from trailer_ml.errors import (
    LocalFaultError,
    RateLimitedError,
    SettingsError,
    SourceBlockedError,
    SourceUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Self

    from pydantic import SecretStr
    from urllib3.response import BaseHTTPResponse

    from trailer_ml.settings import Settings

_TIMEOUTS_S = (10.0, 90.0)
"""To connect, and to hear something: Wikidata thinks for up to 60 s."""
_RETRIES = 3
_RETRIED = (429, 500, 502, 503, 504)
_MAX_BODY_BYTES = 32 * 2**20
_CHUNK_BYTES = 2**16
_GUESSED_WAIT_S = 60.0
"""Where a source says "too many requests" and not for how long."""
_NOT_FOUND = 404

Shape = TypeVar("Shape", bound=BaseModel)


class JsonObject(RootModel[dict[str, Any]]):
    """An answer of which only that it is an object is asked: what is in it is judged row by row."""


class ApiClient:
    """Asks one host, one request after the other. To be closed: a context manager.

    Args:
        name: of the source; its cache is named so.
        base_url: what every path is put behind; `sources.<name>_url`.
        settings: all; of `catalog` the user agent and the longest wait, of `sources` cache and pace are read.
        secret_headers: sent with each request, kept nowhere.
        key_setting: the variable that holds the key; empty: none was sent.

    Raises:
        SettingsError: the address is none.
        LocalFaultError: the cache cannot be opened.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        settings: Settings,
        *,
        secret_headers: Mapping[str, str] | None = None,
        key_setting: str = "",
    ) -> None:
        self._base_url = _check_address(base_url, f"TRAILER_SOURCES_{name.upper()}_URL")
        self._key_setting = key_setting
        self._folder = settings.sources.cache_folder.expanduser()
        parts = urlsplit(self._base_url)
        pace = _Pace(parts.netloc, settings.sources.requests_per_s)
        retries = _Retry(
            total=_RETRIES,
            status_forcelist=_RETRIED,
            backoff_factor=1.0,
            backoff_max=settings.catalog.max_wait_s,
            raise_on_status=False,
            pace=pace,
        )
        try:
            cache = _open_cache(name, self._folder)
        except (OSError, sqlite3.Error) as error:
            raise self._cache_fault(error) from None
        self._session = CachedSession(backend=cache, cache_control=True, expire_after=EXPIRE_IMMEDIATELY)
        self._session.headers.update({"User-Agent": settings.catalog.user_agent, "Accept": "application/json"})
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        adapter = _Adapter(secret_headers or {}, pace, retries)
        self._session.adapters.clear()  # nothing else has a way out
        self._session.mount(f"{parts.scheme}://{parts.netloc}/", adapter)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()  # type: ignore[no-untyped-call]

    def get(self, path: str, params: Mapping[str, Any], shape: type[Shape]) -> Shape:
        """The answer of a path that has to be there.

        Args:
            path: behind the base address.
            params: of the query.
            shape: what the answer has to be.

        Raises:
            SettingsError: the key is refused.
            SourceBlockedError: we are refused, and sent no key.
            RateLimitedError: the source asks for a longer wait than is set, or still says no after several.
            SourceUnavailableError: no answer, or none of this shape.
            LocalFaultError: the cache cannot be written.
        """
        answer = self.find(path, params, shape)
        if answer is None:
            raise SourceUnavailableError(f"{self._base_url}{path} is not there (404)")
        return answer

    def find(self, path: str, params: Mapping[str, Any], shape: type[Shape]) -> Shape | None:
        """The same of a path that need not be there; None: it is not (404)."""
        url = f"{self._base_url}{path}"
        response = self._ask(url, params)
        if response.status_code == _NOT_FOUND:
            return None
        self._check_status(response, url)
        try:
            return shape.model_validate_json(response.content)
        except ValidationError as error:
            with contextlib.suppress(sqlite3.Error):  # kept, it would stay so
                self._session.cache.delete(self._session.cache.create_key(response.request))
            raise SourceUnavailableError(f"{url} answers in a shape that is not known: {describe(error)}") from None

    def _ask(self, url: str, params: Mapping[str, Any]) -> requests.Response:
        try:
            # Redirects: an API has none, and one to another host would take a key along.
            return self._session.get(url, params=params, timeout=_TIMEOUTS_S, allow_redirects=False)
        except requests.RequestException as error:
            raise SourceUnavailableError(f"{url} does not answer ({type(error).__name__})") from None
        except sqlite3.Error as error:
            raise self._cache_fault(error) from None
        except (ValueError, OverflowError):  # such as Expires: never
            raise SourceUnavailableError(f"{url} answers with headers that cannot be read") from None

    def _check_status(self, response: requests.Response, url: str) -> None:
        status = response.status_code
        if status in {401, 403}:
            if self._key_setting:
                raise SettingsError(f"{url} refuses the key that {self._key_setting} holds ({status})")
            raise SourceBlockedError(f"{url} refuses us ({status}); it is not gone round: ask its owner for access")
        if status == 429:  # noqa: PLR2004
            wait_s = parse_retry_after(response.headers.get("Retry-After", "")) or _GUESSED_WAIT_S
            raise RateLimitedError(f"{url} still asks for fewer requests after {_RETRIES} tries", retry_after_s=wait_s)
        if 300 <= status < 400:  # noqa: PLR2004
            host = urlsplit(response.headers.get("Location", "")).hostname or "another path"
            raise SourceUnavailableError(f"{url} sends us to {host}, which is not followed")
        if status != 200:  # noqa: PLR2004
            raise SourceUnavailableError(f"{url} answers with status {status}")

    def _cache_fault(self, error: Exception) -> LocalFaultError:
        return LocalFaultError(f"the cache in {self._folder} cannot be used ({error}): make room, or delete it")


def read_key(secret: SecretStr | None, setting: str) -> str:
    """A key as it can stand in a header; empty: there is none.

    Raises:
        SettingsError: it cannot; what it is instead is not said.
    """
    key = secret.get_secret_value().strip() if secret else ""
    if key and not re.fullmatch(r"[\x21-\x7e]+", key):
        raise SettingsError(f"{setting} holds something that cannot be a key: a space, a line or a letter of no key")
    return key


class _Pace:
    """Lets one pass every so often, to one host."""

    def __init__(self, host: str, per_s: float) -> None:
        self.host = host
        self._gap_s = 1.0 / per_s
        self._next_at = 0.0

    def wait(self) -> None:
        """Until it is our turn."""
        time.sleep(max(0.0, self._next_at - time.monotonic()))
        self._next_at = time.monotonic() + self._gap_s


class _Retry(Retry):
    """urllib3's, that waits for its turn, too, and no longer than `backoff_max`, whoever asks for it."""

    def __init__(self, *args: Any, pace: _Pace, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pace = pace

    def new(self, **kw: Any) -> Self:
        return super().new(pace=self._pace, **kw)

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        """By our own reading: urllib3's raises for a header that says nothing."""
        return parse_retry_after(response.headers.get("Retry-After", ""))

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        wait_s = self.get_retry_after(response) if response is not None else None
        if wait_s is not None and wait_s > self.backoff_max:
            raise RateLimitedError(f"{self._pace.host} asks us to wait {wait_s:.0f} s", retry_after_s=wait_s)
        time.sleep(wait_s or self.get_backoff_time())
        self._pace.wait()


class _Adapter(HTTPAdapter):
    """Below the cache: puts on the key, keeps the pace and limits what is read."""

    def __init__(self, secret_headers: Mapping[str, str], pace: _Pace, retries: Retry) -> None:
        super().__init__(max_retries=retries)
        self._secret_headers = dict(secret_headers)
        self._pace = pace

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        try:
            return self._send_once(request, *args, **kwargs)
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError):
            return self._send_once(request, *args, **kwargs)  # urllib3 tries again only until a body begins

    def _send_once(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        signed = request.copy()
        signed.headers.update(self._secret_headers)
        self._pace.wait()
        try:
            response = super().send(signed, *args, **kwargs)
            response.request = request
            response._content = _read_body(response)
        except requests.RequestException as error:
            error.request = request
            raise
        return response


def _read_body(response: requests.Response) -> bytes:
    body = bytearray()
    for chunk in response.iter_content(_CHUNK_BYTES):
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            response.close()
            host = urlsplit(response.url).netloc
            raise SourceUnavailableError(f"{host} answers with more than {_MAX_BODY_BYTES >> 20} MiB")
    return bytes(body)


def _check_address(url: str, setting: str) -> str:
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_good = False
    if not is_good or parts.username is not None or parts.query or parts.fragment:
        raise SettingsError(f"{setting} has to be an address like https://host/path, with no password and no ? in it")
    return url.rstrip("/")


def _open_cache(name: str, folder: Path) -> SQLiteCache:
    """The answers of this quarter of the year; those of the last are deleted, as TMDB wants of all that is older.

    JSON and not pickle: who can write into the folder could else run code here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    today = dt.datetime.now(dt.UTC).date()
    path = folder / f"{name}-{today.year}-q{(today.month + 2) // 3}.sqlite"
    for file in folder.glob(f"{name}-*.sqlite*"):
        if not file.name.startswith(path.name):
            file.unlink(missing_ok=True)
    return SQLiteCache(path, serializer="json")
