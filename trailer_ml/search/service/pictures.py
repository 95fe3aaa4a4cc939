"""Endpoints for what is seen and heard of a trailer: thumb, frames, spectrogram, and the bytes if they were kept.

Does not belong here: where they come from (shown.py).
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from trailer_ml.search.service.problems import describe
from trailer_ml.search.service.sending import TrailerIdInPath, send_bytes, service_of, waits

router = APIRouter(tags=["pictures"])
_PART_BYTES = 2**20
"""A player is given so much at a time, and asks for the next: nothing large is held here."""
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


def _binary(media_type: str) -> dict[int | str, dict[str, Any]]:
    return {
        200: {"content": {media_type: {"schema": {"type": "string", "format": "binary"}}}},
        304: {"description": "Not Modified"},
        **describe(404, 422, 503),
    }


@router.get("/trailers/{trailer_id}/thumb", response_class=Response, responses=_binary("image/jpeg"))
@waits
def show_thumb(request: Request, trailer_id: TrailerIdInPath) -> Response:
    """A small picture."""
    service = service_of(request)
    service.live.snapshot().row(trailer_id)
    return send_bytes(service.showcase.thumb(trailer_id), "image/jpeg", request)


@router.get("/trailers/{trailer_id}/frames/{n}.jpg", response_class=Response, responses=_binary("image/jpeg"))
@waits
def show_frame(request: Request, trailer_id: TrailerIdInPath, n: Annotated[int, Path(ge=0, le=63)]) -> Response:
    """One of its frames, as the model sees it; counted from 0."""
    service = service_of(request)
    service.live.snapshot().row(trailer_id)
    frames = service.showcase.shown(trailer_id).frames
    if n >= len(frames):
        raise HTTPException(404, f"it has {len(frames)} frames")
    return send_bytes(frames[n], "image/jpeg", request)


@router.get("/trailers/{trailer_id}/spectrogram.png", response_class=Response, responses=_binary("image/png"))
@waits
def show_spectrogram(request: Request, trailer_id: TrailerIdInPath) -> Response:
    """A picture of its sound, as the model sees it: time to the right, pitch upwards."""
    service = service_of(request)
    service.live.snapshot().row(trailer_id)
    shown = service.showcase.shown(trailer_id)
    if not shown.has_audio:
        raise HTTPException(404, "it has no sound")
    return send_bytes(shown.spectrogram, "image/png", request)


@router.get(
    "/trailers/{trailer_id}/media",
    response_class=Response,
    status_code=206,
    responses={
        206: {"content": {"video/mp4": {"schema": {"type": "string", "format": "binary"}}}},
        **describe(404, 416, 422, 503),
    },
)
@waits
def play(request: Request, trailer_id: TrailerIdInPath) -> Response:
    """The trailer itself, if it was kept: a part of it, 1 MiB at most, as the Range header asks."""
    service = service_of(request)
    service.live.snapshot().row(trailer_id)
    size = service.showcase.media_size(trailer_id)
    if not size:
        raise HTTPException(404, "its bytes were not kept")
    start, end = _read_range(request.headers.get("range", "bytes=0-"), size)
    data = service.showcase.media_part(trailer_id, start, min(end - start + 1, _PART_BYTES))
    headers = {
        "Content-Range": f"bytes {start}-{start + len(data) - 1}/{size}",
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-store",
    }
    return Response(data, 206, headers=headers, media_type="video/mp4")


def _read_range(text: str, size: int) -> tuple[int, int]:
    """First and last byte that are asked for.

    >>> _read_range("bytes=10-", 100), _read_range("bytes=-10", 100), _read_range("bytes=5-500", 100)
    ((10, 99), (90, 99), (5, 99))
    """
    found = _RANGE.fullmatch(text.strip())
    if not found or not any(found.groups()):
        start, end = size, 0
    elif not found[1]:
        start, end = max(0, size - int(found[2])), size - 1
    else:
        start, end = int(found[1]), min(int(found[2] or size), size - 1)
    if start > end:
        raise HTTPException(416, "there is nothing in that range", {"Content-Range": f"bytes */{size}"})
    return start, end
