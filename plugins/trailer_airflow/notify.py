"""Who is told when a run failed, is late, or waits for a person: one notifier, named in airflow.cfg, or nobody.

`[trailer_ml] notifier` is the import path of any Airflow notifier, `notifier_arguments` what it is made with (JSON).
Its templates may use `trailer_event` (failed, late, waits), `trailer_message` and whatever Airflow gives. For a
webhook there is one here: `trailer_airflow.notify.WebhookNotifier`.

A notifier that fails is logged and fails nothing: a night is not lost because nobody could be told of it.
"""

from __future__ import annotations

import datetime as dt
import importlib
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import Connection
from airflow.sdk.bases.notifier import BaseNotifier
from airflow.sdk.configuration import conf
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

if TYPE_CHECKING:
    from airflow.sdk import Context

logger = logging.getLogger(__name__)

SECTION = "trailer_ml"
WEBHOOK_CONNECTION_ID = "trailer_webhook"
_WEBHOOK_TIMEOUT_S = 10.0

Event = Literal["failed", "late", "waits"]
_WORDS: dict[Event, str] = {
    "failed": "failed: the log of its last task says what was lost",
    "late": "is late: it has not ended by its deadline",
    "waits": "waits for a person's yes or no, under Required Actions",
}


class _Plain(BaseNotifier):
    """A notifier without templates, so that Airflow needs no DAG to fill them in: the one of `dag.test` cannot."""

    def render_template_fields(self, context: Context, jinja_env: object = None) -> None:
        """There is nothing to fill in."""


class Tell(_Plain):
    """Tells the notifier of the configuration about an event of a run.

    Args:
        event: which.
    """

    def __init__(self, event: Event) -> None:
        super().__init__()
        self.event = event

    def notify(self, context: Context) -> None:
        """Pass it on; nobody is asked for by default."""
        message = describe(self.event, context)
        logger.warning("%s", message)
        try:
            if notifier := load_notifier():
                told: Any = {**context, "trailer_event": self.event, "trailer_message": message}
                notifier(told)
        except Exception as error:  # noqa: BLE001 - whatever it is; its words may hold the address, a secret
            logger.error("nobody was told: %s", type(error).__name__)  # noqa: TRY400


class WebhookNotifier(_Plain):
    """Posts `{"text", "event", "dag_id", "run_id"}` to an address, as Slack, Mattermost and others take it.

    The address is a secret: it is the password of the Connection `trailer_webhook` (type http).
    """

    def notify(self, context: Context) -> None:
        """Post it.

        Raises:
            httpx.HTTPError: it did not arrive.
        """
        import httpx

        told: Mapping[str, Any] = context
        dag_id, run_id = name_run(told)
        body = {"text": told["trailer_message"], "event": told["trailer_event"], "dag_id": dag_id, "run_id": run_id}
        address = Connection.get(WEBHOOK_CONNECTION_ID).password or ""
        httpx.post(address, json=body, timeout=_WEBHOOK_TIMEOUT_S).raise_for_status()


def tell_late(context: Mapping[str, Any]) -> None:
    """What a deadline that was missed calls, in a process of the executor."""
    late: Any = dict(context)
    Tell("late")(late)


def due_within(hours: float) -> DeadlineAlert:
    """The deadline of a run, counted from when it was queued. `airflow dags test` (3.3.2) cannot do with one."""
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=dt.timedelta(hours=hours),
        callback=SyncCallback(tell_late),
    )


def load_notifier() -> BaseNotifier | None:
    """The notifier that airflow.cfg names; None where it names none.

    Raises:
        ImportError: there is no such thing.
    """
    path = conf.get(SECTION, "notifier", fallback="")
    if not path:
        return None
    module, _, name = path.rpartition(".")
    arguments = conf.getjson(SECTION, "notifier_arguments", fallback={})
    notifier: BaseNotifier = getattr(importlib.import_module(module), name)(**arguments)
    return notifier


def describe(event: Event, context: Mapping[str, Any]) -> str:
    """An event in one line.

    >>> describe("late", {"dag_run": {"dag_id": "trailers_refresh", "dag_run_id": "scheduled__2026-11-22"}})
    'trailers_refresh scheduled__2026-11-22 is late: it has not ended by its deadline'
    """
    return " ".join([*name_run(context), _WORDS[event]])


def name_run(context: Mapping[str, Any]) -> tuple[str, str]:
    """DAG and run, wherever they are: a deadline has the API's JSON, a run that failed may have no task to tell of."""
    run = context.get("dag_run")
    if isinstance(run, Mapping):
        return run["dag_id"], run["dag_run_id"]
    return (run.dag_id, run.run_id) if run else (context["dag"].dag_id, context["run_id"])
