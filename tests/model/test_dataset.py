"""What a model is trained on: its name, its split, and what is refused before minutes are spent."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from trailer_ml.errors import CorruptShardError, DataError, SettingsError
from trailer_ml.model.dataset import assemble_dataset, read_dataset, split_of
from trailer_ml.settings import FeatureSettings, ModelSettings, Settings
from trailer_ml.storage import Store, tombstone_key

Fill = Callable[[list], None]


def with_model(settings: Settings, **changes: object) -> Settings:
    return settings.model_copy(update={"model": settings.model.model_copy(update=changes)})


def test_names_every_trailer_and_its_place(store: Store, small: Settings, fill: Fill, make_world: Callable) -> None:
    world = make_world(40)
    fill(world)
    ref = assemble_dataset(small, store)
    dataset = read_dataset(ref.version, store)
    assert (ref.n_trailers, ref.n_films, len(ref.genres)) == (40, 40, 4)
    assert ref.version.startswith("m-")
    assert [t.trailer_id for t in dataset.trailers] == [trailer.trailer_id for trailer, _ in world]
    assert {(t.shard, t.row) for t in dataset.trailers} == {(i // 16, i % 16) for i in range(40)}
    assert {t.split for t in dataset.trailers} == {"train", "validation", "test"}


def test_the_same_input_is_the_same_version_and_nothing_new(
    store: Store, small: Settings, fill: Fill, make_world: Callable, tmp_path: Path
) -> None:
    fill(make_world(40))
    first = assemble_dataset(small, store)
    before = {key: store.read_bytes(key) for key in store.list_keys("")}
    elsewhere = with_model(small, cache_folder=tmp_path / "elsewhere", min_films=9)
    assert assemble_dataset(elsewhere, store) == first
    assert {key: store.read_bytes(key) for key in store.list_keys("")} == before


def test_another_setting_or_shard_or_takedown_is_another_version(
    store: Store, small: Settings, fill: Fill, make_world: Callable
) -> None:
    world = make_world(40)
    fill(world)
    versions = [assemble_dataset(small, store).version, assemble_dataset(with_model(small, seed=8), store).version]
    store.put_json(tombstone_key(world[3][0].trailer_id), {})
    store.put_json(tombstone_key("imdb-vi9999999"), {})
    ref = assemble_dataset(small, store)
    assert world[3][0].trailer_id not in {t.trailer_id for t in read_dataset(ref.version, store).trailers}
    versions.append(ref.version)
    fill(make_world(40, seed=1))
    versions.append(assemble_dataset(small, store).version)
    assert len(set(versions)) == 4


def test_a_takedown_of_another_trailer_changes_nothing(
    store: Store, small: Settings, fill: Fill, make_world: Callable
) -> None:
    fill(make_world(40))
    before = assemble_dataset(small, store)
    store.put_json(tombstone_key("imdb-vi9999999"), {})
    assert assemble_dataset(small, store) == before


def test_split_goes_by_the_film_alone_and_keeps_its_shares() -> None:
    settings = ModelSettings(test_share=0.2, validation_share=0.1)
    splits = [split_of(f"imdb-tt{number:07d}", settings) for number in range(5000)]
    assert splits.count("test") / 5000 == pytest.approx(0.2, abs=0.02)
    assert splits.count("validation") / 5000 == pytest.approx(0.1, abs=0.02)
    smaller = ModelSettings(test_share=0.2, validation_share=0.0)
    still = [split_of(f"imdb-tt{number:07d}", smaller) for number in range(5000)]
    assert [s == "test" for s in still] == [s == "test" for s in splits]


def test_trailers_of_a_film_are_in_one_split(
    store: Store, small: Settings, fill: Fill, make_world: Callable, make_trailer: Callable
) -> None:
    world = make_world(40)
    again = [(make_trailer(100 + n, world[n][0].genres, film=n), world[n][1]) for n in range(20)]
    fill(world + again)
    dataset = read_dataset(assemble_dataset(small, store).version, store)
    assert dataset.n_films == 40
    for film in {t.film_id for t in dataset.trailers}:
        assert len({t.split for t in dataset.trailers if t.film_id == film}) == 1


def test_trailers_without_a_genre_are_left_out_and_counted(
    store: Store, small: Settings, fill: Fill, make_world: Callable, make_trailer: Callable
) -> None:
    world = make_world(40)
    fill([*world, (make_trailer(77, []), world[0][1])])
    dataset = read_dataset(assemble_dataset(small, store).version, store)
    assert (len(dataset.trailers), dataset.n_without_genre) == (40, 1)


def relabelled(world: list, genres: Sequence[str], make_trailer: Callable) -> list:
    return [
        (make_trailer(n, [genre]), features) for n, (genre, (_, features)) in enumerate(zip(genres, world, strict=True))
    ]


def test_no_shards_is_an_error(store: Store, small: Settings) -> None:
    with pytest.raises(DataError, match="no shards yet"):
        assemble_dataset(small, store)


def test_too_few_films_is_an_error(store: Store, small: Settings, fill: Fill, make_world: Callable) -> None:
    fill(make_world(7))
    with pytest.raises(DataError, match=r"6 films .* 8 are wanted"):  # one is alone in its genre
        assemble_dataset(small, store)


def test_one_genre_is_an_error(
    store: Store, small: Settings, fill: Fill, make_world: Callable, make_trailer: Callable
) -> None:
    fill(relabelled(make_world(12), ["Drama"] * 12, make_trailer))
    with pytest.raises(DataError, match="no genre but Drama has two films"):
        assemble_dataset(small, store)


def test_a_genre_with_one_film_is_left_out_and_named(
    store: Store,
    small: Settings,
    fill: Fill,
    make_world: Callable,
    make_trailer: Callable,
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = relabelled(make_world(42), ["Drama", "Action"] * 20 + ["Horror", "War"], make_trailer)
    world[7] = (make_trailer(7, ["Action", "War"]), world[7][1])
    world[8] = (make_trailer(8, ["Drama", "Western"]), world[8][1])
    world.append((make_trailer(42, ["Horror"], film=40), world[40][1]))
    fill(world)
    ref = assemble_dataset(small, store)
    dataset = read_dataset(ref.version, store)

    genres = {t.trailer_id: t.genres for t in dataset.trailers}
    assert ref.genres == dataset.genres == ("Action", "Drama", "War")
    assert (len(genres), dataset.n_without_genre) == (41, 2)
    assert genres["imdb-vi0000007"] == ("Action", "War")
    assert genres["imdb-vi0000008"] == ("Drama",)
    assert genres["imdb-vi0000041"] == ("War",)
    assert "genre Horror has one film only (imdb-tt0000040)" in caplog.text
    assert "genre Western has one film only (imdb-tt0000008)" in caplog.text


def test_genres_of_one_film_each_are_no_two_genres(
    store: Store, small: Settings, fill: Fill, make_world: Callable, make_trailer: Callable
) -> None:
    fill(relabelled(make_world(12), ["Drama"] * 10 + ["Action", "Horror"], make_trailer))
    with pytest.raises(DataError, match="no genre but Drama has two films"):
        assemble_dataset(small, store)


def test_two_genres_of_the_same_three_films_are_no_two_genres(
    store: Store, small: Settings, fill: Fill, make_world: Callable, make_trailer: Callable
) -> None:
    films = [number for number in range(99) if split_of(f"imdb-tt{number:07d}", small.model) == "train"][:3]
    others = [number for number in range(99) if split_of(f"imdb-tt{number:07d}", small.model) == "test"][:9]
    features = make_world(1)[0][1]
    fill([(make_trailer(number, ["Drama", "Action"]), features) for number in films + others])
    with pytest.raises(DataError, match="no two genres have two films each to train on"):
        assemble_dataset(small, store)


def test_no_labels_at_all_is_an_error(
    store: Store, small: Settings, fill: Fill, make_world: Callable, make_trailer: Callable
) -> None:
    fill([(make_trailer(n, []), features) for n, (_, features) in enumerate(make_world(12))])
    with pytest.raises(DataError, match="0 films with a genre that another has too are too few"):
        assemble_dataset(small, store)


def test_a_split_without_films_is_an_error(store: Store, small: Settings, fill: Fill, make_world: Callable) -> None:
    fill(make_world(40))
    with pytest.raises(DataError, match="no film falls into the test split"):
        assemble_dataset(with_model(small, test_share=0.0), store)


def test_shards_of_other_features_stay_out(store: Store, small: Settings, fill: Fill, make_world: Callable) -> None:
    fill(make_world(40))
    other = small.model_copy(update={"features": FeatureSettings(n_frames=5, image_size=48)})
    with pytest.raises(DataError, match="none of the 3 shards was made with these"):
        assemble_dataset(other, store)


def test_shards_of_another_extractor_stay_out(
    store: Store, small: Settings, fill: Fill, make_world: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(40)
    fill(world)
    key = next(key for key in store.list_keys("shards/") if key.endswith("0001.json"))
    manifest = store.read_json(key)
    for features in ({**manifest["features"], "extractor_version": "0"}, {"n_frames": 4}):
        store.put_json(key, {**manifest, "features": features})
        dataset = read_dataset(assemble_dataset(small, store).version, store)
        assert {t.trailer_id for t in dataset.trailers} == {t.trailer_id for t, _ in world[:16] + world[32:]}
        assert "1 of 3 shards were made with other features" in caplog.text
        caplog.clear()
    later = small.model_copy(update={"features": small.features.model_copy(update={"extractor_version": "later"})})
    with pytest.raises(DataError, match=r"none of the 3 shards .*'extractor_version': 'later'"):
        assemble_dataset(later, store)


def test_a_shard_says_which_spectrogram_it_has_or_is_older_than_the_choice(
    store: Store, small: Settings, fill: Fill, make_world: Callable
) -> None:
    world = make_world(40)
    fill(world)
    for number in (0, 1):
        key = next(key for key in store.list_keys("shards/") if key.endswith(f"000{number}.json"))
        manifest = store.read_json(key)
        features = {name: value for name, value in manifest["features"].items() if name != "spectrogram"}
        store.put_json(key, {**manifest, "features": features | ({"spectrogram": "log_mel"} if number else {})})

    dataset = read_dataset(assemble_dataset(small, store).version, store)
    assert {t.trailer_id for t in dataset.trailers} == {t.trailer_id for t, _ in world[:16] + world[32:]}
    assert dataset.features.spectrogram == "showspectrumpic"


def test_bad_shards_are_left_out_and_named_up_to_a_limit(
    store: Store, small: Settings, fill: Fill, make_world: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(40)
    fill(world)
    first, second, _ = (key for key in store.list_keys("shards/") if key.endswith(".tfrecord"))
    data = store.read_bytes(second)
    store.put_bytes(second, data[:-1] + bytes([data[-1] ^ 1]))
    ref = assemble_dataset(small, store)
    dataset = read_dataset(ref.version, store)
    assert {t.trailer_id for t in dataset.trailers} == {t.trailer_id for t, _ in world[:16] + world[32:]}
    assert dataset.bad_shards == (second,)
    assert f"left out: {second}: its bytes are not those of its manifest" in caplog.text
    assert assemble_dataset(small, store) == ref

    strict = with_model(small, max_bad_shards=0)
    with pytest.raises(CorruptShardError, match=r"0001\.tfrecord: its bytes .* more than TRAILER_MODEL_MAX_BAD_SHARDS"):
        assemble_dataset(strict, store)
    store.put_bytes(second, data)
    assert assemble_dataset(strict, store).version != ref.version
    store.delete(first)
    assert assemble_dataset(strict, store).n_trailers == 40  # a copy that was checked is here


def test_a_backbone_file_that_is_not_there_is_an_error(
    store: Store, small: Settings, fill: Fill, make_world: Callable
) -> None:
    fill(make_world(40))
    with pytest.raises(SettingsError, match=r"no file nowhere\.keras"):
        assemble_dataset(with_model(small, backbone="nowhere.keras"), store)


def test_an_unknown_version_is_an_error(store: Store) -> None:
    with pytest.raises(DataError, match="no data set m-0"):
        read_dataset("m-0", store)


def test_what_plans_and_promotes_loads_no_tensorflow() -> None:
    code = (
        "import sys, trailer_ml.model.dataset, trailer_ml.model.registry, trailer_ml.model.card, trailer_ml.vectors\n"
        "print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_world_of_the_tests_is_made_alike_each_time(make_world: Callable) -> None:
    first, second = make_world(4), make_world(4)
    for (_, a), (_, b) in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.frames, b.frames)
