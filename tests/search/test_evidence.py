"""What two trailers show decides whether they are the same: copies that were changed, recuts, and mere likeness."""

import dataclasses
import datetime as dt
import itertools

import numpy as np
import pytest
from PIL import Image

from trailer_ml.records import BatchRef, Receipt, ShardManifest
from trailer_ml.search.duplicates import find_duplicates
from trailer_ml.search.evidence import SAME_SOUND, compare_traits, find_traits
from trailer_ml.search.prints import Prints, make_print, to_rows
from trailer_ml.search.screen import screen_pairs
from trailer_ml.settings import FeatureSettings
from trailer_ml.shards.schema import ShardRecord, from_example, to_example
from trailer_ml.shards.tfrecord import write_record
from trailer_ml.storage import sha256_of, shard_key, shard_manifest_key

VIEW = FeatureSettings(n_frames=4, image_size=64, start_s=1.0, interval_s=2.0, spectrogram_s=8.0)


def scale(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def make_record(seed: int, *, sound_seed: int | None = None, **facts: object) -> ShardRecord:
    """Four shots of soft blots, 10 s long, with a sound of its own."""
    rng = np.random.default_rng(seed)
    frames = np.stack([scale(rng.integers(0, 256, (6, 6, 3), np.uint8), 64, 64) for _ in range(4)])
    sound = np.random.default_rng(seed if sound_seed is None else sound_seed).integers(0, 256, (64, 64, 3), np.uint8)
    record = ShardRecord(
        trailer_id=f"imdb-vi{seed:07d}", film_id="f", title="T", genres=(), year=None, plot="", source_url="",
        listed_on=dt.date(2026, 11, 20), duration_s=10.0, frames=frames, frame_times_s=np.arange(4) * 2.0 + 1,
        spectrogram=sound, has_audio=True, media_sha256="", sampler="exact", extractor_version="2",
    )  # fmt: skip
    return dataclasses.replace(record, **facts)


def traits(record: ShardRecord):
    return find_traits(make_print(record, start_s=VIEW.start_s, spectrogram_s=VIEW.spectrogram_s))


def cut(frames: np.ndarray, n: int) -> np.ndarray:
    return np.stack([scale(frame[n:-n, n:-n], 64, 64) for frame in frames])


def mark(frames: np.ndarray) -> np.ndarray:
    marked = frames.copy()
    marked[:, 52:58, 50:60] = 255
    return marked


CHANGES = {
    "darker": lambda frames: (frames * 0.6).astype(np.uint8),
    "another curve": lambda frames: (255 * (frames / 255) ** 1.6).astype(np.uint8),
    "small": lambda frames: np.stack([scale(scale(frame, 24, 24), 64, 64) for frame in frames]),
    "grey": lambda frames: np.stack([np.asarray(Image.fromarray(f).convert("L").convert("RGB")) for f in frames]),
    "without its edges": lambda frames: cut(frames, 4),
    "with a mark": mark,
    "in another order": lambda frames: frames[::-1],
    "two shots of it": lambda frames: frames[[3, 1]],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_known_by_its_frames_whatever_it_sounds_like(change) -> None:
    one = make_record(1)
    changed = CHANGES[change](one.frames)
    other = make_record(2, frames=changed, frame_times_s=np.arange(len(changed)) * 2.0 + 1)
    found = compare_traits(traits(one), traits(other))
    assert found.is_confirmed
    if change == "in another order":
        assert [(pair.one_s, pair.other_s) for pair in found.frames] == [(1, 7), (3, 5), (5, 3), (7, 1)]
    if change == "two shots of it":
        assert [(pair.one_s, pair.other_s) for pair in found.frames] == [(3, 3), (7, 1)]


def test_a_recut_is_known_by_its_sound_also_where_it_begins_later() -> None:
    one, other = make_record(1), make_record(2, sound_seed=1)
    found = compare_traits(traits(one), traits(other))
    assert (found.frames, found.is_confirmed) == ((), True)
    assert found.sound == pytest.approx(1.0)
    later = np.concatenate([make_record(3).spectrogram[:, :16], one.spectrogram[:, :48]], axis=1)
    assert compare_traits(traits(one), traits(make_record(2, spectrogram=later))).sound > 0.9


def test_a_copy_that_begins_half_a_column_later_sounds_the_same() -> None:
    """Sound that changes in every half column, looked at from the first one on and from the 26th."""
    halves = np.random.default_rng(5).integers(0, 256, (224, 500, 1)).repeat(3, axis=2)
    one, other = (
        make_record(seed, spectrogram=halves[:, start : start + 448].reshape(224, 224, 2, 3).mean(axis=2).astype("u1"))
        for seed, start in ((1, 0), (2, 25))
    )
    found = compare_traits(traits(one), traits(other))
    assert (found.frames, found.is_confirmed) == ((), True)


@pytest.mark.parametrize("n_columns", [235, 233, 224, 215, 213])
def test_a_copy_that_is_played_faster_or_slower_sounds_the_same(n_columns: int) -> None:
    """By 5 and 4 %, at the same pitch; beside it another film at the same speeds."""
    noise = np.random.default_rng(7).integers(0, 256, (2, 32, 80, 1)).repeat(7, axis=1).repeat(3, axis=2)
    own, foreign = noise.repeat(3, axis=3).astype(np.uint8)
    one, copy, other = (
        make_record(seed, spectrogram=scale(sound[:, :n], 224, 224))
        for seed, sound, n in ((1, own, 224), (2, own, n_columns), (3, foreign, n_columns))
    )
    assert compare_traits(traits(one), traits(copy)).is_confirmed
    assert not compare_traits(traits(one), traits(other)).is_confirmed
    kept = [make_print(each, start_s=VIEW.start_s, spectrogram_s=VIEW.spectrogram_s) for each in (one, copy, other)]
    prints = Prints(to_rows(dict(zip("abc", kept, strict=True))), np.ones(3, np.bool_))
    assert screen_pairs(np.array([[0, 1], [0, 2], [1, 2]]), prints).tolist() == [True, False, False]


@pytest.mark.parametrize(("n_columns", "is_copy"), [(224, True), (235, False)])
def test_at_another_speed_sounds_have_to_be_more_alike(n_columns: int, is_copy: bool) -> None:
    """Two sounds that correlate by 0.83 or so where they lie on each other best."""
    noise = np.random.default_rng(7).integers(0, 256, (2, 32, 80, 1)).repeat(7, axis=1).repeat(3, axis=3)
    own, foreign = noise.repeat(3, axis=2)
    mixed = (0.59 * own + 0.41 * foreign)[:, :n_columns].astype(np.uint8)
    one = make_record(1, spectrogram=scale(own[:, :224].astype(np.uint8), 224, 224))
    found = compare_traits(traits(one), traits(make_record(2, spectrogram=scale(mixed, 224, 224))))
    assert 0.79 < found.sound < 0.84
    assert found.is_confirmed == is_copy


def test_the_quick_look_passes_what_shows_or_sounds_the_same_and_nothing_else() -> None:
    """Every pair of 28: copies, silent ones, plain ones, short ones, and ones that begin later, beside others."""
    records = [make_record(seed) for seed in range(8)]
    changed = [change(records[n].frames) for n, change in enumerate(CHANGES.values())]
    records += [make_record(100 + n, frames=f, frame_times_s=np.arange(len(f)) * 1.0) for n, f in enumerate(changed)]
    records += [make_record(200 + n, sound_seed=n, has_audio=n % 2 > 0) for n in range(3)]
    records += [make_record(300 + n, sound_seed=n, duration_s=4.0 + 2 * n) for n in range(3)]
    records += [make_record(400, frames=np.full((4, 64, 64, 3), 30, np.uint8)), make_record(401, has_audio=False)]
    later = [np.roll(records[n].spectrogram, 9 * n, axis=1) for n in range(4)]
    records += [make_record(500 + n, spectrogram=spectrogram) for n, spectrogram in enumerate(later)]
    records[3] = make_record(3, frames=records[3].frames[:2], frame_times_s=np.arange(2.0))
    kept = {
        record.trailer_id: make_print(record, start_s=VIEW.start_s, spectrogram_s=VIEW.spectrogram_s)
        for record in records
    }
    prints = Prints(to_rows(kept), np.ones(len(kept), np.bool_))
    seen = [find_traits(each) for each in kept.values()]
    pairs = np.array(list(itertools.combinations(range(len(seen)), 2)))
    found = [compare_traits(seen[one], seen[other]) for one, other in pairs]
    expected = [bool(each.frames) or (each.sound or 0) >= SAME_SOUND for each in found]
    assert len(seen) == 28
    assert 10 < sum(expected) < 60
    assert screen_pairs(pairs, prints).tolist() == expected


def test_other_trailers_are_not_the_same() -> None:
    seen = [traits(make_record(seed)) for seed in range(8)]
    assert not any(compare_traits(a, b).is_confirmed for i, a in enumerate(seen) for b in seen[i + 1 :])


def test_one_shot_seen_many_times_is_not_enough() -> None:
    one, other = make_record(1), make_record(2)
    shared = other.frames.copy()
    shared[:3] = one.frames[:1]
    ours = one.frames.copy()
    ours[1] = one.frames[0]
    found = compare_traits(traits(dataclasses.replace(one, frames=ours)), traits(make_record(2, frames=shared)))
    assert len(found.frames) == 1
    assert not found.is_confirmed


def test_two_trailers_of_one_film_may_have_shots_in_common() -> None:
    """Two of ten; with a sound that is alike as well, one is enough."""
    rng = np.random.default_rng(9)
    ten, others = (np.stack([scale(rng.integers(0, 256, (6, 6, 3), "u1"), 64, 64) for _ in range(10)]) for _ in "12")
    times = np.arange(10) * 2.0 + 1
    one = traits(make_record(1, frames=ten, frame_times_s=times))
    for n_shared, is_same in ((2, False), (4, True)):
        shared = np.concatenate([ten[:n_shared], others[n_shared:]])
        found = compare_traits(one, traits(make_record(2, frames=shared, frame_times_s=times)))
        assert (len(found.frames), found.is_confirmed) == (n_shared, is_same)
    noise = make_record(1).spectrogram.astype(float)
    like = (0.5 * noise + 0.5 * make_record(3).spectrogram).astype("u1")
    for n_shared, is_same in ((0, False), (1, True)):
        shared = np.concatenate([ten[:n_shared], others[n_shared:]])
        record = make_record(2, frames=shared, frame_times_s=times, spectrogram=like)
        found = compare_traits(one, traits(record))
        assert 0.65 <= found.sound < 0.8
        assert found.is_confirmed is is_same


def test_plain_frames_and_silence_are_no_proof() -> None:
    plain = np.full((4, 64, 64, 3), 30, np.uint8)
    silent = {"frames": plain, "spectrogram": np.zeros((64, 64, 3), np.uint8)}
    for has_audio in (True, False):
        one, other = (traits(make_record(seed, has_audio=has_audio, **silent)) for seed in (1, 2))
        found = compare_traits(one, other)
        assert (found.frames, found.sound, found.is_confirmed) == ((), None, False)


@pytest.fixture
def put_shard(store, tmp_path):
    """Puts records into the store as the shard of a batch."""

    def put(trailers, records) -> None:
        batch = BatchRef(listed_on=trailers[0].listed_on, number=0)
        path = tmp_path / "shard"
        with path.open("wb") as file:
            for trailer, record in zip(trailers, records, strict=True):
                receipt = Receipt(
                    trailer_id=trailer.trailer_id, sha256="0", size_bytes=1, duration_s=record.duration_s, streams=(),
                    source_url="", downloader="",
                )  # fmt: skip
                data = to_example(trailer, record, receipt, VIEW)
                assert from_example(data).trailer_id == trailer.trailer_id
                write_record(file, data)
        store.put_file(shard_key(batch), path)
        shard = ShardManifest(
            key=shard_key(batch), sha256=sha256_of(path.read_bytes()), size_bytes=path.stat().st_size,
            count=len(trailers), trailer_ids=tuple(trailer.trailer_id for trailer in trailers),
            film_ids=tuple(trailer.film_id for trailer in trailers), sampler="exact",
            features=VIEW.model_dump(mode="json"), schema_version=1, extractor_version="2",
        )  # fmt: skip
        store.put_json(shard_manifest_key(batch), shard.to_json())

    return put


def test_in_a_genre_that_is_one_point_only_what_shows_the_same_is_a_group(
    settings, store, put_embedded, make_vectors, make_trailer, publish, put_shard
) -> None:
    """Five of one vector: a copy of 0 under another film, a far trailer of 1's film with its sound, and two others."""
    vectors = make_vectors(6, n_clusters=6)
    vectors[:5] = vectors[0]
    vectors[4] = -vectors[0]
    films = [0, 1, 2, 3, 1, 5]
    trailers = put_embedded(vectors, [make_trailer(n, film_id=f"imdb-tt{film}") for n, film in enumerate(films)])
    publish()
    records = [make_record(n) for n in range(6)]
    records[2] = make_record(2, frames=CHANGES["darker"](records[0].frames))
    records[4] = make_record(4, sound_seed=1)
    put_shard(trailers, records)
    groups = find_duplicates(settings, store)
    assert [[trailer.trailer_id[-1] for trailer in group.trailers] for group in groups] == [["0", "2"], ["1", "4"]]
    assert len(groups[0].evidence) == len(groups[0].pairs) == 1
    assert [(pair.one_s, pair.other_s) for pair in groups[0].evidence[0].frames] == [(1, 1), (3, 3), (5, 5), (7, 7)]
    assert groups[1].evidence[0].sound > 0.9
    (kept,) = (settings.index.cache_folder / "prints").rglob("*.npy")
    store.delete(shard_key(BatchRef(listed_on=trailers[0].listed_on, number=0)))
    assert find_duplicates(settings, store) == groups  # from what is kept on this machine
    kept.write_bytes(kept.read_bytes()[:-5])  # a file that is not whole is no file
    assert {each.is_confirmed for group in find_duplicates(settings, store) for each in group.evidence} == {False}


def test_a_copy_that_the_model_does_not_know_is_found_among_the_nearest(
    settings, store, put_embedded, make_vectors, publish, put_shard
) -> None:
    vectors = make_vectors(6, n_clusters=6)
    trailers = put_embedded(vectors)
    publish()
    records = [make_record(n) for n in range(6)]
    records[2] = make_record(2, frames=CHANGES["darker"](records[0].frames))
    put_shard(trailers, records)
    assert vectors[0] @ vectors[2] < settings.search.duplicate_score
    (group,) = find_duplicates(settings, store)
    assert [trailer.trailer_id[-1] for trailer in group.trailers] == ["0", "2"]
    assert find_duplicates(settings, store, by_frames=False) == []


def test_where_frames_cannot_be_read_the_cosine_stands_alone_and_says_so(
    settings, store, put_embedded, make_vectors, publish
) -> None:
    put_embedded(np.repeat(make_vectors(1), 2, axis=0))
    publish()
    (group,) = find_duplicates(settings, store)
    assert [each.is_confirmed for each in group.evidence] == [False]
    assert find_duplicates(settings, store, by_frames=False)[0].evidence == ()
