"""Opening the published index: from a copy on this machine that is checked and never half there."""

import os
import shutil
import time

import numpy as np
import pytest

from trailer_ml.errors import ChildKilledError, DataError, ModelMismatchError, NoIndexError
from trailer_ml.index.build import build_index
from trailer_ml.index.publish import publish_index
from trailer_ml.index.serve import open_current_index
from trailer_ml.storage import Store, index_key


@pytest.fixture
def published(settings, store, put_embedded, make_vectors):
    put_embedded(make_vectors(60))
    version = build_index(settings, store).version
    publish_index(version, settings, store)
    shutil.rmtree(settings.index.cache_folder)  # the copy that publishing verified
    return version


class CountingStore(Store):
    n_files = 0

    def read_file(self, key, path):
        self.n_files += 1
        super().read_file(key, path)


def test_without_an_index_it_says_how_to_make_one(settings, store) -> None:
    with pytest.raises(NoIndexError, match="trailer-ml index build"):
        open_current_index(store, settings.index.cache_folder)


def test_it_is_copied_once(published, settings) -> None:
    store = CountingStore(settings.store)
    for _ in range(3):
        with open_current_index(store, settings.index.cache_folder) as index:
            assert index.manifest.version == published
    assert store.n_files == 2
    assert {path.name for path in (settings.index.cache_folder / published).iterdir()} == {"index.ann", "ids.json"}


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_copy_is_replaced(damage, published, settings, store) -> None:
    with open_current_index(store, settings.index.cache_folder) as index:
        before = index.vectors()
    path = settings.index.cache_folder / published / "index.ann"
    data = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(data[:100] if damage == "cut" else data[:100] + b"x" + data[101:])
    with open_current_index(store, settings.index.cache_folder) as index:
        np.testing.assert_array_equal(index.vectors(), before)


def test_what_is_damaged_in_the_store_is_never_served(published, settings, store) -> None:
    key = index_key(published, "index.ann")
    store.put_bytes(key, store.read_bytes(key)[:-1] + b"x")
    with pytest.raises(DataError, match="rollback"):
        open_current_index(store, settings.index.cache_folder)
    assert not (settings.index.cache_folder / published).exists()


def test_an_open_index_answers_on_when_another_is_published(published, settings, store, put_embedded, make_vectors):
    with open_current_index(store, settings.index.cache_folder) as old:
        settings = settings.model_copy(update={"index": settings.index.model_copy(update={"n_trees": 70, "keep": 1})})
        publish_index(build_index(settings, store).version, settings, store)
        with open_current_index(store, settings.index.cache_folder) as new:
            assert new.manifest.version != old.manifest.version
            assert new.nearest(new.vector(5), 1, model_version="m-1") == [5]
        assert old.nearest(old.vector(5), 1, model_version="m-1") == [5]


def test_copies_that_can_no_longer_be_served_go_after_a_day(published, settings, store) -> None:
    old, new = (settings.index.cache_folder / name for name in ("i-aaaaaaaaaaaa", "i-bbbbbbbbbbbb"))
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "index.ann").write_bytes(b"")
    long_ago = time.time() - 90_000
    os.utime(old, (long_ago, long_ago))
    with open_current_index(store, settings.index.cache_folder):
        assert not old.exists()
        assert new.exists()


def test_a_vector_of_another_model_is_refused(published, settings, store) -> None:
    with (
        open_current_index(store, settings.index.cache_folder) as index,
        pytest.raises(ModelMismatchError, match=r"vectors of model m-1, not of m-2"),
    ):
        index.nearest(index.vector(0), 3, model_version="m-2")


def test_more_candidates_than_annoy_can_count_are_all(published, settings, store) -> None:
    with open_current_index(store, settings.index.cache_folder) as index:
        index.manifest = index.manifest.model_copy(update={"search_effort": 2**30})
        assert sorted(index.nearest(index.vector(0), index.n, model_version="m-1")) == list(range(index.n))


@pytest.mark.parametrize(("by", "error"), [("SIGILL", DataError), ("SIGKILL", ChildKilledError)])
def test_an_annoy_that_dies_on_this_machine_is_an_error_and_leaves_no_copy(
    by, error, published, settings, store, tmp_path, monkeypatch
) -> None:
    """As one that was built for another processor does; it must not take a service with it. A kill is tried again."""
    (tmp_path / "annoy.py").write_text(f"import os, signal\n\nos.kill(os.getpid(), signal.{by})\n")
    with monkeypatch.context() as changed:
        changed.setenv("PYTHONPATH", str(tmp_path))
        with pytest.raises(error, match=by):
            open_current_index(store, settings.index.cache_folder)
    assert not list(settings.index.cache_folder.glob("i-*"))
    with open_current_index(store, settings.index.cache_folder) as index:
        assert index.n == 60
