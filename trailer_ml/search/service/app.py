"""The app: all endpoints behind one guard.

Does not belong here: a server (serve.py, and Airflow's).
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI

from trailer_ml.search.service import findings, operations, pages, pictures, placed, trailers, uploads
from trailer_ml.search.service.core import Service
from trailer_ml.search.service.guard import Guard
from trailer_ml.search.service.problems import add_handlers, describe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from fastapi.params import Depends

    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

API = "/api/v1"


def make_app(
    settings: Settings, store: Store, *, is_inside: bool = False, dependencies: Sequence[Depends] = ()
) -> FastAPI:
    """An ASGI app; it follows the store from its start-up on.

    Args:
        settings: of the service and of everything it asks.
        store: where the index is published.
        is_inside: it is mounted in another app, which starts it and asks for the login: see `dependencies`.
        dependencies: of every endpoint, the page's own files included.
    """
    service = Service(settings, store)

    @asynccontextmanager
    async def run(_app: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            service.stop()

    app = FastAPI(
        title="Trailer ML",
        version="1",
        description="Which trailers are alike, and why.",
        docs_url=None,  # its page is from another host
        redoc_url=None,
        openapi_url=None,  # it is an endpoint like the others, behind the same login
        lifespan=run,
        dependencies=list(dependencies),
        responses=describe(401, 421, 429),
    )
    app.state.service = service
    add_handlers(app)
    for router in (trailers.router, pictures.router, findings.router, placed.router, uploads.router, operations.api):
        app.include_router(router, prefix=API)
    app.include_router(operations.root)
    app.include_router(pages.make_router())
    app.add_middleware(Guard, settings=settings.service, metrics=service.metrics, is_inside=is_inside)
    return app
