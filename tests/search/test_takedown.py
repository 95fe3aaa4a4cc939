"""Taking a trailer down forgets what was made of it, killed at any line and called again."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from trailer_ml.embeddings.embed import embed_shards, plan_embeddings
from trailer_ml.model.pictures import mark_of, page_key
from trailer_ml.records import BatchRef, Quarantine, Receipt, ShardManifest
from trailer_ml.search.status import count_states
from trailer_ml.search.takedown import take_down
from trailer_ml.settings import FeatureSettings, as_environment
from trailer_ml.shards.read import cached_shard, read_records
from trailer_ml.shards.verify import verify_shards
from trailer_ml.shards.write import write_shard
from trailer_ml.storage import (
    accepted_key,
    batch_key,
    catalog_key,
    doubtful_key,
    embeddings_manifest_key,
    media_key,
    quarantine_key,
    receipt_key,
    shard_key,
    shard_manifest_key,
    thumb_key,
    tombstone_key,
)

GONE = "imdb-vi0000001"
PAGE = b"<style>\n/* imdb-vi0000002 */ .p0 {}\n%s</style>\n"


@pytest.fixture
def settings(settings):
    features = FeatureSettings(n_frames=4, image_size=48, start_s=0.5, interval_s=0.8, spectrogram_s=4.0)
    return settings.model_copy(update={"features": features})  # what the small encoder looks at


@pytest.fixture
def put_world(settings, store, videos, make_trailer) -> Callable[[], BatchRef]:
    """A real shard of four trailers, and of one of them all else that there can be."""

    def put() -> BatchRef:
        trailers = [make_trailer(number) for number in range(4)]
        batch = BatchRef(listed_on=trailers[0].listed_on, number=0)
        lines = "".join(f"{trailer.model_dump_json()}\n" for trailer in trailers)
        store.put_bytes(catalog_key(batch.listed_on), lines.encode())
        store.put_json(batch_key(batch), {"trailer_ids": [trailer.trailer_id for trailer in trailers]})
        for trailer, look in zip(trailers, ("bars", "plasma", "test", "blend"), strict=True):
            media = videos[look].read_bytes()
            receipt = Receipt(
                trailer_id=trailer.trailer_id, sha256=hashlib.sha256(media).hexdigest(), size_bytes=len(media),
                duration_s=5.0, streams=(), source_url=trailer.source_url, downloader="test",
            )  # fmt: skip
            store.put_bytes(media_key(trailer.trailer_id), media)
            store.put_json(receipt_key(trailer.trailer_id), receipt.to_json())
        assert write_shard(batch, settings, store).count == 4
        for stage in ("catalog", "download", "shard"):
            entry = Quarantine(id=GONE, stage=stage, reason="odd", is_permanent=True)
            store.put_json(quarantine_key(stage, GONE), entry.to_json())
        store.put_json(doubtful_key(GONE), trailers[1].to_json())
        store.put_json(accepted_key(GONE), {"trailer_id": GONE})
        store.put_bytes(page_key("m-0"), PAGE % f"{mark_of(GONE)} .p1 {{}}\n".encode())
        return batch

    return put


def read_all(store):
    return {key: store.read_bytes(key) for key in store.list_keys("")}


def names_of(store) -> set[str]:
    """Keys of the objects that still name the trailer, in their key or in their bytes."""
    return {
        key for key, data in read_all(store).items() if GONE in key or GONE.encode() in data.replace(b"\0", b"")
    }  # numpy writes a letter in four bytes


def read_shard(batch, store, folder):
    manifest = ShardManifest.model_validate(store.read_json(shard_manifest_key(batch)))
    path = cached_shard(store, batch, manifest, folder)
    return manifest, path.read_bytes(), [record.trailer_id for record in read_records(path)]


def test_all_that_was_made_of_it_is_deleted(settings, store, put_world, put_champion, tmp_path) -> None:
    batch = put_world()
    for version in ("m-1", "m-2"):
        put_champion(version)
        for chunk in plan_embeddings(settings, store):
            embed_shards(chunk, settings, store)
    _, before, _ = read_shard(batch, store, tmp_path)

    done = take_down(GONE, store)

    assert done.is_new
    assert done.deleted == {
        "catalog": 2,
        "embeddings": 2,
        "media": 2,
        "pictures": 1,
        "quarantine": 3,
        "records": 1,
        "thumbs": 1,
    }
    assert store.read_bytes(page_key("m-0")) == PAGE % b""
    manifest, after, trailer_ids = read_shard(batch, store, tmp_path)
    assert list(manifest.trailer_ids) == trailer_ids == ["imdb-vi0000000", "imdb-vi0000002", "imdb-vi0000003"]
    assert manifest.film_ids == ("imdb-tt0000000", "imdb-tt0000002", "imdb-tt0000003")
    assert [(each.trailer_id, each.reason) for each in manifest.rejected] == [(GONE, "taken_down")]
    start = next(i for i in range(len(before)) if before[i] != after[i])
    assert after[start:] == before[-(len(after) - start) :]  # the other records are, byte for byte, what they were
    assert not store.exists(shard_key(batch))
    assert verify_shards(settings, store).bad == ()
    stays = {tombstone_key(GONE), batch_key(batch), catalog_key(batch.listed_on), shard_manifest_key(batch)}
    vectors = embeddings_manifest_key("m-2", batch)
    assert names_of(store) == stays | {vectors, vectors.replace(".json", ".npz")}

    (chunk,) = plan_embeddings(settings, store)
    assert embed_shards(chunk, settings, store).n_trailers == 3
    assert names_of(store) == stays
    status = count_states(store)
    assert (status.n_listed, status.states["taken_down"], status.states["embedded"]) == (4, 1, 3)


def test_a_second_call_deletes_what_came_since_and_else_nothing(settings, store, put_world, videos) -> None:
    put_world()
    take_down(GONE, store)
    before = read_all(store)
    again = take_down(GONE, store)
    assert (again.is_new, again.deleted) == (False, {})
    assert read_all(store) == before

    store.put_bytes(media_key(GONE), b"a download that was at work on it")
    store.put_json(receipt_key(GONE), {})
    assert take_down(GONE, store).deleted == {"media": 2}
    assert read_all(store) == before


def test_all_of_a_shard_can_be_taken_down(settings, store, put_world) -> None:
    batch = put_world()
    for number in range(4):
        take_down(f"imdb-vi{number:07d}", store)
    verified = verify_shards(settings, store)
    assert (verified.n_shards, verified.n_records, verified.bad) == (1, 0, ())
    assert [key for key in store.list_keys("shards/") if key.endswith(".tfrecord")] == [
        store.read_json(shard_manifest_key(batch))["key"]
    ]


KILLED = """
import os, signal, sys
from trailer_ml.search.takedown import take_down
from trailer_ml.settings import load_settings
from trailer_ml.storage import Store

