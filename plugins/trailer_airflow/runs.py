"""What a DAG asks about its own run: which days, is training due, how did the tasks end."""

from __future__ import annotations

import datetime as dt
import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from trailer_ml.records import BatchRef, Interval
from trailer_ml.storage import shard_manifest_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)

_NAMED = 5  # of what was lost, so many are named; the logs name all


def interval_of_run(context: Mapping[str, Any]) -> Interval:
    """The listing dates of a run: the form's days, else its interval, else (by hand, without either) yesterday, UTC.

    Raises:
        AirflowFailException: the form's last day comes before its first, or has none.

    >>> interval_of_run({"params": {"listed_on": "2026-11-22", "until": "2026-11-23"}}).end.isoformat()
    '2026-11-24'
    """
    day, until = context["params"].get("listed_on"), context["params"].get("until")
    if until and not (day and day <= until):
        raise AirflowFailException(f"Until {until}: the form says {day or 'nothing'} as the first day, Listed on")
    if day:
        return Interval(start=day, end=dt.date.fromisoformat(until or day) + dt.timedelta(days=1))
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    if start and end and start < end:
        first, last = start.astimezone(dt.UTC).date(), (end.astimezone(dt.UTC) - dt.timedelta(microseconds=1)).date()
        return Interval(start=first, end=last + dt.timedelta(days=1))
    return Interval.of_day(dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1))


def days_of_run(context: Mapping[str, Any], settings: Settings, store: Store) -> dict[str, Any]:
    """The days that a run takes: those of its interval, and of a scheduled run also those that were missed before it.

    A night is missed when the scheduler is down, or when earlier runs that wait for their next try keep it from
    starting; Airflow does not make up for it. A day counts as missed when it was not crawled, while some day before it
    was: what came before the first was never asked for. One that was crawled does when something it lists is in no
    batch or a batch of it has no shard, unless another run is under way, which may be at just that.

    Returns:
        `start` and `end`, the days of `[start, end)`; `n_caught_up`, how many of them were missed; `n_left_out`, how
        many were missed right before and lie too far back (`catalog.max_catch_up_days`).
    """
    own = interval_of_run(context)
    found: dict[str, Any] = {**own.to_json(), "n_caught_up": 0, "n_left_out": 0}
    crawled = {day for day in _days_below("catalog", store) if day < own.start}
    if context["dag_run"].run_type != "scheduled" or not crawled:
        return found
    first = max(min(crawled), own.start - dt.timedelta(days=settings.catalog.max_catch_up_days))
    days = Interval(start=first, end=own.start).days() if first < own.start else ()
    is_alone = context["ti"].get_dr_count(context["dag_run"].dag_id, states=["running"]) <= 1
    missed = [day for day in days if day not in crawled or (is_alone and _is_unfinished(day, store))]
    last = max(day for day in crawled if day <= first)
    found["n_left_out"] = max(0, (first - last).days - 1)
    if missed:
        found |= {"start": missed[0].isoformat(), "n_caught_up": len(missed)}
        logger.info("%d days before %s were missed and are made up for, from %s on", len(missed), own.start, missed[0])
    if found["n_left_out"]:
        logger.warning("%d days after %s were missed and are too far back: backfill them", found["n_left_out"], last)
    return found


def _is_unfinished(day: dt.date, store: Store) -> bool:
    """Whether a batch of the day has no shard, or something that it lists is in no batch."""
    from trailer_ml.catalog.listing import list_batches, read_batch_ids, read_taken_down, read_trailers

    batches = list_batches(store, day)
    if any(not store.exists(shard_manifest_key(batch)) for batch in batches):
        return True
    planned = {trailer_id for batch in batches for trailer_id in read_batch_ids(store, batch)}
    listed = {trailer.trailer_id for trailer in read_trailers(store, day)}
    return bool(listed - planned - read_taken_down(store))


def _days_below(folder: str, store: Store) -> set[dt.date]:
    head = f"{folder}/listed="
    texts = {key.removeprefix(head).partition("/")[0] for key in store.list_keys(head)}
    return {dt.date.fromisoformat(text) for text in texts}


def interval_of_days(days: Mapping[str, Any]) -> Interval:
    """What `days_of_run` found, as the stages take it.

    >>> len(interval_of_days({"start": "2026-11-20", "end": "2026-11-23", "n_caught_up": 2, "n_left_out": 0}).days())
    3
    """
    return Interval(start=days["start"], end=days["end"])


def read_batch(value: Mapping[str, Any]) -> BatchRef:
    """The batch of a mapped task, whose name it gives to the task in the UI."""
    batch = BatchRef.model_validate(value)
    get_current_context()["batch"] = batch.path
    return batch


def rows(value: Any) -> list[dict[str, Any]]:
    """What a mapped task group hands out, as a list: Airflow gives None for no survivor and the bare value for one.

    >>> rows(None), rows({"n": 1}), rows([{"n": 1}, None])
    ([], [{'n': 1}], [{'n': 1}])
    """
    if value is None:
        return []
    return [value] if isinstance(value, dict) else [row for row in value if row is not None]


