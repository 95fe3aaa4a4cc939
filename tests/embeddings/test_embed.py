"""Embedding: what is missing and nothing else, by a real encoder, from real shards."""

import datetime as dt
import io
import zipfile

import numpy as np
import pytest

from trailer_ml.embeddings.embed import embed_features, embed_shards, plan_embeddings
from trailer_ml.embeddings.stored import list_embedded, read_embedded, read_vectors, write_vectors
from trailer_ml.errors import NoModelError
from trailer_ml.features.extract import Features
from trailer_ml.index.build import build_index
from trailer_ml.index.publish import publish_index
from trailer_ml.index.rest import take_in_rest
from trailer_ml.index.serve import open_current_index
from trailer_ml.model.registry import load_encoder
from trailer_ml.records import BatchRef, EmbedChunk, EmbeddedTrailer, Receipt, ShardManifest
from trailer_ml.shards.read import read_records
from trailer_ml.shards.schema import SCHEMA_VERSION, to_example
from trailer_ml.shards.tfrecord import write_record
from trailer_ml.storage import (
    CHAMPION_KEY,
    Store,
    catalog_key,
    model_key,
    sha256_of,
    sha256_of_file,
    shard_key,
    shard_manifest_key,
)

DAY = dt.date(2026, 11, 20)


def make_features(seed: int, n_frames: int = 4, *, has_audio: bool = True) -> Features:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (n_frames, 6, 6, 3)).repeat(8, axis=1).repeat(8, axis=2)
    return Features(
        frames=base.astype(np.uint8),
        frame_times_s=np.arange(n_frames, dtype=float),
        spectrogram=(rng.integers(0, 256, (6, 6, 3)).repeat(8, axis=0).repeat(8, axis=1) * has_audio).astype(np.uint8),
        duration_s=10.0,
        has_audio=has_audio,
        sampler="exact",
        extractor_version="pyav-1",
    )


@pytest.fixture
def view(settings):
    """The features the small encoder of the tests was made for."""
    update = {"n_frames": 4, "image_size": 48, "start_s": 0.5, "interval_s": 0.8, "spectrogram_s": 4.0}
    return settings.features.model_copy(update=update)


@pytest.fixture
def put_shard(store, tmp_path, make_trailer, view):
    """Puts one shard of some numbered trailers into the store; number 3 has one frame and no sound."""

    def put(number: int, trailer_numbers, features=view, seed=0, **facts) -> BatchRef:
        trailers = [make_trailer(n, **facts) for n in trailer_numbers]
        path = tmp_path / f"{number}.tfrecord"
        with path.open("wb") as file:
            for n, trailer in zip(trailer_numbers, trailers, strict=True):
                receipt = Receipt(
                    trailer_id=trailer.trailer_id, sha256="0" * 64, size_bytes=1, duration_s=10.0, streams=(),
                    source_url="http://127.0.0.1/x", downloader="test",
                )  # fmt: skip
                seen = make_features(n, 1, has_audio=False) if n == 3 else make_features(n + seed)
                write_record(file, to_example(trailer, seen, receipt, features))
        batch = BatchRef(listed_on=DAY, number=number)
        manifest = ShardManifest(
            key=shard_key(batch),
            sha256=sha256_of_file(path),
            size_bytes=path.stat().st_size,
            count=len(trailers),
            trailer_ids=tuple(trailer.trailer_id for trailer in trailers),
            film_ids=tuple(trailer.film_id for trailer in trailers),
            sampler="exact",
            features=features.model_dump(mode="json"),
            schema_version=SCHEMA_VERSION,
            extractor_version="pyav-1",
        )
        store.put_file(shard_key(batch), path)
        store.put_json(shard_manifest_key(batch), manifest.to_json())
        known = [] if not store.exists(catalog_key(DAY)) else store.read_bytes(catalog_key(DAY)).splitlines()
        lines = [*known, *(trailer.model_dump_json().encode() for trailer in trailers)]
        store.put_bytes(catalog_key(DAY), b"".join(line + b"\n" for line in lines))
        return batch

    return put


def read_everything(store, prefix=""):
    return {key: sha256_of(store.read_bytes(key)) for key in store.list_keys(prefix)}


def embed_all(settings, store):
    return [embed_shards(chunk, settings, store) for chunk in plan_embeddings(settings, store)]


