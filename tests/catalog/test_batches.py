import datetime as dt
import json

import pytest

from trailer_ml.catalog.again import try_again
from trailer_ml.catalog.batches import plan_batches
from trailer_ml.catalog.listing import list_batches, read_batch, read_batch_ids, read_trailers
from trailer_ml.records import BatchRef, Interval, Quarantine, ShardManifest, Trailer
from trailer_ml.settings import CatalogSettings
from trailer_ml.storage import (
    batch_key,
    catalog_key,
    late_key,
    quarantine_key,
    receipt_key,
    shard_key,
    shard_manifest_key,
)

DAY = dt.date(2026, 11, 20)
NEXT = dt.date(2026, 11, 21)
PAST = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
FUTURE = dt.datetime(2099, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def small(settings):
    """Batches of three."""
    return settings.model_copy(update={"catalog": CatalogSettings(batch_size=3)})


def list_day(store, day, *ids, key=None):
    lines = [
        json.dumps(
            Trailer(
                trailer_id=i, film_id=f"f-{i}", title=i, source="s", source_url="http://x.invalid", listed_on=day
            ).to_json()
        )
        for i in ids
    ]
    store.create_bytes(key or catalog_key(day), "\n".join(lines).encode())


def shard(store, batch, *ids):
    manifest = ShardManifest(
        key=shard_key(batch), sha256="0", size_bytes=0, count=len(ids), trailer_ids=ids, film_ids=(), sampler="exact",
        features={}, schema_version=1, extractor_version="1",
    )  # fmt: skip
    store.create_json(shard_manifest_key(batch), manifest.to_json())


def wait(store, trailer_id, retry_at, stage="download", reason="x"):
    entry = Quarantine(id=trailer_id, stage=stage, reason=reason, is_permanent=retry_at is None, retry_at=retry_at)
    store.put_json(quarantine_key(stage, trailer_id), entry.to_json())


def ids_of(store, batches):
    return [read_batch_ids(store, batch) for batch in batches]


def test_a_day_is_cut_into_batches_in_the_order_of_the_ids(small, store):
    list_day(store, DAY, "e", "b", "d", "a", "c")
    batches = plan_batches(Interval.of_day(DAY), small, store)
    assert [batch.path for batch in batches] == ["listed=2026-11-20/0000", "listed=2026-11-20/0001"]
    assert ids_of(store, batches) == [("a", "b", "c"), ("d", "e")]
    assert [trailer.trailer_id for trailer in read_batch(store, batches[1])] == ["d", "e"]


def test_a_second_plan_writes_nothing_and_a_finished_interval_needs_nothing(small, store):
    list_day(store, DAY, "a", "b", "c", "d")
    first = plan_batches(Interval.of_day(DAY), small, store)
    keys = list(store.list_keys(""))
    assert plan_batches(Interval.of_day(DAY), small, store) == first
    shard(store, first[0], "a", "b", "c")
    assert plan_batches(Interval.of_day(DAY), small, store) == first[1:]
    shard(store, first[1])
    wait(store, "d", FUTURE)
    assert plan_batches(Interval.of_day(DAY), small, store) == []
    assert len(list(store.list_keys("batches/"))) == len([key for key in keys if key.startswith("batches/")])


@pytest.mark.parametrize("stage", ["download", "shard"])
def test_what_is_due_again_gets_a_new_batch_of_its_own_day(small, store, stage):
    list_day(store, DAY, "a", "b", "c")
    list_day(store, NEXT, "z")
    (done,) = plan_batches(Interval.of_day(DAY), small, store)
    shard(store, done, "a")
    wait(store, "b", PAST, stage)
    wait(store, "c", None, stage)
    planned = plan_batches(Interval.of_day(NEXT), small, store)
    assert [batch.path for batch in planned] == ["listed=2026-11-20/0001", "listed=2026-11-21/0000"]
    assert ids_of(store, planned) == [("b",), ("z",)]
    # until it is done it is the same batch, whichever day is run, and it is tried once
    assert plan_batches(Interval.of_day(NEXT), small, store) == planned
    shard(store, planned[0], "b")
    shard(store, planned[1], "z")
    assert (
        plan_batches(Interval.of_day(NEXT), small, store) == []
    )  # the quarantine of b was not deleted, its shard counts


@pytest.mark.parametrize("stage", ["download", "shard"])
def test_what_was_lost_for_a_reason_is_tried_again_when_a_person_says_so(small, store, stage):
    list_day(store, DAY, "a", "b", "c", "d")
    for batch in plan_batches(Interval.of_day(DAY), small, store):
        shard(store, batch)
    for trailer_id, retry_at, reason in (("a", None, "gone"), ("b", FUTURE, "gone"), ("c", None, "drm")):
        wait(store, trailer_id, retry_at, stage, reason)
    assert try_again((), store).n_by_reason == {}
    assert plan_batches(Interval.of_day(NEXT), small, store) == []
    assert try_again(("gone", "live"), store).n_by_reason == {"gone": 2, "live": 0}
    planned = plan_batches(Interval.of_day(NEXT), small, store)
    assert ids_of(store, planned) == [("a", "b")]
    entry = Quarantine.model_validate(store.read_json(quarantine_key(stage, "a")))
    assert (entry.is_permanent, entry.attempts) == (False, 0)  # so that the download does not take it for given up
    assert store.read_json(quarantine_key(stage, "c"))["is_permanent"]


def test_what_was_taken_down_is_not_tried_again(store):
    wait(store, "a", None)
    store.put_json("tombstones/a.json", {})
    assert try_again(["x"], store).n_by_reason == {"x": 0}
    assert list(store.list_keys("quarantine/")) == []


def test_what_was_found_late_gets_a_batch_of_its_own_day(small, store):
    list_day(store, DAY, "b", "d")
    (done,) = plan_batches(Interval.of_day(DAY), small, store)
    shard(store, done, "b", "d")
    list_day(store, NEXT, "z")
    for found_on, ids in ((NEXT, "ac"), (dt.date(2026, 11, 22), "ce")):  # two crawls at the same time
        list_day(store, DAY, *ids, key=late_key(DAY, found_on))
    assert [trailer.trailer_id for trailer in read_trailers(store, DAY)] == list("abcde")
    planned = plan_batches(Interval.of_day(NEXT), small, store)
    assert ids_of(store, planned) == [("a", "c"), ("z",)]
    assert [batch.path for batch in planned] == ["listed=2026-11-20/0001", "listed=2026-11-21/0000"]
    also = plan_batches(Interval.of_day(dt.date(2026, 11, 22)), small, store)
    assert ids_of(store, also) == [("a", "c"), ("e",)]
    assert [trailer.trailer_id for trailer in read_batch(store, also[1])] == ["e"]
    for batch in also:
        shard(store, batch, *read_batch_ids(store, batch))
    assert plan_batches(Interval(start=DAY, end=dt.date(2026, 11, 23)), small, store) == planned[1:]


def test_a_batch_that_is_still_to_be_done_is_not_left_by_its_trailers(small, store):
    """Or one trailer would end up in two shards."""
    list_day(store, DAY, "a", "b")
    (batch,) = plan_batches(Interval.of_day(DAY), small, store)
    wait(store, "a", PAST)
    assert plan_batches(Interval.of_day(DAY), small, store) == [batch]
    assert plan_batches(Interval.of_day(NEXT), small, store) == [batch]  # parked by its source, and due now
    assert list_batches(store) == [batch]


def test_what_waits_again_gets_one_more_batch(small, store):
    list_day(store, DAY, "a")
    for number in range(3):
        (batch,) = plan_batches(Interval.of_day(DAY), small, store)
        assert batch.number == number
        wait(store, "a", PAST)
        shard(store, batch)
    assert len(list_batches(store, DAY)) == 3


def test_what_came_after_its_shard_was_written_gets_a_batch_of_its_own(small, store):
    list_day(store, DAY, "a", "b", "c")
    (batch,) = plan_batches(Interval.of_day(DAY), small, store)
    shard(store, batch, "a")  # b still waits, c was downloaded by a second run of the batch, too late for the shard
    wait(store, "b", FUTURE)
    store.put_json(receipt_key("c"), {})
    (late,) = plan_batches(Interval.of_day(DAY), small, store)
    assert ids_of(store, [late]) == [("c",)]
    shard(store, late, "c")
    assert plan_batches(Interval.of_day(DAY), small, store) == []


def test_what_was_taken_down_is_left_out(small, store):
    list_day(store, DAY, "a", "b")
    list_day(store, NEXT, "c")
    (old,) = plan_batches(Interval.of_day(NEXT), small, store)
    shard(store, old)
    wait(store, "c", PAST)
    for trailer_id in ("a", "c"):
        store.put_json(f"tombstones/{trailer_id}.json", {})
    batches = plan_batches(Interval(start=DAY, end=dt.date(2026, 11, 22)), small, store)
    assert ids_of(store, batches) == [("b",)]
    store.put_json("tombstones/b.json", {})
    assert read_batch(store, batches[0]) == ()
    assert len(list(read_trailers(store))) == 3


def test_a_lost_race_for_a_number_is_run_again(small, store, monkeypatch):
    list_day(store, DAY, "a", "b", "c", "d")
    create = type(store).create_json

    def create_too_late(self, key, value):
        monkeypatch.setattr(type(store), "create_json", create)
        create(self, key, {"trailer_ids": ["a", "b"]})  # somebody else, with another batch size
        return create(self, key, value)

    monkeypatch.setattr(type(store), "create_json", create_too_late)
    batches = plan_batches(Interval.of_day(DAY), small, store)
    assert ids_of(store, batches) == [("a", "b"), ("c", "d")]


def test_a_day_without_a_catalog_has_no_batches(small, store):
    assert plan_batches(Interval.of_day(DAY), small, store) == []
    assert list_batches(store) == []
    assert batch_key(BatchRef(listed_on=DAY, number=0)) == "batches/listed=2026-11-20/0000.json"
