"""The page of `trailer-ml serve` inside the Airflow UI, behind its login: whoever may see trailers_index may see it.

Airflow mounts this app, and a mounted app has no login of its own: so every endpoint, the page's own files included,
depends on the very check that Airflow's API makes.

Imported by the API server at the first request only (plugin.py): it brings the whole service.
"""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING

from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends

from trailer_airflow.settings import open_stage
from trailer_ml.search.service.app import make_app

if TYPE_CHECKING:
    from fastapi import FastAPI

DAG_ID = "trailers_index"


def start_page() -> FastAPI:
    """The app, following the store until this process ends: nobody starts or stops what is mounted."""
    settings, store = open_stage()
    app = make_app(
        settings, store, is_inside=True, dependencies=[Depends(requires_access_dag("GET", param_dag_id=DAG_ID))]
    )
    app.state.service.start()
    atexit.register(app.state.service.stop)
    return app
