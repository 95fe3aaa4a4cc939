"""What every request passes first: is it called by a name of ours, does it come too often, may it ask at all?

And what every answer gets: headers that hold a browser to what this page needs, and a place in the metrics. It is plain
ASGI, for it is on the way of every request.

Does not belong here: keys and counting (access.py).
"""

from __future__ import annotations

import logging
import math
import time
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastapi.responses import RedirectResponse
from starlette.datastructures import Headers, MutableHeaders

from trailer_ml.search.service.access import Buckets, Keyholder, is_loopback
from trailer_ml.search.service.problems import make_problem, make_unforeseen

if TYPE_CHECKING:
    from fastapi.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from trailer_ml.search.service.metrics import Metrics
    from trailer_ml.settings import ServiceSettings

logger = logging.getLogger(__name__)

COOKIE = "trailer_ml_session"
OPEN_PATHS = frozenset({"/login", "/login.html", "/logout", "/page.css", "/icon.svg", "/health/live", "/health/ready"})
_BY_PROXY = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"})
"""Each says that somebody else than who is connected asks."""
_AT_ONCE = 8
"""Seconds' worth of requests that may come at once: a wall of pictures is sixty."""
_WRONG_KEYS_PER_S, _WRONG_KEYS = 0.1, 10.0
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)
_HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware.

    Args:
        app: what is guarded.
        settings: key, names and rate.
        metrics: counts every answer.
        is_inside: another server asks for the login and is called by its own names: neither is looked at here.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings, metrics: Metrics, *, is_inside: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._names = None if is_inside else frozenset({*settings.allowed_hosts, settings.host})
        key = None if is_inside else settings.api_key
        self.keyholder = Keyholder(key.get_secret_value()) if key else None
        self._clients = Buckets(settings.requests_per_s, max(1.0, _AT_ONCE * settings.requests_per_s))
        self.wrong_keys = Buckets(_WRONG_KEYS_PER_S, _WRONG_KEYS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        scope["state"] = {**scope.get("state", {}), "guard": self}
        try:
            refusal = self._refuse(scope)
            await (refusal or self._app)(scope, receive, send_guarded)
        except Exception:  # nobody foresaw it: a stranger learns no more than that
            if status:
                raise
            logger.exception("%s %s", scope["method"], scope["path"])
            await make_unforeseen(_path_of(scope))(scope, receive, send_guarded)
        finally:
            self._metrics.count(scope, status, time.perf_counter() - began)

    def _refuse(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        path = _path_of(scope)
        if self._names is not None and not self._is_ours(headers.get("host", "")):
            return make_problem(421, "this service is not called by that name", path)
        if self._names is not None and self.keyholder is None and not _BY_PROXY.isdisjoint(headers.keys()):
            return make_problem(403, "behind a proxy this service needs a key: set TRAILER_SERVICE_API_KEY", path)
        if wait_s := self._clients.take(client_of(scope)):
            return _too_often(wait_s, path)
        if scope["method"] not in {"GET", "HEAD"} and not _is_same_site(headers):
            return make_problem(403, "this was sent by a page of another site", path)
        if self.keyholder is None or path in OPEN_PATHS:
            return None
        return self._ask_for_key(self.keyholder, headers, scope, path)

    def _is_ours(self, host: str) -> bool:
        """A page of a stranger may give its own name our address; it cannot make a browser send another name."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in (self._names or ()) or is_loopback(name)

    def _ask_for_key(self, keyholder: Keyholder, headers: Headers, scope: Scope, path: str) -> Response | None:
        if given := _key_in(headers):
            if keyholder.is_key(given):  # whoever else guesses from that address: behind a proxy all have one
                return None
            if wait_s := self.wrong_keys.take(client_of(scope)):
                return _too_often(wait_s, path)
        elif keyholder.is_session(_session_in(headers)):
            return None
        if scope["method"] == "GET" and path == "/" and "text/html" in headers.get("accept", ""):
            return RedirectResponse("login", 303)
        return make_problem(401, "a key is needed", path, headers={"WWW-Authenticate": "Bearer"})


def client_of(scope: Scope) -> str:
    """Who asks, as far as the connection says."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _path_of(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) or "/"


def _too_often(wait_s: float, path: str) -> Response:
    return make_problem(429, "too many requests", path, headers={"Retry-After": str(math.ceil(wait_s))})


def _is_same_site(headers: Headers) -> bool:
    """Browsers say where a request comes from; what is no browser says nothing, and carries no cookie by itself."""
    site = headers.get("sec-fetch-site", "same-origin")
    origin = headers.get("origin")
    is_own = origin is None or urlsplit(origin).netloc == headers.get("host")
    return site in {"same-origin", "none"} and is_own


def _key_in(headers: Headers) -> str:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    return headers.get("x-api-key", "") or (value.strip() if scheme.lower() == "bearer" else "")


def _session_in(headers: Headers) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""
