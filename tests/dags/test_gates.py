"""What a DAG decides about its own run: which days, whether to train, whether batches were lost."""

import datetime as dt
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from airflow.sdk import RetryAction
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from trailer_airflow.defaults import DEFAULT_ARGS
from trailer_airflow.forms import training_settings
from trailer_airflow.runs import (
    days_of_run,
    interval_of_run,
    shards_event,
    stop_without_plan,
    sum_up,
    sum_up_index,
    sum_up_training,
    training_reason,
)
from trailer_ml.errors import RateLimitedError, SettingsError, SourceBlockedError, SourceUnavailableError
from trailer_ml.records import BatchRef
from trailer_ml.settings import Settings
from trailer_ml.storage import (
    CHAMPION_KEY,
    Store,
    batch_key,
    catalog_key,
    encode_json,
    shard_manifest_key,
    tombstone_key,
)

MIDNIGHT = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
SHARD = {"batch": {"listed_on": "2026-11-22", "number": 0}, "count": 11, "rejected": {"corrupt": 1}}
DAYS = {"start": "2026-11-22", "end": "2026-11-23", "n_caught_up": 0, "n_left_out": 0}
FOUND = {"n_listed": 24, "set_aside": {"no_trailer": 1, "not_a_movie": 1}}


class Run(NamedTuple):
    run_type: str
    dag_id: str = "trailers_refresh"


class RunningTask(NamedTuple):
    """The task that asks, as far as it is asked: how many runs are under way, its own among them."""

    n_running: int

    def get_dr_count(self, dag_id: str, states: list[str]) -> int:
        assert (dag_id, states) == ("trailers_refresh", ["running"])
        return self.n_running


def _context(
    day: str | None,
    start: dt.datetime | None = None,
    end: dt.datetime | None = None,
    run_type: str = "manual",
    n_running: int = 1,
) -> dict[str, Any]:
    return {
        "ti": RunningTask(n_running),
        "params": {"listed_on": day},
        "data_interval_start": start,
        "data_interval_end": end,
        "dag_run": Run(run_type),
    }


def _day(number: int) -> dt.date:
    return dt.date(2026, 11, number)


def _days(
    settings: Settings, store: Store, run_type: str = "scheduled", day: str | None = None, n_running: int = 1
) -> tuple[Any, ...]:
    """What a run over 2026-11-22 takes: from when on, how many missed days, how many left out."""
    context = _context(day, MIDNIGHT, MIDNIGHT + dt.timedelta(days=1), run_type, n_running)
    found = days_of_run(context, settings, store)
    assert found["end"] == "2026-11-23" or day
    return found["start"], found["n_caught_up"], found["n_left_out"]


@pytest.fixture
def crawl(store: Store) -> Callable[..., None]:
    """Leaves days of November as a crawl does that found nothing."""

    def leave(*days: int) -> None:
        for day in days:
            store.create_bytes(catalog_key(_day(day)), b"")

    return leave


def test_a_scheduled_night_takes_those_that_were_missed(
    settings: Settings, store: Store, crawl: Callable[..., None]
) -> None:
    assert _days(settings, store) == ("2026-11-22", 0, 0)  # the first night there is
    crawl(18, 19, 23)  # a later day, by hand or by a run that overtook this one, is no reason to stop
    for run_type in ("manual", "backfill"):
        assert _days(settings, store, run_type) == ("2026-11-22", 0, 0)
    assert _days(settings, store, day="2026-11-20") == ("2026-11-20", 0, 0)
    assert _days(settings, store) == ("2026-11-20", 2, 0)
    crawl(21)
    assert _days(settings, store) == ("2026-11-20", 1, 0)  # a gap is a gap, also where days after it are there
    crawl(20, 22)
    assert _days(settings, store) == ("2026-11-22", 0, 0)


