"""What a DAG decides about its own run: which days, whether to train, whether batches were lost."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from airflow.sdk import RetryAction
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from trailer_airflow.defaults import DEFAULT_ARGS
from trailer_airflow.runs import interval_of_run, shards_event, sum_up, training_reason
from trailer_ml.errors import RateLimitedError, SourceBlockedError, SourceUnavailableError
from trailer_ml.settings import Settings
from trailer_ml.storage import CHAMPION_KEY, Store

MIDNIGHT = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
SHARD = {"batch": {"listed_on": "2026-11-22", "number": 0}, "count": 11, "rejected": {"corrupt": 1}}
FOUND = {"n_listed": 24, "set_aside": {"no_trailer": 1, "not_a_movie": 1}}


def _context(day: str | None, start: dt.datetime | None = None, end: dt.datetime | None = None) -> dict[str, Any]:
    return {"params": {"listed_on": day}, "data_interval_start": start, "data_interval_end": end}


def test_the_form_wins_over_the_interval() -> None:
    found = interval_of_run(_context("2026-11-20", MIDNIGHT, MIDNIGHT + dt.timedelta(days=1)))
    assert (found.start, found.end) == (dt.date(2026, 11, 20), dt.date(2026, 11, 21))


def test_a_scheduled_run_takes_its_interval() -> None:
    found = interval_of_run(_context(None, MIDNIGHT, MIDNIGHT + dt.timedelta(days=1)))
    assert (found.start, found.end) == (dt.date(2026, 11, 22), dt.date(2026, 11, 23))


def test_an_interval_of_another_time_zone_covers_every_day_it_touches() -> None:
    start = dt.datetime(2026, 11, 22, tzinfo=dt.timezone(dt.timedelta(hours=5)))
    found = interval_of_run(_context(None, start, start + dt.timedelta(days=1)))
    assert (found.start, found.end) == (dt.date(2026, 11, 21), dt.date(2026, 11, 23))


@pytest.mark.parametrize("moment", [None, MIDNIGHT])
def test_by_hand_without_either_it_is_yesterday(moment: dt.datetime | None) -> None:
    before = dt.datetime.now(dt.UTC).date()
    found = interval_of_run(_context(None, moment, moment))
    after = dt.datetime.now(dt.UTC).date()
    assert found.end in {before, after}
    assert found.start == found.end - dt.timedelta(days=1)


def test_asked_for_by_hand_it_trains_whatever_there_is(settings: Settings, store: Store) -> None:
    store.swap_pointer(CHAMPION_KEY, {"version": "m-1"}, None)
    assert training_reason("manual", settings, store) == "asked for by hand"


def test_shards_train_the_first_model_only_and_only_when_there_are_enough_films(
    settings: Settings, store: Store, put_embedded: Callable[..., Any], make_vectors: Callable[..., np.ndarray]
) -> None:
    for run_type in ("asset_triggered", "scheduled"):
        with pytest.raises(AirflowSkipException, match="0 films so far, 30 are needed"):
            training_reason(run_type, settings, store)
    put_embedded(make_vectors(30))  # and with them a champion
    with pytest.raises(AirflowSkipException, match="there is a champion"):
        training_reason("asset_triggered", settings, store)
    assert training_reason("scheduled", settings, store) == "30 films are there (scheduled)"
    store.delete(CHAMPION_KEY)
    assert training_reason("asset_triggered", settings, store) == "30 films are there (asset_triggered)"


def test_nobody_is_woken_for_nothing() -> None:
    with pytest.raises(AirflowSkipException, match="nothing is new"):
        shards_event([], None)
    with pytest.raises(AirflowSkipException, match="no shard was made"):
        shards_event([SHARD["batch"]], [None])
    assert shards_event([SHARD["batch"]], SHARD) == {"listed_on": ["2026-11-22"], "n_shards": 1, "n_trailers": 11}


def test_the_summary_counts() -> None:
    numbers = sum_up(FOUND, [SHARD["batch"]], [SHARD])
    assert numbers == {"n_listed": 24, "n_titles_set_aside": 2, "n_batches": 1, "n_sharded": 11, "n_rejected": 1}
    assert sum_up(FOUND, [], None)["n_sharded"] == 0


def test_a_lost_batch_fails_the_run_by_name() -> None:
    planned = [SHARD["batch"], {"listed_on": "2026-11-22", "number": 1}]
    with pytest.raises(AirflowFailException, match=r"1 of 2 batches were lost \(2026-11-22/0001\)"):
        sum_up(FOUND, planned, [SHARD, None])


def test_a_failed_crawl_is_no_success() -> None:
    with pytest.raises(AirflowFailException, match="crawl"):
        sum_up(None, None, None)


@pytest.mark.parametrize(
    ("error", "action", "delay_s"),
    [
        (RateLimitedError("wait", retry_after_s=5400.0), RetryAction.RETRY, 5400.0),
        (RateLimitedError("wait", retry_after_s=1e20), RetryAction.RETRY, 7 * 86400.0),
        (SourceUnavailableError("it does not answer"), RetryAction.RETRY, None),
        (SourceBlockedError("a challenge"), RetryAction.FAIL, None),
        (KeyError("nobody foresaw it"), RetryAction.DEFAULT, None),
    ],
)
def test_when_a_task_is_tried_again(error: Exception, action: RetryAction, delay_s: float | None) -> None:
    decision = DEFAULT_ARGS["retry_policy"].evaluate(error, 1, 3)
    assert decision.action == action
    assert decision.retry_delay == (None if delay_s is None else dt.timedelta(seconds=delay_s))