name, n, calls = sys.argv[1], int(sys.argv[2]), 0
method = getattr(Store, name)

def killing(*arguments, **keywords):
    global calls
    calls += 1
    if calls == n:
        os.kill(os.getpid(), signal.SIGKILL)
    return method(*arguments, **keywords)

setattr(Store, name, killing)
take_down(sys.argv[3], Store(load_settings().store))
"""
# In the order of the writes, each before one: the tombstone, the first and a later deletion, the records that stay, the
# manifest, and what is deleted after it; then once more, when the manifest is swapped and the old records are there.
POINTS = [
    ("create_json", 1),
    ("delete", 1),
    ("delete", 4),
    ("put_file", 1),
    ("swap_pointer", 1),
    ("delete", 1),
    ("delete", 1),
]


def test_killed_at_any_line_the_next_call_finishes(settings, store, put_world, tmp_path) -> None:
    batch = put_world()
    key, secret = settings.store.access_key_id, settings.store.secret_access_key
    secrets = {"AWS_ACCESS_KEY_ID": key.get_secret_value(), "AWS_SECRET_ACCESS_KEY": secret.get_secret_value()}
    environment = {**os.environ, **as_environment(settings), **secrets, "TMPDIR": str(tmp_path)}
    seen = []
    for name, n in POINTS:
        command = [sys.executable, "-c", KILLED, name, str(n), GONE]
        ended = subprocess.run(command, env=environment, timeout=60, capture_output=True, check=False)
        assert ended.returncode == -signal.SIGKILL, (name, n, ended.stderr.decode())
        assert verify_shards(settings, store).bad == (), (name, n)  # at every moment the manifest's hash holds
        manifest = ShardManifest.model_validate(store.read_json(shard_manifest_key(batch)))
        seen.append((store.exists(tombstone_key(GONE)), manifest.count, manifest.key == shard_key(batch)))
        if manifest.count == 3:
            store.put_bytes(thumb_key(GONE), b"made by a batch that was at work on it")
    before, during, after = (False, 4, True), (True, 4, True), (True, 3, False)
    assert seen == [before, *[during] * 4, after, after]
    assert store.exists(shard_key(batch))  # the old records are there still

    assert not take_down(GONE, store).is_new
    assert names_of(store) == {
        tombstone_key(GONE), batch_key(batch), catalog_key(batch.listed_on), shard_manifest_key(batch),
    }  # fmt: skip
    assert verify_shards(settings, store).n_records == 3
