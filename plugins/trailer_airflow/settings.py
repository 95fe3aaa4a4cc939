"""The settings of a task, and the store they lead to.

Settings come from `TRAILER_*` variables, like everywhere. Where there is an Airflow Connection `trailer_store` (type
aws: login and password are the keys, extra may hold endpoint_url and region_name), its secrets are used, so that
they can live in any secrets backend and are masked in logs. Otherwise boto3 looks for its own.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from trailer_ml.settings import Settings, StoreSettings, load_settings
from trailer_ml.storage import Store

CONNECTION_ID = "trailer_store"


def open_stage() -> tuple[Settings, Store]:
    """What every stage takes: the settings, and the store."""
    settings = task_settings()
    return settings, Store(settings.store)


def task_settings() -> Settings:
    """The settings of the running task.

    Raises:
        SettingsError: an unknown `TRAILER_*` variable, or a value that does not fit.
    """
    settings = load_settings()
    try:
        connection = Connection.get(CONNECTION_ID)
    except AirflowNotFoundException:
        return settings
    found: dict[str, Any] = {
        "access_key_id": connection.login,
        "secret_access_key": connection.password,
        "endpoint_url": connection.extra_dejson.get("endpoint_url"),
        "region": connection.extra_dejson.get("region_name"),
    }
    given = {name: value for name, value in found.items() if value}
    store = StoreSettings.model_validate(settings.store.model_dump() | given)
    return settings.model_copy(update={"store": store})
