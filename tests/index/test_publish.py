"""Publishing: the swap, what is refused, what is kept, the way back."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import pytest

from trailer_ml.errors import ConflictError, DataError, NoIndexError
from trailer_ml.index import publish
from trailer_ml.index.build import build_index
from trailer_ml.index.publish import publish_index, rollback_index
from trailer_ml.index.stored import read_pointer
from trailer_ml.index.verify import verify_index
from trailer_ml.storage import CHAMPION_KEY, CURRENT_INDEX_KEY, Store, index_key


def with_index(settings, **changes):
    return settings.model_copy(update={"index": settings.index.model_copy(update=changes)})


def build_some(settings, store, n):
    """Versions of the same trailers that differ in the number of trees."""
    return [build_index(with_index(settings, n_trees=50 + number), store).version for number in range(n)]


def list_versions(store: Store) -> set[str]:
    return {key.split("/")[1] for key in store.list_keys("index/i-")}


@pytest.fixture
def built(settings, store, put_embedded, make_vectors):
    put_embedded(make_vectors(60))
    return build_some(settings, store, 4)


def test_the_first_one_is_served(built, settings, store) -> None:
    summary = publish_index(built[0], settings, store)
    assert (summary.is_published, summary.is_new, summary.n) == (True, True, 60)
    assert read_pointer(store).pointer.version == built[0]


def test_publishing_again_changes_no_byte(built, settings, store) -> None:
    publish_index(built[0], settings, store)
    publish_index(built[1], settings, store)
    before = store.read_pointer(CURRENT_INDEX_KEY)
    again = publish_index(built[1], settings, store)
    assert (again.is_published, again.is_new) == (True, False)
    assert store.read_pointer(CURRENT_INDEX_KEY) == before


def test_recall_is_measured_by_whoever_publishes(settings, store, put_embedded, make_vectors) -> None:
    """A single query was lucky at the build; a thousand say how it is, and that is what counts and is written down."""
    put_embedded(make_vectors(2000, 32, spread=1.5))
    lucky = with_index(settings, n_trees=8, search_effort=3, n_queries=1)
    built = build_index(lucky, store)
    assert built.recall_at_10 == 1.0
    summary = publish_index(built.version, settings, store)
    assert not summary.is_published
    assert 0.5 < summary.recall_at_10 < 0.98
    assert f"its recall@10 is {summary.recall_at_10:.4f}, below the 0.98" in summary.reason
    assert read_pointer(store) is None
    lenient = with_index(settings, min_recall_at_10=0.5)
    assert publish_index(built.version, lenient, store).is_published
    assert read_pointer(store).pointer.recall_at_10 == summary.recall_at_10


@pytest.mark.parametrize("name", ["index.ann", "ids.json"])
@pytest.mark.parametrize("is_verified", [True, False])
def test_what_is_damaged_in_the_store_is_not_published(is_verified, name, built, settings, store) -> None:
    """Also where this machine has a copy of it from when it was whole."""
    publish_index(built[0], settings, store)
    before = store.read_pointer(CURRENT_INDEX_KEY)
    if is_verified:
        verify_index(built[1], settings, store)
    key = index_key(built[1], name)
    data = bytearray(store.read_bytes(key))
    data[len(data) // 2] ^= 1
    store.put_bytes(key, bytes(data))
    with pytest.raises(DataError, match="damaged in the store"):
        publish_index(built[1], settings, store)
    assert store.read_pointer(CURRENT_INDEX_KEY) == before
    build_some(settings, store, 2)  # what is damaged is built again
    assert publish_index(built[1], settings, store).is_published


def test_low_recall_is_refused(settings, store, put_embedded, make_vectors) -> None:
    put_embedded(make_vectors(2000, 32, spread=1.5))
    good = build_index(settings, store).version
    assert publish_index(good, settings, store).is_published
    summary = publish_index(
        build_index(with_index(settings, n_trees=1, search_effort=1), store).version, settings, store
    )
    assert not summary.is_published
    assert "recall@10" in summary.reason
    assert "0.98" in summary.reason
    assert summary.is_worse
    assert read_pointer(store).pointer.version == good


def test_a_great_loss_is_refused(settings, store, put_embedded, make_vectors) -> None:
    put_embedded(make_vectors(60))
    whole = build_index(settings, store).version
    publish_index(whole, settings, store)
    for number in range(31):
        store.create_json(f"tombstones/imdb-vi{number:07d}.json", {})
    small = build_index(settings, store).version
    summary = publish_index(small, settings, store)
    assert not summary.is_published
    assert "29 trailers where" in summary.reason
    assert "52% fewer" in summary.reason
    assert summary.is_worse
    assert read_pointer(store).pointer.version == whole
    assert publish_index(small, with_index(settings, max_shrink_share=0.6), store).is_published


def test_an_index_of_another_model_is_refused(built, settings, store, put_embedded, make_vectors) -> None:
    put_embedded(make_vectors(60, seed=1), model="m-2")
    summary = publish_index(built[0], settings, store)
    assert not summary.is_published
    assert summary.reason == "it holds vectors of model m-1, and the champion is m-2"
    assert not summary.is_worse
    assert not publish_index(built[0], settings, store, is_forced=True).is_published  # no figure is against it
    assert read_pointer(store) is None


def test_what_was_never_built_cannot_be_published(settings, store) -> None:
    with pytest.raises(NoIndexError, match="trailer-ml index build"):
        publish_index("i-000000000000", settings, store)


def test_of_two_at_once_one_wins_and_the_other_can_try_again(built, settings, store, monkeypatch) -> None:
    """Both have read the pointer before either swaps it."""
    import threading

    publish_index(built[0], settings, store)
    both_are_here = threading.Barrier(2)

    class Meeting(Store):
        def swap_pointer(self, key, value, seen):
            both_are_here.wait(30)
            super().swap_pointer(key, value, seen)

    def publish(version):
        try:
            return publish_index(version, settings, Meeting(settings.store)).is_published
        except ConflictError:
            return None

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(publish, built[1:3]))
    assert sorted(outcomes, key=str) == [None, True]
    winner, loser = built[1 + outcomes.index(True)], built[1 + outcomes.index(None)]
    assert read_pointer(store).pointer.version == winner
    assert publish_index(loser, settings, store).is_published
    assert read_pointer(store).pointer.previous == (winner, built[0])


class Resent(Store):
    """A store whose answer to a swap is lost: the request is sent again, as boto3 does."""

    def swap_pointer(self, key, value, seen):
        super().swap_pointer(key, value, seen)
        super().swap_pointer(key, value, seen)


def test_a_swap_whose_answer_was_lost_is_done_once_and_well(built, settings, store) -> None:
    resent = Resent(settings.store)
    for version in built[:3]:
        assert publish_index(version, settings, resent).is_published
    assert rollback_index(settings, resent).version == built[1]
    assert read_pointer(store).pointer.previous == (built[0],)


def test_a_champion_that_comes_while_an_index_is_verified_is_seen(built, settings, store, monkeypatch) -> None:
    def verify_slowly(*arguments):
        verified = verify_index(*arguments)
        store.swap_pointer(CHAMPION_KEY, {"version": "m-2"}, store.read_pointer(CHAMPION_KEY))
        return verified

    monkeypatch.setattr(publish, "verify_index", verify_slowly)
    refused = publish_index(built[0], settings, store)
    assert (refused.is_published, refused.reason) == (False, "it holds vectors of model m-1, and the champion is m-2")
    assert read_pointer(store) is None


def test_the_last_ones_are_kept_and_older_ones_deleted(built, settings, store) -> None:
    settings = with_index(settings, keep=2)
    for version in built:
        publish_index(version, settings, store)
    pointer = read_pointer(store).pointer
    assert pointer.version == built[3]
    assert pointer.previous == (built[2], built[1])
    assert list_versions(store) == set(built[1:])


def test_what_a_killed_publication_did_not_delete_the_next_one_does(built, settings, store) -> None:
    settings = with_index(settings, keep=1)
    publish_index(built[0], settings, store)
    publish_index(built[1], settings, store)

    class Killed(Store):
        def delete(self, key):  # noqa: ARG002
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish_index(built[2], settings, Killed(settings.store))
    assert read_pointer(store).pointer.version == built[2]
    assert built[0] in list_versions(store)
    publish_index(built[3], settings, store)
    assert list_versions(store) == {built[2], built[3]}


class Meanwhile(Store):
    """Does something else right before the first deletion."""

    happens = None

    def delete(self, key):
        if self.happens:
            happens, self.happens = self.happens, None
            happens()
        super().delete(key)


def test_an_index_that_is_being_deleted_is_not_published_meanwhile(built, settings, store) -> None:
    """Gone back from v1; while the nightly swap to v2 deletes v1, somebody publishes v1 by hand."""
    publish_index(built[0], settings, store)
    publish_index(built[1], settings, store)
    rollback_index(settings, store)
    outcomes = []
    slow = Meanwhile(settings.store)
    slow.happens = lambda: outcomes.append(publish_index(built[1], settings, store, by_hand=True))
    publish_index(built[2], settings, slow)
    assert [(outcome.is_published, outcome.reason) for outcome in outcomes] == [
        (False, "it is being deleted: build it again when that is done")
    ]
    pointer = read_pointer(store).pointer
    assert (pointer.version, pointer.previous, pointer.doomed) == (built[2], (built[0],), ())
    assert list_versions(store) == {built[0], built[2], built[3]}
    again = build_index(with_index(settings, n_trees=51), store)
    assert (again.version, again.is_new) == (built[1], True)
    assert publish_index(built[1], settings, store).is_published
    verify_index(built[1], settings, store)


def test_who_asked_for_it_before_it_was_doomed_comes_too_late(built, settings, store) -> None:
    """By hand, v1 is verified and about to be published when the nightly swap dooms it."""
    publish_index(built[0], settings, store)
    publish_index(built[1], settings, store)
    rollback_index(settings, store)

    class Late(Store):
        def swap_pointer(self, key, value, seen):
            publish_index(built[2], settings, store)
            super().swap_pointer(key, value, seen)

    with pytest.raises(ConflictError):
        publish_index(built[1], settings, Late(settings.store), by_hand=True)
    assert read_pointer(store).pointer.version == built[2]


def test_an_index_that_only_aged_out_can_be_built_and_published_again(built, settings, store) -> None:
    settings = with_index(settings, keep=1)
    for version in built[:3]:
        publish_index(version, settings, store)
    assert built[0] not in list_versions(store)
    assert build_index(with_index(settings, n_trees=50), store).version == built[0]
    summary = publish_index(built[0], settings, store)
    assert (summary.is_published, summary.reason) == (True, "")


def test_a_slow_deletion_does_not_touch_what_has_come_back_meanwhile(built, settings, store) -> None:
    """Two were gone back from. As the first is being deleted, another publication deletes both, and one comes back."""
    for version in built[:3]:
        publish_index(version, settings, store)
    rollback_index(settings, store)
    rollback_index(settings, store)
    last = max(built[1:3])  # they are deleted in the order of their names

    def overtake():
        other = build_index(with_index(settings, n_trees=60), store).version
        assert publish_index(other, settings, store).is_published
        assert build_index(with_index(settings, n_trees=50 + built.index(last)), store).is_new
        assert publish_index(last, settings, store).is_published

    slow = Meanwhile(settings.store)
    slow.happens = overtake
    publish_index(built[3], settings, slow)
    pointer = read_pointer(store).pointer
    assert (pointer.version, pointer.doomed) == (last, ())
    verify_index(last, settings, store)


def test_a_killed_publication_is_finished_by_its_next_try(built, settings, store) -> None:
    settings = with_index(settings, keep=1)
    publish_index(built[0], settings, store)
    publish_index(built[1], settings, store)
    killed = Meanwhile(settings.store)

    def die():
        raise KeyboardInterrupt

    killed.happens = die
    with pytest.raises(KeyboardInterrupt):
        publish_index(built[2], settings, killed)
    assert read_pointer(store).pointer.doomed == (built[0],)
    assert publish_index(built[2], settings, store).reason == "it is served already"
    assert read_pointer(store).pointer.doomed == ()
    assert list_versions(store) == {built[1], built[2], built[3]}


class AgedStore(Store):
    """What is in the store was written so many days earlier than it was."""

    n_days = 0.0
    young = ""

    def modified_at(self, key):
        moment = super().modified_at(key)
        return moment if self.young and self.young in key else moment - dt.timedelta(days=self.n_days)


@pytest.mark.parametrize(("n_days", "young"), [(0.9, ""), (1.1, ""), (1.1, "manifest.json")])
def test_what_nobody_published_goes_after_a_day(n_days, young, built, settings, store) -> None:
    """Refused or superseded ones: built[3] is never asked for; the last object of an index says how old it is."""
    publish_index(built[0], settings, store)
    publish_index(built[1], settings, store)
    rollback_index(settings, store)
    aged = AgedStore(settings.store)
    aged.n_days, aged.young = n_days, young
    publish_index(built[2], settings, aged)
    gone = {built[1], built[3]} if n_days > 1 and not young else {built[1]}  # the former was gone back from
    assert list_versions(store) == set(built) - gone
    assert read_pointer(store).pointer.doomed == ()


def test_rollback_passes_over_what_is_damaged_and_changes_nothing_where_all_is(built, settings, store) -> None:
    for version in built:
        publish_index(version, settings, store)
    for version in built[1:3]:
        key = index_key(version, "index.ann")
        store.put_bytes(key, store.read_bytes(key)[:-1] + b"?")
    summary = rollback_index(settings, store)
    assert summary.version == built[0]
    assert f"passed over: {built[2]}, {built[1]}" in summary.reason
    pointer = read_pointer(store).pointer
    assert (pointer.version, pointer.previous) == (built[0], ())
    assert set(pointer.gone_back_from) == set(built[1:])


def test_rollback_to_nothing_that_is_good_keeps_what_is_served(built, settings, store) -> None:
    publish_index(built[0], settings, store)
    publish_index(built[1], settings, store)
    store.delete(index_key(built[0], "ids.json"))
    before = store.read_pointer(CURRENT_INDEX_KEY)
    with pytest.raises(NoIndexError, match=f"no earlier index is good: {built[0]}"):
        rollback_index(settings, store)
    assert store.read_pointer(CURRENT_INDEX_KEY) == before


@pytest.mark.parametrize("is_older", [True, False])
def test_a_pointer_of_an_older_program_is_understood(is_older, built, settings, store) -> None:
    """It had one list of what was gone back from and of what had aged out; the first of all had none."""
    value = {"version": built[0], "model_version": "m-1", "n": 60, "recall_at_10": 1.0}
    if not is_older:
        value |= {"previous": [], "retired": [built[1]]}
    store.create_json(CURRENT_INDEX_KEY, value)
    assert read_pointer(store).pointer.gone_back_from == (() if is_older else (built[1],))
    assert publish_index(built[1], settings, store).is_published is is_older
    assert publish_index(built[2], settings, store).is_published
    assert list_versions(store) == set(built) - (set() if is_older else {built[1]})


def test_rollback_goes_back_one_by_one_and_then_says_so(built, settings, store) -> None:
    for version in built[:3]:
        publish_index(version, settings, store)
    summary = rollback_index(settings, store)
    assert (summary.version, summary.is_published) == (built[1], True)
    assert built[2] in summary.reason
    assert rollback_index(settings, store).version == built[0]
    before = store.read_pointer(CURRENT_INDEX_KEY)
    with pytest.raises(NoIndexError, match="no earlier index"):
        rollback_index(settings, store)
    assert store.read_pointer(CURRENT_INDEX_KEY) == before


def test_an_index_that_was_left_by_rollback_can_be_published_again_until_another_is(built, settings, store) -> None:
    for version in built[:2]:
        publish_index(version, settings, store)
    rollback_index(settings, store)
    assert publish_index(built[1], settings, store, by_hand=True).is_published
    assert read_pointer(store).pointer.previous == (built[0],)
    rollback_index(settings, store)
    publish_index(built[2], settings, store)
    assert list_versions(store) == {built[0], built[2], built[3]}  # the last was built and never published


def test_the_next_nightly_run_does_not_undo_a_rollback(built, settings, store) -> None:
    for version in built[:2]:
        publish_index(version, settings, store)
    rollback_index(settings, store)
    summary = publish_index(built[1], settings, store)
    assert not summary.is_published
    assert "it was gone back from: publish it by hand" in summary.reason
    assert read_pointer(store).pointer.version == built[0]
    assert publish_index(built[2], settings, store).is_published  # another one is no trouble


def test_rollback_of_nothing_says_so(settings, store) -> None:
    with pytest.raises(NoIndexError):
        rollback_index(settings, store)


def test_a_sound_index_verifies(built, settings, store) -> None:
    summary = verify_index(built[0], settings, store)
    assert (summary.version, summary.recall_at_10, summary.reason) == (built[0], 1.0, "")


def test_verification_measures_anew_and_says_when_recall_is_low(settings, store, put_embedded, make_vectors) -> None:
    put_embedded(make_vectors(2000, 32, spread=1.5))
    built = build_index(with_index(settings, n_trees=1, search_effort=1), store)
    summary = verify_index(built.version, settings, store)
    assert summary.recall_at_10 == pytest.approx(built.recall_at_10)
    assert "below the 0.98" in summary.reason


@pytest.mark.parametrize("name", ["index.ann", "ids.json"])
def test_damage_is_found(name, built, settings, store) -> None:
    key = index_key(built[0], name)
    data = bytearray(store.read_bytes(key))
    data[len(data) // 2] ^= 1
    store.put_bytes(key, bytes(data))
    with pytest.raises(DataError, match="damaged"):
        verify_index(built[0], settings, store)


def test_a_file_of_other_vectors_fails_its_self_test(built, settings, store, make_vectors, tmp_path) -> None:
    """Hashes hold, and yet the file was built of something Annoy cannot find again: vectors without a direction."""
    import numpy as np

    from trailer_ml.index.split import write_annoy
    from trailer_ml.index.stored import read_manifest
    from trailer_ml.storage import sha256_of_file

    write_annoy(tmp_path / "x.ann", np.zeros((60, 16), dtype=np.float32), n_trees=3, seed=1)
    manifest = read_manifest(store, built[0])
    store.put_file(index_key(built[0], "index.ann"), tmp_path / "x.ann")
    changed = manifest.model_copy(update={"index_sha256": sha256_of_file(tmp_path / "x.ann")})
    store.put_json(index_key(built[0], "manifest.json"), changed.to_json())
    with pytest.raises(DataError, match="self-test"):
        verify_index(built[0], settings, store)
