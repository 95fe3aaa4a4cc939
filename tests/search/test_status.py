"""Status: every trailer in exactly one state, and taking one down."""

import datetime as dt

import pytest

from trailer_ml.errors import CorruptShardError, UnknownTrailerError
from trailer_ml.records import BatchRef, Evaluation, Quarantine, Rejected, ShardManifest
from trailer_ml.search.figures import list_figures, render_figures
from trailer_ml.search.status import count_states, read_standings
from trailer_ml.search.takedown import take_down
from trailer_ml.storage import (
    catalog_key,
    embeddings_manifest_key,
    model_key,
    quarantine_key,
    receipt_key,
    shard_manifest_key,
)

LATER = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)


def set_aside(store, item_id, stage, reason, *, waits=False) -> None:
    entry = Quarantine(
        id=item_id, stage=stage, reason=reason, is_permanent=not waits, retry_at=LATER if waits else None
    )
    store.put_json(quarantine_key(stage, item_id), entry.to_json())


def list_trailers(store, trailers) -> None:
    day = trailers[0].listed_on
    store.put_bytes(catalog_key(day), b"".join(trailer.model_dump_json().encode() + b"\n" for trailer in trailers))


@pytest.fixture
def full_store(store, put_embedded, make_vectors, make_trailer, publish):
    """Two days and a third: indexed, then embedded and sharded, then all that went no further."""
    days = [dt.date(2026, 11, day) for day in (20, 21, 22)]
    put_embedded(make_vectors(5), [make_trailer(n, days[0]) for n in range(5)])
    publish()
    put_embedded(make_vectors(4), [make_trailer(n, days[1]) for n in range(10, 14)], day=days[1], batch_size=2)
    store.delete(embeddings_manifest_key("m-1", BatchRef(listed_on=days[1], number=1)))
    list_trailers(store, [make_trailer(n, days[2]) for n in range(20, 28)])
    set_aside(store, "imdb-vi0000020", "download", "gone")
    set_aside(store, "imdb-vi0000021", "shard", "corrupt")
    store.put_json(receipt_key("imdb-vi0000021"), {})
    set_aside(store, "imdb-vi0000022", "download", "rate_limited", waits=True)
    store.put_json(receipt_key("imdb-vi0000023"), {})
    batch = BatchRef(listed_on=days[2], number=0)
    shard = ShardManifest(
        key="", sha256="", size_bytes=0, count=0, trailer_ids=(), film_ids=(), sampler="exact", features={},
        rejected=(
            Rejected(trailer_id="imdb-vi0000024", reason="no_video"),
            Rejected(trailer_id="imdb-vi0000022", reason="rate_limited"),
        ),
        schema_version=1, extractor_version="1",
    )  # fmt: skip
    store.put_json(shard_manifest_key(batch), shard.to_json())
    for title in ("imdb-tt900", "imdb-tt901"):
        set_aside(store, title, "catalog", "not_a_movie")
    set_aside(store, "imdb-tt902", "catalog", "no_trailer")
    take_down("imdb-vi0000001", store)
    take_down("imdb-vi0000025", store)
    return store


def test_each_is_in_one_state_and_the_sum_is_what_is_listed(full_store) -> None:
    status = count_states(full_store)
    assert status.states == {
        "indexed": 4,
        "embedded": 2,
        "sharded": 2,
        "rejected": 3,
        "waiting": 1,
        "downloaded": 1,
        "listed": 2,
        "taken_down": 2,
    }
    assert status.n_listed == sum(status.states.values()) == 17
    assert status.reasons == {"corrupt": 1, "gone": 1, "no_video": 1, "rate_limited": 1}
    assert status.titles_set_aside == {"no_trailer": 1, "not_a_movie": 2}
    assert status.champion == "m-1"
    assert status.index_version.startswith("i-")
    assert status.index_recall_at_10 == 1.0


