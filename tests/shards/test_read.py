"""Shards to arrays, with damage on the way."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trailer_ml.errors import CorruptShardError
from trailer_ml.records import BatchRef, ShardManifest
from trailer_ml.settings import Settings
from trailer_ml.shards.manifests import list_shards
from trailer_ml.shards.read import cached_shard, load_dataset, read_records
from trailer_ml.shards.verify import verify_shards
from trailer_ml.shards.write import write_shard
from trailer_ml.storage import Store, shard_manifest_key

PutBatch = Callable[..., BatchRef]
Shard = tuple[BatchRef, ShardManifest]


@pytest.fixture
def shard(settings: Settings, store: Store, put_batch: PutBatch, films: list[bytes]) -> Shard:
    batch = put_batch(films)
    write_shard(batch, settings, store)
    return list_shards(store)[0]


def test_shards_are_listed_in_order(settings: Settings, store: Store, put_batch: PutBatch, films: list[bytes]) -> None:
    for number in (2, 0, 1):
        write_shard(put_batch([films[0]], number), settings, store)
    store.put_bytes("shards/listed=2026-11-20/0009.tfrecord", b"of a run that was killed")

    assert [batch.number for batch, _ in list_shards(store)] == [0, 1, 2]
    assert list_shards(store, listed_on=list_shards(store)[0][0].listed_on) == list_shards(store)


def test_a_shard_is_fetched_once(store: Store, shard: Shard, cache: Path) -> None:
    batch, manifest = shard
    path = cached_shard(store, batch, manifest, cache)
    store.delete(manifest.key)

    assert cached_shard(store, batch, manifest, cache) == path
    assert [each.name for each in cache.rglob("*") if each.is_file()] == [path.name]


def test_a_copy_of_a_shard_that_was_made_again_goes(
    settings: Settings, store: Store, put_batch: PutBatch, films: list[bytes], cache: Path
) -> None:
    write_shard(put_batch([films[2]], 1), settings, store)
    batch = put_batch([films[0]], 0)
    write_shard(batch, settings, store)
    old, kept = (cached_shard(store, *shard, cache) for shard in list_shards(store))
    store.delete(shard_manifest_key(batch))
    smaller = settings.model_copy(update={"features": settings.features.model_copy(update={"image_size": 96})})
    write_shard(batch, smaller, store)
    new = cached_shard(store, batch, list_shards(store)[0][1], cache)

    assert new != old
    assert sorted(path for path in cache.rglob("*") if path.is_file()) == sorted([new, kept])


def test_changed_bytes_are_not_let_in(store: Store, shard: Shard, cache: Path) -> None:
    batch, manifest = shard
    damage(store, manifest, at=1000)
    with pytest.raises(CorruptShardError, match="its bytes are not those of its manifest"):
        cached_shard(store, batch, manifest, cache)
    assert [each for each in cache.rglob("*") if each.is_file()] == []

    store.delete(manifest.key)
    with pytest.raises(CorruptShardError, match="the manifest is there, the records are not"):
        cached_shard(store, batch, manifest, cache)


def test_a_bad_record_is_named_and_left_out(
    store: Store, shard: Shard, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(store, shard[1], at=2000)
    path = cached_shard(store, *shard, cache, max_bad_records=1)

    with pytest.raises(CorruptShardError, match=r"record 0 \(imdb-vi0000000\): its bytes do not match their CRC"):
        list(read_records(path))
    with caplog.at_level(logging.WARNING):
        kept = [record.trailer_id for record in read_records(path, max_bad_records=1)]
    assert kept == list(shard[1].trailer_ids[1:])
    assert "imdb-vi0000000" in caplog.text
    with pytest.raises(CorruptShardError, match="its bytes are not those of its manifest"):
        cached_shard(store, *shard, cache)  # who leaves nothing out does not find that copy


def test_a_fetch_that_was_killed_leaves_nothing_for_long(store: Store, shard: Shard, cache: Path) -> None:
    left = cache / ".aside-of-a-run-that-was-killed"
    left.mkdir(parents=True)
    (left / "half a shard").touch()
    path = cached_shard(store, *shard, cache)
    assert [each for each in cache.rglob("*") if not each.is_dir()] == [path]


def test_verify_finds_nothing_wrong(settings: Settings, store: Store, shard: Shard) -> None:
    summary = verify_shards(settings, store)
    assert (summary.n_shards, summary.n_records, summary.bad) == (1, 4, ())


@pytest.mark.parametrize(
    ("at", "problem"),
    [
        (0, "the length of record 0 is damaged"),
        (2000, "record 0 (imdb-vi0000000): its bytes do not match their CRC"),
        (-1, "record 3 (imdb-vi0000003): its bytes do not match their CRC"),
    ],
)
def test_verify_names_a_flipped_byte(at: int, problem: str, settings: Settings, store: Store, shard: Shard) -> None:
    damage(store, shard[1], at)
    (bad,) = verify_shards(settings, store).bad

    assert bad.key == shard[1].key
    assert bad.problems[0] == "its bytes are not those of its manifest (sha256)"
    assert any(problem in each for each in bad.problems)


def test_verify_names_a_manifest_that_lies(settings: Settings, store: Store, shard: Shard) -> None:
    batch, manifest = shard
    wrong = manifest.model_copy(update={"trailer_ids": tuple(reversed(manifest.trailer_ids))})
    store.put_json(shard_manifest_key(batch), wrong.to_json())
    assert verify_shards(settings, store).bad[0].problems == (
        "its records are of other trailers than the manifest says",
    )

    store.put_json(shard_manifest_key(batch), manifest.model_copy(update={"count": 5}).to_json())
    assert verify_shards(settings, store).bad[0].problems == ("4 records, 5 in the manifest",)

    store.delete(manifest.key)
    assert verify_shards(settings, store).bad[0].problems == ("the manifest is there, the records are not",)


@pytest.mark.parametrize("manifest", [b"{", b"\xff", b"[]", b'{"key": "x"}'])
def test_a_manifest_that_is_none_costs_its_own_shard_only(
    manifest: bytes, settings: Settings, store: Store, shard: Shard, put_batch: PutBatch, films: list[bytes]
) -> None:
    batch = put_batch([films[0]], 1)
    key = shard_manifest_key(batch)
    store.put_bytes(key, manifest)
    summary = verify_shards(settings, store)

    assert list_shards(store) == [shard]
    assert (summary.n_shards, summary.n_records, [bad.key for bad in summary.bad]) == (2, 4, [key])
    assert f"{key} is no manifest" in summary.bad[0].problems[0]
    with pytest.raises(CorruptShardError, match="is no manifest"):
        write_shard(batch, settings, store)


def damage(store: Store, manifest: ShardManifest, at: int) -> None:
    data = bytearray(store.read_bytes(manifest.key))
    data[at] ^= 1
    store.put_bytes(manifest.key, bytes(data))


def test_tf_data_has_the_same_pixels(store: Store, shard: Shard, cache: Path) -> None:
    path = cached_shard(store, *shard, cache)
    records = list(read_records(path))
    elements = list(load_dataset([path, path], n_frames=4).as_numpy_iterator())

    assert [each["trailer_id"].decode() for each in elements] == [record.trailer_id for record in records] * 2
    for record, each in zip(records, elements, strict=False):
        n = len(record.frames)
        assert each["frames"].shape == (4, 224, 224, 3)
        np.testing.assert_array_equal(each["frames"][:n], record.frames)
        assert not each["frames"][n:].any()
        assert each["frame_mask"].tolist() == [True] * n + [False] * (4 - n)
        np.testing.assert_array_equal(each["spectrogram"], record.spectrogram)
        assert bool(each["has_audio"]) == record.has_audio
        assert [genre.decode() for genre in each["genres"]] == list(record.genres)
        assert each["film_id"].decode() == record.film_id
    assert min(len(record.frames) for record in records) < 4


def test_tf_data_scales_and_cuts(store: Store, shard: Shard, cache: Path) -> None:
    path = cached_shard(store, *shard, cache)
    dataset = load_dataset([path], n_frames=2, image_size=96, spectrogram_size=64)
    assert dataset.element_spec["frames"].shape == (2, 96, 96, 3)
    whole = list(load_dataset([path], n_frames=4).as_numpy_iterator())
    for each, large in zip(dataset.as_numpy_iterator(), whole, strict=True):
        assert each["frames"].shape == (2, 96, 96, 3)
        assert each["spectrogram"].shape == (64, 64, 3)
        assert each["frame_mask"].all()
        assert abs(float(each["frames"].mean()) - float(large["frames"][:2].mean())) < 2
