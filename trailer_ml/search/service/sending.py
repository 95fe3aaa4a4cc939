"""Answers as bytes: records as JSON, pictures with a tag to ask by.

Does not belong here: what is answered.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, cast

from fastapi import Path, Request
from fastapi.responses import Response

from trailer_ml.records import ID_PATTERN

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pydantic import BaseModel

    from trailer_ml.search.service.core import Service

Asked = ParamSpec("Asked")
TrailerIdInPath = Annotated[str, Path(pattern=ID_PATTERN, examples=["imdb-vi0000017"])]
RunInPath = Annotated[str, Path(pattern=ID_PATTERN, examples=["night-2026-11-24"])]
_KEPT = "private, no-cache"  # a browser asks each time: what was taken down is gone there too
_WORTH_PACKING = 50_000


def service_of(request: Request) -> Service:
    """What the app of a request shares."""
    return cast("Service", request.app.state.service)


def waits(answer: Callable[Asked, Response]) -> Callable[Asked, Coroutine[Any, Any, Response]]:
    """An endpoint that waits for the store: in a thread of the service."""
    return _in_thread(answer, waits=True)


def computes(answer: Callable[Asked, Response]) -> Callable[Asked, Coroutine[Any, Any, Response]]:
    """An endpoint that takes milliseconds and never waits: in a thread of the service, too."""
    return _in_thread(answer, waits=False)


def _in_thread(answer: Callable[Asked, Response], *, waits: bool) -> Callable[Asked, Coroutine[Any, Any, Response]]:
    @functools.wraps(answer)
    async def answer_apart(*args: Asked.args, **kwargs: Asked.kwargs) -> Response:
        request = cast("Request", kwargs["request"])
        return await service_of(request).apart(functools.partial(answer, *args, **kwargs), waits=waits)

    return answer_apart


def send(answer: BaseModel, request: Request | None = None) -> Response:
    """A record as JSON, packed where it is large and the request says that it may be."""
    body, headers = answer.model_dump_json().encode(), {}
    if request and len(body) > _WORTH_PACKING and "gzip" in request.headers.get("accept-encoding", ""):
        body, headers = gzip.compress(body, 5, mtime=0), {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return Response(body, headers=headers, media_type="application/json")


def send_bytes(data: bytes, media_type: str, request: Request) -> Response:
    """Bytes that a browser may keep, as long as it asks whether they are still so."""
    tag = f'"{hashlib.blake2b(data, digest_size=12).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": _KEPT}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type=media_type)
