"""The one plugin: it makes the pools when the scheduler starts, puts the page into the UI, and frees slots at once.

A task whose pool is missing waits for ever, silently.

Every Airflow process imports this file, so nothing heavy is imported here.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin


def make_pools() -> None:
    """Create the pools that are missing; those that are there keep what an operator made of them."""
    from airflow.models.pool import Pool

    from trailer_airflow.defaults import POOLS

    for name, (slots, reason) in POOLS.items():
        if Pool.get_pool(name) is None:
            Pool.create_or_update_pool(name, slots=slots, description=reason, include_deferred=False)


if sys.argv[1:2] == ["scheduler"]:  # tasks run below it with LocalExecutor; workers of Celery read no plugins
    from trailer_airflow.supervise import notice_ends

    notice_ends()


class PoolMaker:
    """A listener. Task processes call it as well, with another component, and may not touch the database."""

    @hookimpl
    def on_starting(self, component: Any) -> None:
        """Called by each component as it starts; a Job does not know its type yet, so the command line tells."""
        if type(component).__name__ == "Job" and sys.argv[1:2] == ["scheduler"]:
            make_pools()


class LazyPage:
    """An ASGI app that is made at its first request, which only the API server gets."""

    def __init__(self) -> None:
        self._app: Any = None
        self._lock = asyncio.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        async with self._lock:
            if self._app is None:
                from trailer_airflow.page import start_page

                self._app = await asyncio.to_thread(start_page)
        await self._app(scope, receive, send)


class TrailerPlugin(AirflowPlugin):
    """What Airflow looks for in this file."""

    name = "trailer_ml"
    listeners = [PoolMaker()]  # noqa: RUF012 - as Airflow declares it
    fastapi_apps = [{"name": "trailers", "app": LazyPage(), "url_prefix": "/trailers"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {"name": "Trailers", "href": "trailers/", "destination": "nav", "url_route": "trailers", "nav_top_level": True}
    ]
