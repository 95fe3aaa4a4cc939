"""A person's yes to what the gates judged worse: which question is asked, and what a yes does.

Does not belong here: judging (model/registry.py, index/publish.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from trailer_ml.records import Promotion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

ASK: dict[str, Any] = {
    "task_id": "ask",
    "trigger_dag_id": "trailers_approve",
    "trigger_run_id": (
        "{% set asked = ti.xcom_pull(task_ids='question') %}"
        "{{ asked.kind }}-{{ asked.version }}-for-{{ asked.against or 'none' }}"
    ),
    "skip_when_already_exists": True,
}
"""How the question is handed on: under a name of its own, so that no night asks it again, whatever was answered."""


def question_about_model(promotion: Mapping[str, Any]) -> dict[str, Any]:
    """What a person is asked about a model that was not promoted: the form of `trailers_approve`, filled in.

    Raises:
        AirflowSkipException: there is nothing to ask.
    """
    if not promotion["is_worse"]:
        raise AirflowSkipException(f"nothing to ask: {promotion['reason']}")
    return _fill_in("model", promotion["version"], promotion["champion"], promotion["reason"])


def question_about_index(published: Mapping[str, Any], store: Store) -> dict[str, Any]:
    """The same of an index that was not published.

    Raises:
        AirflowSkipException: there is nothing to ask.
    """
    from trailer_ml.index.stored import read_pointer

    if not published["is_worse"]:
        raise AirflowSkipException(f"nothing to ask: {published['reason'] or 'it is served'}")
    seen = read_pointer(store)
    return _fill_in("index", published["version"], seen.pointer.version if seen else None, published["reason"])


def _fill_in(kind: str, version: str, against: str | None, reason: str) -> dict[str, Any]:
    return {"kind": kind, "version": version, "against": against, "reason": reason}


def use_model(params: Mapping[str, Any], settings: Settings, store: Store) -> Promotion:
    """Promote the model that a person said yes to.

    Raises:
        AirflowSkipException: the question was about an index.
        AirflowFailException: another model has been promoted since, so that the answer is to an old question.
    """
    from trailer_ml.model.card import read_card
    from trailer_ml.model.registry import promote_model, read_champion

    version = _only("model", params)
    _require_unchanged(params, read_champion(store))
    return promote_model(read_card(version, store).evaluation, settings, store, is_forced=True)


def use_index(params: Mapping[str, Any], settings: Settings, store: Store) -> dict[str, Any]:
    """Publish the index that a person said yes to.

    Raises:
        AirflowSkipException: the question was about a model.
        AirflowFailException: another index has been published since, or something else than its figures is against it.
    """
    from trailer_ml.index.publish import publish_index
    from trailer_ml.index.stored import read_pointer

    version = _only("index", params)
    seen = read_pointer(store)
    _require_unchanged(params, seen.pointer.version if seen else None)
    published = publish_index(version, settings, store, is_forced=True)
    if not published.is_published:
        raise AirflowFailException(f"{version} is not served, what was served stays: {published.reason}")
    return published.to_json()


def _only(kind: str, params: Mapping[str, Any]) -> str:
    if params["kind"] != kind:
        raise AirflowSkipException(f"the question was about the {params['kind']}")
    return str(params["version"])


def _require_unchanged(params: Mapping[str, Any], current: str | None) -> None:
    if current not in {params["against"], params["version"]}:
        asked = params["against"] or "nothing"
        raise AirflowFailException(
            f"it was to take the place of {asked}, and {current} is in use by now: nothing is done"
        )