def test_the_last_word_counts(full_store) -> None:
    standings = read_standings(full_store)
    assert standings["imdb-vi0000022"][:2] == ("waiting", "rate_limited")  # the shard left it out, quarantine waits
    assert standings["imdb-vi0000021"][:2] == ("rejected", "corrupt")
    set_aside(full_store, "imdb-vi0000022", "shard", "too_short")
    assert read_standings(full_store)["imdb-vi0000022"][:2] == ("rejected", "too_short")


def test_what_got_in_after_all_is_in(full_store, put_embedded, make_vectors, make_trailer) -> None:
    """An earlier shard left it out; a later one has it."""
    day = dt.date(2026, 11, 22)
    known = [make_trailer(n, day) for n in range(20, 28)]
    batch = BatchRef(listed_on=day, number=1)
    first = ShardManifest.model_validate(
        full_store.read_json(shard_manifest_key(batch.model_copy(update={"number": 0})))
    )
    later = first.model_copy(update={"rejected": (), "trailer_ids": ("imdb-vi0000022",), "count": 1})
    full_store.put_json(shard_manifest_key(batch), later.to_json())
    assert read_standings(full_store)["imdb-vi0000022"].state == "sharded"
    assert count_states(full_store).n_listed == 17
    assert len(known) == 8


def test_a_manifest_that_is_none_stops_no_status_and_is_named_by_a_takedown(full_store) -> None:
    day = dt.date(2026, 11, 22)
    batch = BatchRef(listed_on=day, number=1)
    before = count_states(full_store)
    full_store.put_bytes(shard_manifest_key(batch), b"{")
    assert count_states(full_store) == before
    with pytest.raises(CorruptShardError, match="is no manifest"):  # it cannot be said whether the trailer is in it
        take_down("imdb-vi0000022", full_store)


def test_what_is_kept_and_measured_is_counted_too(full_store) -> None:
    full_store.put_bytes("media/imdb-vi0000023.mp4", b"x" * 1000)
    evaluation = Evaluation(
        version="m-1", n_queries=20, k=10, map_at_k=0.9, untrained_map_at_k=0.4, chance_map_at_k=0.2,
        recall_at_k=0.8, precision_at_k=0.7,
    )  # fmt: skip
    full_store.put_json(model_key("m-1", "card.json"), {"evaluation": evaluation.to_json()})
    status = count_states(full_store)
    assert (status.stored_bytes["media"], status.stored_trailers["media"]) == (1000, 2)
    assert status.stored_trailers["shards"] == 9
    assert status.index_n == 5
    measured = {"map_at_k": 0.9, "untrained_map_at_k": 0.4, "chance_map_at_k": 0.2, "recall_at_k": 0.8}
    assert status.model_figures == measured
    figures = {
        figure.name: figure for figure in list_figures(status, status.index_published_at + dt.timedelta(hours=2))
    }
    assert figures["trailer_ml_index_age_seconds"].values == {"": 7200.0}
    text = render_figures(status)
    assert 'trailer_ml_model{figure="map_at_k"} 0.9' in text
    assert 'trailer_ml_losses{reason="gone"} 1.0' in text
    assert f'trailer_ml_index_info{{version="{status.index_version}"}} 1.0' in text


def test_of_an_empty_store(store) -> None:
    status = count_states(store)
    assert status.n_listed == 0
    assert set(status.states.values()) == {0}
    assert (status.champion, status.index_version) == (None, None)


def test_status_writes_nothing(full_store) -> None:
    before = list(full_store.list_keys(""))
    count_states(full_store)
    assert list(full_store.list_keys("")) == before


def test_taking_down_is_done_once(full_store) -> None:
    assert take_down("imdb-vi0000002", full_store).is_new
    assert not take_down("imdb-vi0000002", full_store).is_new
    assert read_standings(full_store)["imdb-vi0000002"].state == "taken_down"


@pytest.mark.parametrize("trailer_id", ["imdb-vi000000", "../catalog/x", "", "Film 2"])
def test_what_is_not_listed_cannot_be_taken_down(trailer_id, full_store) -> None:
    before = list(full_store.list_keys("tombstones/"))
    with pytest.raises(UnknownTrailerError, match="there is no trailer"):
        take_down(trailer_id, full_store)
    assert list(full_store.list_keys("tombstones/")) == before
