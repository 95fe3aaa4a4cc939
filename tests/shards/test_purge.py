"""A shard loses what was taken down, also while it is written, read or purged by another."""

from collections.abc import Callable

import pytest

from trailer_ml.errors import ConflictError, CorruptShardError
from trailer_ml.records import ShardManifest
from trailer_ml.shards.purge import purge_shard
from trailer_ml.shards.read import cached_shard, read_records
from trailer_ml.shards.verify import verify_shards
from trailer_ml.shards.write import write_shard
from trailer_ml.storage import Store, shard_key, shard_manifest_key, thumb_key, tombstone_key

A, B = "imdb-vi0000001", "imdb-vi0000002"


def bury(trailer_id: str, store: Store) -> None:
    store.create_json(tombstone_key(trailer_id), {"trailer_id": trailer_id})


def read_manifest(store: Store, batch) -> ShardManifest:
    return ShardManifest.model_validate(store.read_json(shard_manifest_key(batch)))


class MeetingStore(Store):
    """A store where something happens before the first call of a method."""

    def __init__(self, store: Store, name: str, meanwhile: Callable[[], object]) -> None:
        super().__init__(store.settings)

        def wrapped(*arguments, **keywords):
            delattr(self, name)
            meanwhile()
            return getattr(self, name)(*arguments, **keywords)

        setattr(self, name, wrapped)


@pytest.mark.parametrize("moment", ["read_file", "swap_file", "create_json"])
def test_what_is_taken_down_while_its_shard_is_written(moment, settings, store, put_batch, films, cache) -> None:
    batch = put_batch([films[1], films[0], *films[2:]])  # it has fewer frames than asked for

    def take_down() -> None:
        bury(A, store)
        assert purge_shard(batch, store) == 0  # there is no shard yet

    summary = write_shard(batch, settings, MeetingStore(store, moment, take_down))
    assert (summary.count, summary.is_new, summary.rejected) == (3, True, {"taken_down": 1})
    manifest = read_manifest(store, batch)
    records = read_records(cached_shard(store, batch, manifest, cache))
    assert A not in {record.trailer_id for record in records} | set(manifest.trailer_ids)
    assert A not in manifest.short
    assert not store.exists(thumb_key(A))
    assert not store.exists(shard_key(batch))


def test_a_run_that_ended_before_it_looked_is_mended_by_the_next(settings, store, put_batch, films) -> None:
    batch = put_batch(films)
    write_shard(batch, settings, store)
    bury(A, store)
    again = write_shard(batch, settings, store)
    assert (again.count, again.is_new) == (3, False)
    assert verify_shards(settings, store).bad == ()


@pytest.mark.parametrize("moment", ["put_file", "swap_pointer"])
def test_two_of_a_shard_at_the_same_moment(moment, settings, store, put_batch, films) -> None:
    batch = put_batch(films)
    write_shard(batch, settings, store)
    bury(A, store)

    def take_down_the_other() -> None:
        bury(B, store)
        assert purge_shard(batch, store) == 2

    purge_shard(batch, MeetingStore(store, moment, take_down_the_other))
    assert {A, B}.isdisjoint(read_manifest(store, batch).trailer_ids)
    assert len(list(store.list_keys("shards/"))) == 2  # what the slower one had put aside is gone
    verified = verify_shards(settings, store)
    assert (verified.n_records, verified.bad) == (2, ())


def test_who_reads_it_at_that_moment_may_try_again(settings, store, put_batch, films, cache) -> None:
    batch = put_batch(films)
    write_shard(batch, settings, store)
    before = read_manifest(store, batch)
    bury(A, store)
    purge_shard(batch, store)
    with pytest.raises(ConflictError, match="was changed while it was read"):
        cached_shard(store, batch, before, cache)
    assert len(list(read_records(cached_shard(store, batch, read_manifest(store, batch), cache)))) == 3


def test_verify_reads_a_shard_that_was_purged_meanwhile_again(settings, store, put_batch, films) -> None:
    batch = put_batch(films)
    write_shard(batch, settings, store)

    def take_down() -> None:
        bury(A, store)
        purge_shard(batch, store)

    verified = verify_shards(settings, MeetingStore(store, "read_file", take_down))
    assert (verified.n_records, verified.bad) == (3, ())


def test_a_damaged_shard_is_not_made_to_look_whole(settings, store, put_batch, films) -> None:
    batch = put_batch(films)
    write_shard(batch, settings, store)
    data = bytearray(store.read_bytes(shard_key(batch)))
    data[-1] ^= 1
    store.put_bytes(shard_key(batch), bytes(data))
    bury(A, store)
    with pytest.raises(CorruptShardError, match="not those of its manifest"):
        purge_shard(batch, store)
    assert read_manifest(store, batch).count == 4


def test_a_shard_whose_records_are_lost_has_nothing_to_lose(settings, store, put_batch, films) -> None:
    batch = put_batch(films)
    write_shard(batch, settings, store)
    store.delete(shard_key(batch))
    bury(A, store)
    assert purge_shard(batch, store) == 0
    assert read_manifest(store, batch).count == 4