def test_every_shard_gets_its_vectors_and_what_answers_need(settings, store, put_champion, put_shard) -> None:
    put_champion()
    batches = [put_shard(0, [0, 1, 2, 3], kind="teaser"), put_shard(1, [4])]
    (summary,) = embed_all(settings, store)
    assert (summary.n_shards, summary.n_trailers) == (2, 5)
    assert list_embedded(store, "m-1") == batches
    manifest = read_embedded(store, "m-1", batches[0]).manifest
    vectors = read_vectors(store, manifest)
    assert (vectors.shape, vectors.dtype, manifest.video_dim) == ((4, 16), np.float32, 8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert np.abs(vectors[3, 8:]).max() == 0  # no sound, no audio part
    first = manifest.trailers[0]
    assert (first.title, first.kind, first.genres, first.year) == ("Film 0", "teaser", ("Action",), 2000)


def test_what_is_new_is_found_while_the_index_is_of_the_champion_before(
    settings, store, put_champion, put_shard
) -> None:
    put_champion("m-1")
    old = put_shard(0, [0, 1, 2])
    embed_all(settings, store)
    publish_index(build_index(settings, store).version, settings, store)
    put_champion("m-2")
    new = put_shard(1, [4, 5])
    chunks = plan_embeddings(settings, store)
    assert [(chunk.model_version, chunk.batches) for chunk in chunks] == [("m-2", (old, new)), ("m-1", (new,))]
    key = model_key("m-1", "card.json")
    card = store.read_bytes(key)
    store.delete(key)  # a model that is gone stops no other
    assert [chunk.model_version for chunk in plan_embeddings(settings, store)] == ["m-2"]
    store.put_bytes(key, card)
    embed_all(settings, store)
    with open_current_index(store, settings.index.cache_folder) as index:
        take_in_rest(index, store)
        assert (index.manifest.model_version, index.manifest.n, index.n) == ("m-1", 3, 5)
    publish_index(build_index(settings, store).version, settings, store)
    newest = put_shard(2, [6])
    assert [(chunk.model_version, chunk.batches) for chunk in plan_embeddings(settings, store)] == [("m-2", (newest,))]


def test_a_vector_is_the_one_of_the_trailer_it_is_named_after(
    settings, store, put_champion, put_shard, tmp_path
) -> None:
    put_champion()
    batch = put_shard(0, [5, 2, 9])
    embed_all(settings, store)
    manifest = read_embedded(store, "m-1", batch).manifest
    vectors = dict(
        zip([trailer.trailer_id for trailer in manifest.trailers], read_vectors(store, manifest), strict=True)
    )
    encoder = load_encoder(store, "m-1", settings.model.cache_folder)
    records = list(read_records(tmp_path / "0.tfrecord"))
    assert len(records) == 3
    for record in records:
        np.testing.assert_allclose(embed_features([record], encoder)[0], vectors[record.trailer_id], atol=1e-3)


def test_when_all_is_embedded_nothing_is_planned_and_no_byte_changes(settings, store, put_champion, put_shard) -> None:
    put_champion()
    put_shard(0, [0, 1])
    chunks = plan_embeddings(settings, store)
    embed_all(settings, store)
    before = read_everything(store)
    assert plan_embeddings(settings, store) == []
    assert embed_shards(chunks[0], settings, store).n_shards == 0
    assert read_everything(store) == before


def test_the_same_vectors_are_the_same_bytes_at_any_hour(store, make_vectors, make_trailer) -> None:
    write(store, 0, make_vectors(3), make_trailer)
    data = store.read_bytes("embeddings/m-1/listed=2026-11-20/0000.npz")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {item.date_time for item in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    write(store, 1, make_vectors(3), make_trailer)
    assert store.read_bytes("embeddings/m-1/listed=2026-11-20/0001.npz") == data


def write(store, number, vectors, make_trailer, first=0) -> BatchRef:
    batch = BatchRef(listed_on=DAY, number=number)
    trailers = [
        EmbeddedTrailer(trailer_id=trailer.trailer_id, film_id=trailer.film_id, title=trailer.title)
        for trailer in (make_trailer(first + n) for n in range(len(vectors)))
    ]
    write_vectors(store, batch, vectors, trailers, model_version="m-1", video_dim=8, shard_sha256="0" * 64)
    return batch


def test_vectors_that_a_killed_try_left_are_kept_and_get_their_manifest(store, make_vectors, make_trailer) -> None:
    vectors = make_vectors(3)
    batch = write(store, 0, vectors, make_trailer)
    store.delete("embeddings/m-1/listed=2026-11-20/0000.json")
    assert list_embedded(store, "m-1") == []
    write(store, 0, vectors + np.float32(1e-7), make_trailer)
    np.testing.assert_array_equal(read_vectors(store, read_embedded(store, "m-1", batch).manifest), vectors)


def test_vectors_of_other_trailers_are_never_taken_for_ours(store, make_vectors, make_trailer) -> None:
    write(store, 0, make_vectors(3), make_trailer)
    store.delete("embeddings/m-1/listed=2026-11-20/0000.json")
    batch = write(store, 0, make_vectors(3, seed=1), make_trailer, first=7)
    manifest = read_embedded(store, "m-1", batch).manifest
    assert manifest.trailers[0].trailer_id == make_trailer(7).trailer_id
    np.testing.assert_array_equal(read_vectors(store, manifest), make_vectors(3, seed=1))


class KilledStore(Store):
    """Dies as it writes the manifest of vectors, or the vectors."""

    dies_at = ".json"

    def put_json(self, key, value):
        self._die(key)
        super().put_json(key, value)

    def put_bytes(self, key, data, content_type="application/octet-stream"):
        self._die(key)
        super().put_bytes(key, data, content_type)

    def _die(self, key):
        if key.startswith("embeddings/") and key.endswith(self.dies_at):
            raise KeyboardInterrupt


@pytest.mark.parametrize("dies_at", [None, ".npz", ".json"])
def test_a_shard_that_was_made_again_is_embedded_again(
    dies_at, settings, store, put_champion, put_shard, tmp_path
) -> None:
    put_champion()
    batch = put_shard(0, [0, 1])
    embed_all(settings, store)
    old = read_vectors(store, read_embedded(store, "m-1", batch).manifest)
    put_shard(0, [0, 1], seed=50)  # the same trailers, other pictures
    if dies_at:
        killed = KilledStore(store.settings)
        killed.dies_at = dies_at
        with pytest.raises(KeyboardInterrupt):
            embed_all(settings, killed)
    (summary,) = embed_all(settings, store)
    assert summary.n_trailers == 2
    manifest = read_embedded(store, "m-1", batch).manifest
    assert manifest.shard_sha256 == sha256_of_file(tmp_path / "0.tfrecord")
    vectors = read_vectors(store, manifest)
    assert np.abs(vectors - old).max() > 1e-3
    assert plan_embeddings(settings, store) == []


def test_another_champion_starts_its_own(settings, store, put_champion, put_shard) -> None:
    put_champion("m-1")
    put_shard(0, [0, 1])
    embed_all(settings, store)
    before = read_everything(store, "embeddings/m-1/")
    put_champion("m-2")
    assert [chunk.model_version for chunk in plan_embeddings(settings, store)] == ["m-2"]
    embed_all(settings, store)
    assert read_everything(store, "embeddings/m-1/") == before
    assert len(list_embedded(store, "m-2")) == 1


def test_chunks_are_of_the_size_asked_for(settings, store, put_champion, put_shard) -> None:
    put_champion()
    batches = [put_shard(number, [number]) for number in range(5)]
    settings = settings.model_copy(update={"index": settings.index.model_copy(update={"shards_per_task": 2})})
    assert [chunk.batches for chunk in plan_embeddings(settings, store)] == [
        tuple(batches[0:2]),
        tuple(batches[2:4]),
        tuple(batches[4:]),
    ]


def test_shards_of_another_view_stay_out(settings, store, put_champion, put_shard, view, caplog) -> None:
    put_champion()
    good = put_shard(0, [0])
    put_shard(1, [1], view.model_copy(update={"interval_s": 9.0}))
    (chunk,) = plan_embeddings(settings, store)
    assert chunk.batches == (good,)
    assert "1 shards were made with other" in caplog.text


def test_an_empty_shard_has_no_vectors_and_is_done(settings, store, put_champion, put_shard) -> None:
    put_champion()
    batch = put_shard(0, [])
    embed_all(settings, store)
    assert read_vectors(store, read_embedded(store, "m-1", batch).manifest).shape == (0, 16)
    assert plan_embeddings(settings, store) == []


def damage(store, key, place=-1) -> None:
    data = bytearray(store.read_bytes(key))
    data[place] ^= 1
    store.put_bytes(key, bytes(data))


def test_a_damaged_shard_leaves_nothing_and_stops_no_other(settings, store, put_champion, put_shard) -> None:
    put_champion()
    good = [put_shard(0, [0, 1]), put_shard(2, [4])]
    bad, gone, unread = put_shard(1, [2, 3]), put_shard(3, [5]), put_shard(4, [6])
    damage(store, shard_key(bad))
    chunks = plan_embeddings(settings, store)
    store.delete(shard_manifest_key(gone))
    store.put_bytes(shard_manifest_key(unread), b"{")
    (summary,) = [embed_shards(chunk, settings, store) for chunk in chunks]
    assert (summary.n_shards, summary.n_trailers) == (2, 3)
    assert [each.key for each in summary.bad] == [shard_key(gone), shard_key(unread), shard_key(bad)]
    assert "is no manifest" in summary.bad[1].problems[0]
    assert "its bytes are not those of its manifest" in summary.bad[2].problems[0]
    assert list_embedded(store, "m-1") == good
    assert [chunk.batches for chunk in plan_embeddings(settings, store)] == [(bad,)]  # until somebody mends it


def test_a_bad_record_costs_itself_where_that_is_asked_for(settings, store, put_champion, put_shard) -> None:
    put_champion()
    key = shard_key(put_shard(0, [0, 1, 2]))
    whole = store.read_bytes(key)
    damage(store, key)
    settings = settings.model_copy(update={"shards": settings.shards.model_copy(update={"max_bad_records": 1})})
    (summary,) = embed_all(settings, store)
    assert (summary.n_trailers, summary.bad) == (2, ())
    store.put_bytes(key, whole)  # it is mended, and so the third comes in
    (summary,) = embed_all(settings, store)
    assert summary.n_trailers == 3
    assert plan_embeddings(settings, store) == []


def test_a_shard_that_was_made_again_and_is_bad_keeps_the_vectors_it_had(
    settings, store, put_champion, put_shard
) -> None:
    put_champion()
    batch = put_shard(0, [0, 1])
    embed_all(settings, store)
    before = read_everything(store, "embeddings/")
    put_shard(0, [0, 1], seed=50)
    damage(store, shard_key(batch))
    (summary,) = embed_all(settings, store)
    assert len(summary.bad) == 1
    assert read_everything(store, "embeddings/") == before


@pytest.mark.parametrize("harm", ["a flipped bit", "a cut", "no vectors", "no manifest left", "no JSON"])
def test_damaged_vectors_are_made_again(harm, settings, store, put_champion, put_shard) -> None:
    put_champion()
    batch = put_shard(0, [0, 1])
    put_shard(1, [2])
    embed_all(settings, store)
    before = read_vectors(store, read_embedded(store, "m-1", batch).manifest)
    key, manifest_key = (f"embeddings/m-1/{batch.path}.{end}" for end in ("npz", "json"))
    if harm == "no vectors":
        store.delete(key)
    elif harm == "a cut":
        store.put_bytes(key, store.read_bytes(key)[:200])
    elif harm == "no JSON":
        damage(store, manifest_key, 0)
    else:
        damage(store, key, 200)  # in the midst of the numbers
    if harm == "no manifest left":
        store.delete(manifest_key)
    (summary,) = embed_all(settings, store)
    assert (summary.n_shards, summary.bad) == (1, ())
    again = read_vectors(store, read_embedded(store, "m-1", batch).manifest)
    np.testing.assert_allclose(again, before, atol=1e-5)
    assert plan_embeddings(settings, store) == []


def test_without_a_champion_it_says_how_to_make_one(settings, store, put_shard) -> None:
    put_shard(0, [0])
    with pytest.raises(NoModelError, match="trailer-ml train"):
        plan_embeddings(settings, store)
    store.swap_pointer(CHAMPION_KEY, {"version": "m-gone"}, None)
    with pytest.raises(NoModelError, match="m-gone"):
        plan_embeddings(settings, store)
    chunk = EmbedChunk(model_version="m-gone", batches=(BatchRef(listed_on=DAY, number=0),))
    with pytest.raises(NoModelError, match="m-gone"):
        embed_shards(chunk, settings, store)
