"""The page: plain files of page/, each at its name, and the way in where a key is needed.

Does not belong here: what they show; they ask the API like anybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.requests import ClientDisconnect

from trailer_ml.search.service.access import SESSION_S
from trailer_ml.search.service.guard import COOKIE, Guard, client_of
from trailer_ml.search.service.sending import send_bytes

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_MAX_FORM_BYTES = 4096
_FORM_S = 15.0


def make_router() -> APIRouter:
    """Routes for each file of page/."""
    router = APIRouter(include_in_schema=False)
    for file in files("trailer_ml.search.service").joinpath("page").iterdir():
        ending = file.name.rpartition(".")[2]
        if ending in _TYPES:
            show = _shower(file.read_bytes(), _TYPES[ending])
            router.add_api_route("/" if file.name == "index.html" else f"/{file.name}", show, methods=["GET"])
    router.add_api_route("/login", log_in, methods=["POST"])
    router.add_api_route("/login", _show_login, methods=["GET"])
    router.add_api_route("/logout", log_out, methods=["POST"])
    return router


async def log_in(request: Request) -> Response:
    """Begin a session for whoever knows the key."""
    guard: Guard = request.state.guard
    if guard.keyholder is None:
        return RedirectResponse(".", 303)
    body = b""
    try:
        async with asyncio.timeout(_FORM_S):
            async for part in request.stream():
                body += part
                if len(body) > _MAX_FORM_BYTES:
                    return RedirectResponse("login?wrong", 303)
    except (TimeoutError, ClientDisconnect):
        return RedirectResponse("login", 303, {"Connection": "close"})
    key = parse_qs(body.decode(errors="replace")).get("key", [""])[0].strip()
    if not guard.keyholder.is_key(key):
        wait_s = guard.wrong_keys.take(client_of(request.scope))
        return RedirectResponse("login?wait" if wait_s else "login?wrong", 303)
    answer = RedirectResponse(".", 303)
    answer.set_cookie(
        COOKIE,
        guard.keyholder.begin_session(),
        max_age=SESSION_S,
        httponly=True,
        samesite="strict",
        secure=_is_tls(request),
    )
    return answer


async def log_out() -> Response:
    """End a session."""
    answer = RedirectResponse("login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


def _is_tls(request: Request) -> bool:
    """Whether the browser speaks TLS, to us or to a proxy that says so; whoever lies loses its own session."""
    return "https" in {request.url.scheme, request.headers.get("x-forwarded-proto", "").split(",")[0].strip()}


async def _show_login(request: Request) -> Response:
    page = files("trailer_ml.search.service").joinpath("page", "login.html").read_bytes()
    words = {"wrong": "That is not the key.", "wait": "Too many wrong keys: wait a minute."}.get(request.url.query, "")
    return Response(page.replace(b"<!--words-->", words.encode()), media_type=_TYPES["html"])


def _shower(data: bytes, media_type: str) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def show(request: Request) -> Response:
        return send_bytes(data, media_type, request)

    return show
