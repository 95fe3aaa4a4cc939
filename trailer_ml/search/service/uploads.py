"""The endpoint that takes a video never seen before: received under limits, looked at apart, gone when it is answered.

The body of the request is the file itself. Nothing that a stranger says of it, its name or its type, is used for
anything but refusing it.

Does not belong here: looking at it (looking.py).
"""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from trailer_ml.errors import RateLimitedError
from trailer_ml.scratch import scratch_folder
from trailer_ml.search.neighbours import find_neighbours
from trailer_ml.search.service.answers import MatchAnswer
from trailer_ml.search.service.problems import describe
from trailer_ml.search.service.sending import send, service_of
from trailer_ml.search.service.trailers import K

if TYPE_CHECKING:
    from trailer_ml.search.service.core import Service

router = APIRouter(tags=["match"])
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            media_type: {"schema": {"type": "string", "format": "binary"}}
            for media_type in ("video/mp4", "application/octet-stream")
        },
    }
}


@router.post(
    "/match",
    response_model=MatchAnswer,
    openapi_extra=_BODY,
    responses=describe(400, 403, 408, 411, 413, 415, 422, 503),
)
async def match_video(request: Request, k: K = 10) -> Response:
    """The trailers nearest to a video: `curl --data-binary @my.mp4 -H 'Content-Type: video/mp4' …/api/v1/match`."""
    service = service_of(request)
    service.live.snapshot()
    _check_head(request, service)
    try:
        with service.looking.place(), scratch_folder("trailer-ml-upload-") as folder:
            path = folder / "video"
            await _receive(request, path, service)
            return await _answer(path, k, service)
    except RateLimitedError as error:
        raise HTTPException(503, str(error), {"Retry-After": f"{error.retry_after_s:.0f}"}) from error


async def _answer(path: Path, k: int, service: Service) -> Response:
    loop = asyncio.get_running_loop()
    version = service.live.snapshot().index.manifest.model_version
    vector = await loop.run_in_executor(service.looking.thread, service.looking.look, path, version)
    snapshot = service.live.snapshot()  # now: looking takes seconds
    neighbours = find_neighbours(
        snapshot.index, vector, k, model_version=version, left_out=snapshot.rows_taken_down, one_per_film=True
    )
    return send(MatchAnswer(**snapshot.versions, neighbours=tuple(neighbours)))


def _check_head(request: Request, service: Service) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not media_type.startswith("video/") and media_type != "application/octet-stream":
        raise HTTPException(415, "the body has to be the file of a video, as video/mp4 or application/octet-stream")
    length = request.headers.get("content-length", "")
    if not re.fullmatch(r"[0-9]{1,18}", length):
        raise HTTPException(411, "it has to be said how long the file is (Content-Length)")
    if int(length) > service.settings.service.max_upload_bytes:
        raise HTTPException(413, f"at most {service.settings.service.max_upload_bytes:,} bytes are taken")
    if int(length) == 0:
        raise HTTPException(400, "the body is empty")


async def _receive(request: Request, path: Path, service: Service) -> None:
    """Write the body to a file as it comes."""
    limits = service.settings
    if shutil.disk_usage(path.parent).free < limits.media.min_free_bytes:
        raise HTTPException(503, "there is no room for it just now", {"Retry-After": "60"})
    n_bytes = 0
    try:
        async with asyncio.timeout(limits.service.upload_timeout_s):
            with path.open("wb") as file:
                async for part in request.stream():
                    n_bytes += len(part)
                    if n_bytes > limits.service.max_upload_bytes:
                        raise HTTPException(413, f"at most {limits.service.max_upload_bytes:,} bytes are taken")
                    file.write(part)
    except TimeoutError as error:
        raise HTTPException(408, "the file came too slowly") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the file was not sent to its end") from error
