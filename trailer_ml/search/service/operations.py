"""Endpoints for those who run it: the state of the pipeline, health, metrics, and the description of the API.

Does not belong here: counting (search/status.py, metrics.py).
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from trailer_ml.errors import NoIndexError, RetryableError
from trailer_ml.search.service import metrics
from trailer_ml.search.service.answers import Health, StatusAnswer
from trailer_ml.search.service.live import Snapshot
from trailer_ml.search.service.problems import describe
from trailer_ml.search.service.sending import send, service_of

api = APIRouter(tags=["operations"])
root = APIRouter(tags=["operations"])
_WAYS = {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}, "bearer": {"type": "http", "scheme": "bearer"}}


@api.get("/status", response_model=StatusAnswer, responses=describe(503))
async def show_status(request: Request) -> Response:
    """Where every trailer stands and why, which index and model are in use, and how old the index is."""
    service = service_of(request)
    snapshot = _snapshot(request)
    published_at = snapshot.published_at if snapshot else None
    age_s = (dt.datetime.now(dt.UTC) - published_at).total_seconds() if published_at else None
    return send(
        StatusAnswer(
            status=await service.counting.status(),
            n_indexed=snapshot.index.n - len(snapshot.rows_taken_down) if snapshot else None,
            published_at=published_at,
            index_age_s=max(0.0, age_s) if age_s is not None else None,
            is_up_to_date=service.live.is_up_to_date,
            needs_login=request.state.guard.keyholder is not None,
            max_upload_bytes=service.settings.service.max_upload_bytes,
        )
    )


@api.get("/openapi.json", include_in_schema=False)
async def describe_api(request: Request) -> Response:
    """What this API takes and answers, as OpenAPI; with the ways to give the key, where there is one."""
    described: dict[str, Any] = dict(request.app.openapi())
    if request.state.guard.keyholder is not None:
        described["components"] = {**described["components"], "securitySchemes": _WAYS}
        described["security"] = [{name: []} for name in _WAYS]
    return JSONResponse(described)


@root.get("/health/live", response_model=Health)
async def is_alive() -> Response:
    """Whether it lives."""
    return send(Health(status="ok"))


@root.get("/health/ready", response_model=Health, responses=describe(503))
async def is_ready(request: Request) -> Response:
    """Whether it has an index to answer from. Where the store is away it has it still, and no other would have more."""
    service_of(request).live.snapshot()
    return send(Health(status="ok"))


@root.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def show_metrics(request: Request) -> Response:
    """Everything as Prometheus reads it; what only the store could tell is left out where it never did."""
    service = service_of(request)
    try:
        status = await service.counting.status()
    except RetryableError:
        status = None
    return Response(service.metrics.render(status), headers={"Content-Type": metrics.CONTENT_TYPE})


def _snapshot(request: Request) -> Snapshot | None:
    try:
        return service_of(request).live.snapshot()
    except NoIndexError:
        return None
