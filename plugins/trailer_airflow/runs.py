"""What a DAG asks about its own run: which interval, is training due, how did the batches end."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from trailer_ml.records import Interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store


def interval_of_run(context: Mapping[str, Any]) -> Interval:
    """The listing dates of a run: the form's day, else its interval, else (by hand, without either) yesterday, UTC.

    >>> interval_of_run({"params": {"listed_on": "2026-11-22"}}).end.isoformat()
    '2026-11-23'
    """
    if day := context["params"].get("listed_on"):
        return Interval.of_day(dt.date.fromisoformat(day))
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    if start and end and start < end:
        first, last = start.astimezone(dt.UTC).date(), (end.astimezone(dt.UTC) - dt.timedelta(microseconds=1)).date()
        return Interval(start=first, end=last + dt.timedelta(days=1))
    return Interval.of_day(dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1))


def rows(value: Any) -> list[dict[str, Any]]:
    """What a mapped task group hands out, as a list: Airflow gives None for no survivor and the bare value for one.

    >>> rows(None), rows({"n": 1}), rows([{"n": 1}, None])
    ([], [{'n': 1}], [{'n': 1}])
    """
    if value is None:
        return []
    return [value] if isinstance(value, dict) else [row for row in value if row is not None]


def shards_event(planned: Any, shards: Any) -> dict[str, Any]:
    """What the event about new shards says.

    Raises:
        AirflowSkipException: there are none, so nobody is woken.
    """
    made = rows(shards)
    if not made:
        raise AirflowSkipException("no batch was due: nothing is new" if not rows(planned) else "no shard was made")
    days = sorted({row["batch"]["listed_on"] for row in made})
    return {"listed_on": days, "n_shards": len(made), "n_trailers": sum(row["count"] for row in made)}


def sum_up(found: Any, planned: Any, shards: Any) -> dict[str, Any]:
    """The run in numbers.

    Raises:
        AirflowFailException: the crawl failed, or batches were lost.
    """
    if found is None or planned is None:
        raise AirflowFailException("the crawl or the planning failed; see their logs")
    made = rows(shards)
    numbers = {
        "n_listed": found["n_listed"],
        "n_titles_set_aside": sum(found["set_aside"].values()),
        "n_batches": len(planned),
        "n_sharded": sum(row["count"] for row in made),
        "n_rejected": sum(sum(row["rejected"].values()) for row in made),
    }
    if lost := [batch for batch in planned if batch not in [row["batch"] for row in made]]:
        names = ", ".join(f"{batch['listed_on']}/{batch['number']:04d}" for batch in lost[:5])
        raise AirflowFailException(f"{len(lost)} of {len(planned)} batches were lost ({names}); the others: {numbers}")
    return numbers


def training_reason(run_type: str, settings: Settings, store: Store) -> str:
    """Why this run trains.

    Raises:
        AirflowSkipException: nobody asked for it by hand, and there are too few films, or it was woken by new shards
            and there is a champion already.
    """
    from trailer_ml.model.registry import read_champion
    from trailer_ml.shards.read import list_shards

    if run_type == "manual":
        return "asked for by hand"
    if run_type == "asset_triggered" and (champion := read_champion(store)):
        raise AirflowSkipException(f"there is a champion ({champion}); the weekly run trains the next")
    n_films = len({film for _, manifest in list_shards(store) for film in manifest.film_ids})
    if n_films < settings.model.min_films:
        raise AirflowSkipException(f"{n_films} films so far, {settings.model.min_films} are needed to train")
    return f"{n_films} films are there ({run_type})"
