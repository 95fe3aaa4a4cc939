"""Building: one result for one input, whole or not at all, and as good as exact search."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from trailer_ml.embeddings.stored import find_champion
from trailer_ml.errors import ConflictError, DataError, NoModelError
from trailer_ml.index.build import build_index
from trailer_ml.index.publish import publish_index
from trailer_ml.index.recall import measure_recall
from trailer_ml.index.serve import open_index
from trailer_ml.index.split import write_annoy
from trailer_ml.index.stored import Pointer, read_manifest
from trailer_ml.settings import IndexSettings, Settings
from trailer_ml.storage import CHAMPION_KEY, CURRENT_INDEX_KEY, Store, index_key, sha256_of, tombstone_key


def read_everything(store: Store, prefix: str = "") -> dict[str, str]:
    return {key: sha256_of(store.read_bytes(key)) for key in store.list_keys(prefix)}


def with_index(settings: Settings, **changes) -> Settings:
    return settings.model_copy(update={"index": settings.index.model_copy(update=changes)})


def test_an_index_holds_every_vector_and_what_is_known_of_it(settings, store, put_embedded, make_vectors) -> None:
    vectors = make_vectors(150)
    trailers = put_embedded(vectors)
    summary = build_index(settings, store)
    manifest = read_manifest(store, summary.version)
    assert summary.is_new
    assert (manifest.n, manifest.dim, manifest.video_dim, manifest.model_version) == (150, 16, 8, "m-1")
    assert manifest.n_queries == 150
    assert sha256_of(store.read_bytes(index_key(summary.version, "index.ann"))) == manifest.index_sha256
    assert sha256_of(store.read_bytes(index_key(summary.version, "ids.json"))) == manifest.ids_sha256
    with open_index(manifest, store, settings.index.cache_folder) as index:
        np.testing.assert_array_equal(index.vectors(), vectors)
        assert [trailer.trailer_id for trailer in index.trailers] == [trailer.trailer_id for trailer in trailers]
        assert index.trailers[7].genres == trailers[7].genres
        assert index.trailers[7].title == "Film 7"


def test_the_same_input_is_the_same_index_and_is_built_once(settings, store, put_embedded, make_vectors) -> None:
    put_embedded(make_vectors(150))
    first = build_index(settings, store)
    before = read_everything(store)
    again = build_index(settings, store)
    assert (again.version, again.is_new) == (first.version, False)
    assert read_everything(store) == before
    for key in list(store.list_keys("index/")):
        store.delete(key)
    assert build_index(settings, store).is_new
    assert read_everything(store) == before


def test_annoy_gives_the_same_bytes_whatever_memory_held_before(tmp_path, make_vectors) -> None:
    vectors = make_vectors(3000, 64)
    write_annoy(tmp_path / "1.ann", vectors, n_trees=20, seed=1)
    dirt = [os.urandom(size) for size in range(100, 20_000, 10)]
    del dirt
    write_annoy(tmp_path / "2.ann", vectors, n_trees=20, seed=1)
    write_annoy(tmp_path / "3.ann", vectors, n_trees=20, seed=2)
    assert (tmp_path / "1.ann").read_bytes() == (tmp_path / "2.ann").read_bytes()
    assert (tmp_path / "1.ann").read_bytes() != (tmp_path / "3.ann").read_bytes()


@pytest.mark.parametrize("change", ["settings", "tombstone", "embeddings", "model"])
def test_another_input_is_another_index(change, settings, store, put_embedded, make_vectors, make_trailer) -> None:
    vectors = make_vectors(40)
    put_embedded(vectors)
    first = build_index(settings, store)
    if change == "settings":
        settings = with_index(settings, n_trees=7)
    elif change == "tombstone":
        store.create_json(tombstone_key("imdb-vi0000003"), {})
    elif change == "embeddings":
        day = make_trailer(0).listed_on.replace(day=21)
        put_embedded(vectors[:1], [make_trailer(99, day)], day=day)
    else:
        put_embedded(vectors, model="m-2")
    second = build_index(settings, store)
    assert second.is_new
    assert second.version != first.version


def test_a_tombstone_of_a_trailer_that_is_not_in_changes_nothing(settings, store, put_embedded, make_vectors) -> None:
    put_embedded(make_vectors(10))
    first = build_index(settings, store)
    store.create_json(tombstone_key("imdb-vi999"), {})
    assert build_index(settings, store).version == first.version


def test_what_was_taken_down_is_purged(settings, store, put_embedded, make_vectors) -> None:
    put_embedded(make_vectors(10))
    store.create_json(tombstone_key("imdb-vi0000003"), {})
    manifest = read_manifest(store, build_index(settings, store).version)
    assert (manifest.n, manifest.n_taken_down) == (9, 1)
    assert b"imdb-vi0000003" not in store.read_bytes(index_key(manifest.version, "ids.json"))


def test_rows_are_ordered_by_id_whatever_the_batches(settings, store, put_embedded, make_vectors, make_trailer) -> None:
    vectors = make_vectors(7)
    put_embedded(vectors, [make_trailer(number) for number in (5, 3, 9, 1, 7, 2, 8)], batch_size=3)
    manifest = read_manifest(store, build_index(settings, store).version)
    with open_index(manifest, store, settings.index.cache_folder) as index:
        assert [trailer.title for trailer in index.trailers] == [f"Film {n}" for n in (1, 2, 3, 5, 7, 8, 9)]
        np.testing.assert_array_equal(index.vectors(), vectors[[3, 5, 1, 0, 4, 6, 2]])


def test_recall_is_that_of_a_brute_force_twin(settings, store, put_embedded, make_vectors) -> None:
    """One tree looks at one leaf only and misses some; the measure says how many, to the answer."""
    vectors = make_vectors(2000, 32, spread=1.5)
    put_embedded(vectors)
    manifest = read_manifest(
        store, build_index(with_index(settings, n_trees=1, search_effort=1, n_queries=2000), store).version
    )
    n_found = 0
    with open_index(manifest, store, settings.index.cache_folder) as index:
        for row, vector in enumerate(vectors):
            others = [other for other in np.argsort(-(vectors @ vector), kind="stable").tolist() if other != row][:10]
            found = [other for other in index.nearest(vector, 11, model_version="m-1") if other != row][:10]
            n_found += len(set(found) & set(others))
        assert measure_recall(index, 2000).value == pytest.approx(n_found / 20_000)
    assert manifest.recall_at_10 == pytest.approx(n_found / 20_000)
    assert 0.05 < manifest.recall_at_10 < 0.98


def test_the_default_trees_find_nearly_all(settings, store, put_embedded, make_vectors) -> None:
    put_embedded(make_vectors(2000, 64, n_clusters=40))
    assert build_index(settings, store).recall_at_10 >= 0.99


def test_it_looks_as_far_as_it_has_to(settings, store, put_embedded, make_vectors) -> None:
    """Four trees, wide clusters: 5, with which 2,000 are found elsewhere, is not enough here."""
    put_embedded(make_vectors(4000, 64, n_clusters=4, spread=1.0), batch_size=4000)
    few_trees = with_index(settings, n_trees=4, n_queries=200)
    fixed = read_manifest(store, build_index(with_index(few_trees, search_effort=5), store).version)
    chosen = read_manifest(store, build_index(few_trees, store).version)
    assert (fixed.search_effort, fixed.recall_at_10 < 0.98) == (5, True)
    assert chosen.search_effort > 5
    assert chosen.recall_at_10 >= 0.98
    assert chosen.index_sha256 == fixed.index_sha256
    assert publish_index(chosen.version, few_trees, store).is_published


def test_more_files_are_one_index(settings, store, put_embedded, make_vectors) -> None:
    """Built by processes of their own, the same bytes each time, and searched as one."""
    vectors = make_vectors(1000, 32, spread=1.5)
    put_embedded(vectors, batch_size=1000)
    split = with_index(settings, shards=3)
    version = build_index(split, store).version
    before = read_everything(store, f"index/{version}/")
    assert sorted(before) == [
        index_key(version, name)
        for name in ("batches.json", "ids.json", "index-01.ann", "index-02.ann", "index.ann", "manifest.json")
    ]
    assert publish_index(version, split, store).is_published
    with open_index(read_manifest(store, version), store, settings.index.cache_folder) as index:
        np.testing.assert_array_equal(index.vectors(), vectors)
        np.testing.assert_array_equal(index.vectors_of([999, 0, 334, 333]), vectors[[999, 0, 334, 333]])
        np.testing.assert_allclose(index.scores(vectors[0]), vectors @ vectors[0], atol=1e-6)
        for row in (0, 333, 334, 667, 999):
            nearest = np.argsort(-(vectors @ vectors[row]), kind="stable")[:20].tolist()
            assert index.nearest(vectors[row], 20, model_version="m-1") == nearest
    for key in before:
        store.delete(key)
    store.delete(CURRENT_INDEX_KEY)
    assert build_index(split, store).version == version
    assert read_everything(store, f"index/{version}/") == before


def test_each_of_several_files_is_verified(settings, store, put_embedded, make_vectors) -> None:
    put_embedded(make_vectors(60))
    version = build_index(with_index(settings, shards=3), store).version
    spoil(store, index_key(version, "index-02.ann"))
    with pytest.raises(DataError, match="damaged in the store"):
        publish_index(version, settings, store)


def test_no_more_files_than_trailers(settings, store, put_embedded, make_vectors) -> None:
    put_embedded(make_vectors(2))
    summary = build_index(with_index(settings, shards=5), store)
    assert (summary.n, summary.recall_at_10) == (2, 1.0)
    assert len(read_manifest(store, summary.version).more_sha256) == 1


def test_a_manifest_from_before_there_were_several_files_is_read(settings, store, put_embedded, make_vectors) -> None:
    put_embedded(make_vectors(20))
    version = build_index(settings, store).version
    old = store.read_json(index_key(version, "manifest.json"))
    del old["more_sha256"]
    store.put_json(index_key(version, "manifest.json"), old)
    assert publish_index(version, settings, store).is_published


def test_equal_vectors_do_not_count_as_missed(settings, store, put_embedded, make_vectors) -> None:
    put_embedded(np.repeat(make_vectors(4), 30, axis=0))
    assert build_index(settings, store).recall_at_10 == 1.0


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_handful_can_be_indexed(n, settings, store, put_embedded, make_vectors) -> None:
    put_embedded(make_vectors(n))
    summary = build_index(settings, store)
    assert (summary.n, summary.recall_at_10) == (n, 1.0)


def test_without_a_model_it_says_how_to_make_one(settings, store) -> None:
    with pytest.raises(NoModelError, match="trailer-ml train"):
        build_index(settings, store)


def test_with_nothing_embedded_there_is_nothing_to_index(settings, store, put_embedded, make_vectors) -> None:
    store.swap_pointer(CHAMPION_KEY, {"version": "m-1"}, None)
    with pytest.raises(DataError, match="nothing to index"):
        build_index(settings, store)
    put_embedded(make_vectors(1))
    store.create_json(tombstone_key("imdb-vi0000000"), {})
    with pytest.raises(DataError, match="nothing to index"):
        build_index(settings, store)
    assert list(store.list_keys("index/")) == []
    assert find_champion(store) == "m-1"


def spoil(store: Store, key: str) -> None:
    store.put_bytes(key, store.read_bytes(key)[:-1] + b"x")


@pytest.mark.parametrize("harm", ["vectors", "no vectors", "manifest"])
def test_what_is_damaged_is_left_out_and_named(harm, settings, store, put_embedded, make_vectors, caplog) -> None:
    vectors = make_vectors(30)
    put_embedded(vectors, batch_size=10)
    whole = build_index(settings, store)
    key = f"embeddings/m-1/listed=2026-11-20/0001.{'json' if harm == 'manifest' else 'npz'}"
    before = store.read_bytes(key)
    if harm == "no vectors":
        store.delete(key)
    else:
        spoil(store, key)
    for name in list(store.list_keys("index/")):
        store.delete(name)
    summary = build_index(settings, store)
    assert (summary.n, summary.left_out) == (20, (key,))
    assert f"{key} is {'gone' if harm == 'no vectors' else 'damaged'}: `trailer-ml embed` makes it again" in caplog.text
    assert summary.version != whole.version
    with open_index(read_manifest(store, summary.version), store, settings.index.cache_folder) as index:
        np.testing.assert_array_equal(index.vectors(), vectors[[*range(10), *range(20, 30)]])
    again = build_index(settings, store)
    assert (again.version, again.is_new, again.left_out) == (summary.version, False, (key,))
    store.put_bytes(key, before)
    mended = build_index(settings, store)
    assert (mended.version, mended.left_out) == (whole.version, ())


def test_when_all_is_damaged_there_is_nothing_to_index(settings, store, put_embedded, make_vectors) -> None:
    put_embedded(make_vectors(10))
    spoil(store, "embeddings/m-1/listed=2026-11-20/0000.npz")
    with pytest.raises(DataError, match="nothing to index"):
        build_index(settings, store)


@pytest.mark.parametrize("name", ["index.ann", "ids.json", "manifest.json"])
def test_an_index_that_is_damaged_in_the_store_is_built_again(
    name, settings, store, put_embedded, make_vectors
) -> None:
    put_embedded(make_vectors(60))
    version = build_index(settings, store).version
    before = read_everything(store, "index/")
    spoil(store, index_key(version, name))
    summary = build_index(settings, store)
    assert (summary.version, summary.is_new) == (version, True)
    assert read_everything(store, "index/") == before


def test_an_index_that_is_served_is_not_replaced_whatever_its_bytes(
    settings, store, put_embedded, make_vectors
) -> None:
    put_embedded(make_vectors(60))
    version = build_index(settings, store).version
    publish_index(version, settings, store)
    spoil(store, index_key(version, "index.ann"))
    before = read_everything(store)
    assert not build_index(settings, store).is_new
    assert read_everything(store) == before


def test_an_index_that_is_being_deleted_is_not_taken_for_built(settings, store, put_embedded, make_vectors) -> None:
    put_embedded(make_vectors(60))
    version = build_index(settings, store).version
    pointer = Pointer(version="i-other", model_version="m-1", n=60, recall_at_10=1.0, doomed=(version,))
    store.create_json(CURRENT_INDEX_KEY, pointer.to_json())
    with pytest.raises(ConflictError, match="being deleted"):
        build_index(settings, store)


BUILD = """
import sys
from pydantic import SecretStr
from trailer_ml.index import build
from trailer_ml.settings import Settings
from trailer_ml.storage import Store