def test_so_many_days_back_and_no_further(
    settings: Settings, store: Store, crawl: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    crawl(1, 3)
    assert _days(settings, store) == ("2026-11-08", 14, 4)
    assert "4 days after 2026-11-03 were missed and are too far back: backfill them" in caplog.text
    none = settings.model_copy(update={"catalog": settings.catalog.model_copy(update={"max_catch_up_days": 0})})
    assert _days(none, store) == ("2026-11-22", 0, 18)
    crawl(7)
    assert _days(settings, store) == ("2026-11-08", 14, 0)
    crawl(8)
    assert _days(settings, store) == ("2026-11-09", 13, 0)


def test_a_day_that_was_crawled_and_is_not_finished_was_missed_too(
    settings: Settings, store: Store, crawl: Callable[..., None], make_trailer: Callable[..., Any]
) -> None:
    crawl(18, 19)  # nothing was listed, so there is nothing to plan
    trailers = [make_trailer(number, _day(20)) for number in range(3)]
    lines = b"".join(encode_json(trailer.to_json()) for trailer in trailers)
    store.create_bytes(catalog_key(_day(20)), lines)
    crawl(21)
    first, second = (BatchRef(listed_on=_day(20), number=number) for number in range(2))
    missed, finished = ("2026-11-20", 1, 0), ("2026-11-22", 0, 0)
    assert _days(settings, store) == missed  # never planned
    store.create_json(batch_key(first), {"trailer_ids": [trailer.trailer_id for trailer in trailers[:2]]})
    store.create_json(shard_manifest_key(first), {})
    assert _days(settings, store) == missed  # the planning was killed half-way
    store.create_json(batch_key(second), {"trailer_ids": [trailers[2].trailer_id]})
    assert _days(settings, store) == missed  # the run was given up before the second shard
    assert _days(settings, store, n_running=2) == finished  # or it is just being made
    store.create_json(shard_manifest_key(second), {})
    assert _days(settings, store) == finished


def test_a_trailer_that_was_taken_down_is_not_waited_for(
    settings: Settings, store: Store, make_trailer: Callable[..., Any]
) -> None:
    trailer = make_trailer(0, _day(20))
    store.create_bytes(catalog_key(_day(20)), encode_json(trailer.to_json()))
    store.create_json(tombstone_key(trailer.trailer_id), {})
    assert _days(settings, store) == ("2026-11-21", 1, 0)


def test_the_form_wins_over_the_interval() -> None:
    found = interval_of_run(_context("2026-11-20", MIDNIGHT, MIDNIGHT + dt.timedelta(days=1)))
    assert (found.start, found.end) == (dt.date(2026, 11, 20), dt.date(2026, 11, 21))


def test_the_form_may_have_several_days() -> None:
    context = _context("2026-11-20", MIDNIGHT, MIDNIGHT + dt.timedelta(days=1))
    context["params"]["until"] = "2026-11-22"
    found = interval_of_run(context)
    assert (found.start, found.end) == (dt.date(2026, 11, 20), dt.date(2026, 11, 23))
    for first in ("2026-11-23", None):
        context["params"]["listed_on"] = first
        with pytest.raises(AirflowFailException, match="Until 2026-11-22"):
            interval_of_run(context)


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


def test_the_form_says_how_long_it_is_trained_and_from_which_seed() -> None:
    nothing = {"epochs": None, "seed": None}
    assert training_settings(nothing, Settings()) == Settings()
    asked = training_settings({"epochs": [1, 2, 3, 4], "seed": 0}, Settings()).model
    assert [phase.epochs for phase in asked.phases] == [1, 2, 3, 4]
    assert [phase.name for phase in asked.phases] == [phase.name for phase in Settings().model.phases]
    assert asked.seed == 0
    with pytest.raises(SettingsError, match="1 numbers of epochs for 4 phases: warm-up, triplet-frozen"):
        training_settings(nothing | {"epochs": [5]}, Settings())


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
    with pytest.raises(AirflowSkipException, match="nothing is new"):
        shards_event([], [SHARD])  # of a run that was done before and is done again
    assert shards_event([SHARD["batch"]], SHARD) == {"listed_on": ["2026-11-22"], "n_shards": 1, "n_trailers": 11}


def test_the_summary_counts() -> None:
    numbers = sum_up(DAYS, FOUND, [SHARD["batch"]], [SHARD])
    assert numbers == {
        **DAYS, "n_listed": 24, "n_titles_set_aside": 2, "n_batches": 1, "n_sharded": 11, "n_rejected": 1
    }  # fmt: skip
    assert sum_up(DAYS, FOUND, [], None)["n_sharded"] == sum_up(DAYS, FOUND, [], [SHARD])["n_sharded"] == 0


def test_a_lost_batch_fails_the_run_by_name() -> None:
    planned = [SHARD["batch"], {"listed_on": "2026-11-22", "number": 1}]
    with pytest.raises(AirflowFailException, match=r"1 of 2 batches were lost \(2026-11-22/0001\)"):
        sum_up(DAYS, FOUND, planned, [SHARD, None])


def test_a_failed_crawl_is_no_success() -> None:
    with pytest.raises(AirflowFailException, match="crawl"):
        sum_up(DAYS, None, None, None)


def test_a_planning_that_fails_is_no_success_and_one_without_a_model_no_failure(store: Store) -> None:
    with pytest.raises(AirflowSkipException, match="no model has been promoted yet"):
        stop_without_plan(None, store)
    store.swap_pointer(CHAMPION_KEY, {"version": "m-1"}, None)
    with pytest.raises(AirflowFailException, match="the planning failed"):
        stop_without_plan(None, store)
    stop_without_plan([], store)


EMBEDDED = {"n_shards": 2, "n_trailers": 20, "bad": []}
BAD = {"n_shards": 1, "n_trailers": 10, "bad": [{"key": "shards/x.tfrecord", "problems": ["its bytes"]}]}
BUILT = {"version": "i-1", "n": 30, "recall_at_10": 0.99, "left_out": [], "is_published": True, "reason": ""}


def test_the_index_is_summed_up() -> None:
    numbers = {"n_shards": 4, "n_trailers": 40, "index": "i-1", "n_indexed": 30, "recall_at_10": 0.99}
    assert sum_up_index([{}, {}], [EMBEDDED, EMBEDDED], BUILT, BUILT) == numbers
    assert sum_up_index([], None, BUILT, BUILT)["n_shards"] == 0


def test_a_training_is_summed_up() -> None:
    dataset = {"version": "m-2", "n_trailers": 60, "n_films": 50, "key": "models/m-2/dataset.json"}
    evaluation = {"map_at_k": 0.3, "champion_map_at_k": 0.4, "k": 10}
    promotion = {"version": "m-2", "champion": "m-1", "is_promoted": False, "reason": "not better"}
    assert sum_up_training(dataset, evaluation, promotion) == {
        "version": "m-2", "n_trailers": 60, "n_films": 50, "map_at_k": 0.3, "champion_map_at_k": 0.4,
        "champion": "m-1", "reason": "not better",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([{}], BAD, BUILT, BUILT), r"1 bad shards or embeddings were left out \(shards/x.tfrecord\)"),
        (([{}], EMBEDDED, BUILT | {"left_out": ["embeddings/y.npz"]}, BUILT), r"left out \(embeddings/y.npz\)"),
        (([{}, {}], [EMBEDDED, None], BUILT, BUILT), "1 of 2 embedding tasks failed"),
        (([], None, BUILT, None), "no index was published"),
        (([], None, BUILT, BUILT | {"is_published": False, "reason": "poor"}), "i-1 is not served.*: poor"),
        (([{}], BAD, None, None), r"shards/x.tfrecord.*no index was published"),
    ],
)
def test_an_index_run_that_lost_something_fails_and_says_what(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(AirflowFailException, match=message):
        sum_up_index(*arguments)


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