def made_of(planned: Any, shards: Any) -> list[dict[str, Any]]:
    """What became of the batches that this run planned: one that is done again still has what it made before, too.

    >>> made_of([{"n": 1}], [{"batch": {"n": 1}}, {"batch": {"n": 2}}]), made_of([], {"batch": {"n": 2}})
    ([{'batch': {'n': 1}}], [])
    """
    batches = rows(planned)
    return [row for row in rows(shards) if row["batch"] in batches]


def shards_event(planned: Any, shards: Any) -> dict[str, Any]:
    """What the event about new shards says.

    Raises:
        AirflowSkipException: there are none, so nobody is woken.
    """
    made = made_of(planned, shards)
    if not made:
        raise AirflowSkipException("no batch was due: nothing is new" if not rows(planned) else "no shard was made")
    days = sorted({row["batch"]["listed_on"] for row in made})
    return {"listed_on": days, "n_shards": len(made), "n_trailers": sum(row["count"] for row in made)}


def sum_up(days: Any, found: Any, planned: Any, shards: Any) -> dict[str, Any]:
    """The run of trailers_refresh in numbers.

    Raises:
        AirflowFailException: the crawl failed, or batches were lost.
    """
    if days is None or found is None or planned is None:
        raise AirflowFailException("the crawl or the planning failed; see their logs")
    made = made_of(planned, shards)
    numbers = {
        **days,
        "n_listed": found["n_listed"],
        "n_titles_set_aside": sum(found["set_aside"].values()),
        "n_batches": len(planned),
        "n_sharded": sum(row["count"] for row in made),
        "n_rejected": sum(sum(row["rejected"].values()) for row in made),
    }
    if lost := [batch for batch in planned if batch not in [row["batch"] for row in made]]:
        names = ", ".join(f"{batch['listed_on']}/{batch['number']:04d}" for batch in lost[:_NAMED])
        raise AirflowFailException(f"{len(lost)} of {len(planned)} batches were lost ({names}); the others: {numbers}")
    return numbers


def skip_without_champion(store: Store) -> None:
    """Nothing is indexed before there is a model.

    Raises:
        AirflowSkipException: none has been promoted yet.
    """
    from trailer_ml.model.registry import read_champion

    if read_champion(store) is None:
        raise AirflowSkipException("no model has been promoted yet: trailers_train makes one")


def stop_without_plan(planned: Any, store: Store) -> None:
    """Stop a task that follows whatever became of the plan: one that was skipped and one that failed are both None.

    Raises:
        AirflowSkipException: nothing was planned, for no model has been promoted yet.
        AirflowFailException: the planning failed.
    """
    if planned is None:
        skip_without_champion(store)
        raise AirflowFailException("the planning failed, see its log: what was served stays")


def sum_up_index(planned: Any, embedded: Any, built: Any, published: Any) -> dict[str, Any]:
    """The run of trailers_index in numbers.

    Raises:
        AirflowFailException: something was lost on the way, or the index was not published.
    """
    done = rows(embedded)
    bad = list(dict.fromkeys(shard["key"] for row in done for shard in row["bad"]))  # by two models it is bad twice
    bad += built["left_out"] if built else []
    problems = []
    if bad:
        names = ", ".join(bad[:_NAMED])
        problems.append(f"{len(bad)} bad shards or embeddings were left out ({names}): `trailer-ml verify` says more")
    if lost := len(planned) - len(done):
        problems.append(f"{lost} of {len(planned)} embedding tasks failed, see their logs")
    if published is None:
        problems.append("no index was published, what was served stays")
    elif not published["is_published"]:
        problems.append(f"{published['version']} is not served, what was served stays: {published['reason']}")
    numbers = {
        "n_shards": sum(row["n_shards"] for row in done),
        "n_trailers": sum(row["n_trailers"] for row in done),
        "index": published["version"] if published else None,
        "n_indexed": published["n"] if published else None,
        "recall_at_10": published["recall_at_10"] if published else None,
    }
    if problems:
        raise AirflowFailException(f"{'; '.join(problems)}; the others: {numbers}")
    return numbers


def sum_up_training(
    dataset: Mapping[str, Any], evaluation: Mapping[str, Any], promotion: Mapping[str, Any]
) -> dict[str, Any]:
    """The run of trailers_train in numbers."""
    return {
        "version": dataset["version"],
        "n_trailers": dataset["n_trailers"],
        "n_films": dataset["n_films"],
        "map_at_k": evaluation["map_at_k"],
        "champion_map_at_k": evaluation["champion_map_at_k"],
        "champion": promotion["champion"],
        "reason": promotion["reason"],
    }


def training_reason(run_type: str, settings: Settings, store: Store) -> str:
    """Why this run trains.

    Raises:
        AirflowSkipException: nobody asked for it by hand, and there are too few films, or it was woken by new shards
            and there is a champion already.
    """
    from trailer_ml.model.registry import read_champion
    from trailer_ml.shards.manifests import list_shards

    if run_type == "manual":
        return "asked for by hand"
    if run_type == "asset_triggered" and (champion := read_champion(store)):
        raise AirflowSkipException(f"there is a champion ({champion}); the weekly run trains the next")
    n_films = len({film for _, manifest in list_shards(store) for film in manifest.film_ids})
    if n_films < settings.model.min_films:
        raise AirflowSkipException(f"{n_films} films so far, {settings.model.min_films} are needed to train")
    return f"{n_films} films are there ({run_type})"