settings = Settings.model_validate_json(sys.argv[1])
keys = settings.store.model_copy(
    update={"access_key_id": SecretStr(sys.argv[2]), "secret_access_key": SecretStr(sys.argv[3])}
)

class SlowStore(Store):
    def put_file(self, key, path):
        super().put_file(key, path)
        print(key, flush=True)
        import time
        time.sleep(60)

build.build_index(settings, SlowStore(keys))
"""


@pytest.mark.parametrize("n_files", [0, 1])
def test_a_build_that_is_killed_leaves_nothing_that_counts_and_the_next_one_finishes(
    n_files, settings: Settings, store: Store, put_embedded, make_vectors
) -> None:
    """Killed at a random moment, and after the first file was stored: there is no manifest, so there is no index."""
    put_embedded(make_vectors(6_000 if n_files == 0 else 500, 32), batch_size=20_000)
    keys = settings.store
    arguments = [
        sys.executable, "-c", BUILD, settings.model_dump_json(), keys.access_key_id.get_secret_value(),
        keys.secret_access_key.get_secret_value(),
    ]  # fmt: skip
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        if n_files:
            assert process.stdout.readline().strip().endswith("index.ann")
        else:
            wait_for(lambda: list(settings.index.cache_folder.glob(".aside-*/index.ann")), process)
        process.send_signal(signal.SIGKILL)
    assert len(list(store.list_keys("index/"))) == n_files
    assert len(list(settings.index.cache_folder.glob(".aside-*/"))) == 1
    summary = build_index(settings, store)
    assert summary.is_new
    assert list(settings.index.cache_folder.glob(".aside-*/")) == []
    before = read_everything(store, "index/")
    assert len(before) == 4
    for key in before:
        store.delete(key)
    build_index(settings, store)
    assert read_everything(store, "index/") == before


def wait_for(condition, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_manifest_without_its_files_is_no_index(settings, store, put_embedded, make_vectors) -> None:
    put_embedded(make_vectors(20))
    version = build_index(settings, store).version
    before = read_everything(store, "index/")
    store.delete(index_key(version, "index.ann"))
    assert build_index(settings, store).is_new
    assert read_everything(store, "index/") == before


def test_the_default_cache_is_in_the_home_folder() -> None:
    assert IndexSettings().cache_folder.expanduser().is_relative_to(Path.home())
