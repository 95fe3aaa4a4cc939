"""Near-duplicates: real copies by a real ffmpeg, and whether their originals are found."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from trailer_ml.errors import MediaError
from trailer_ml.features.extract import extract_features
from trailer_ml.media.ffmpeg import find_ffmpeg
from trailer_ml.model.alterations import CHANGES, make_altered_copies
from trailer_ml.model.dataset import Dataset, DatasetTrailer
from trailer_ml.model.examples import Arrays
from trailer_ml.model.near_duplicates import (
    Copies,
    chance_of_finding,
    choose_originals,
    embed_copies,
    find_originals,
)
from trailer_ml.processes import run_child
from trailer_ml.settings import EvaluationSettings, FeatureSettings, ModelSettings, Settings
from trailer_ml.storage import Store, media_key
from trailer_ml.vectors import normalise

FEATURES = FeatureSettings(n_frames=3, start_s=0.5, interval_s=1.0, spectrogram_s=3.0, image_size=48)
LOOKS = ("mandelbrot=s=128x72:r=10:start_scale=2", "testsrc=s=128x72:r=10", "rgbtestsrc=s=128x72:r=10")


def make_video(path: Path, look: str, seconds: float, *, has_sound: bool = True) -> Path:
    sound = ["-f", "lavfi", "-i", "sine=f=440"] if has_sound else []
    run_child(
        [
            find_ffmpeg(None), "-v", "error", "-f", "lavfi", "-i", look, *sound, "-t", str(seconds), "-preset",
            "ultrafast", str(path),
        ],
        timeout_s=60,
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [make_video(folder / f"{number}.mp4", look, 5.0) for number, look in enumerate(LOOKS)]


@pytest.fixture(scope="module")
def copies(videos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_altered_copies(videos[1], tmp_path_factory.mktemp("copies"), FEATURES)


def first_picture(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24").astype(float)


def length_s(path: Path) -> float:
    with av.open(str(path)) as container:
        return float(container.duration / 1e6)


def test_each_copy_is_changed_in_its_own_way(videos: list[Path], copies: dict[str, Path]) -> None:
    assert list(copies) == list(CHANGES)
    pictures = {name: first_picture(path) for name, path in copies.items()}
    shapes = {name: picture.shape[:2] for name, picture in pictures.items()}
    changed = {"scaled": (36, 64), "cropped": (64, 114), "letterboxed": (94, 128)}
    assert shapes == {**dict.fromkeys(CHANGES, (72, 128)), **changed}
    lengths = {name: round(length_s(path), 1) for name, path in copies.items()}
    assert lengths == {**dict.fromkeys(CHANGES, 5.0), "sped up": 4.8, "trimmed": 2.0}

    original = first_picture(videos[1])
    far = {
        name: abs(picture - original).mean() for name, picture in pictures.items() if picture.shape == original.shape
    }
    assert abs(pictures["mirrored"][:, ::-1] - original).mean() < 5 < far["mirrored"]
    assert far["re-encoded"] < 12
    assert far["recoloured"] > 8
    for name, rows in (("captioned", slice(36, 72)), ("logo", slice(0, 20))):
        difference = abs(pictures[name] - original).max(axis=2) > 100
        assert 0.005 < difference.mean() < 0.2
        assert difference[rows].sum() > 0.8 * difference.sum()
    assert pictures["letterboxed"][:8].max() < 20
    assert copies["re-encoded"].stat().st_size < 0.9 * copies["mirrored"].stat().st_size


def test_a_copy_is_looked_at_like_any_trailer(copies: dict[str, Path]) -> None:
    for name, path in copies.items():
        features = extract_features(path, FEATURES)
        assert (len(features.frames), features.has_audio) == (2 if name == "trimmed" else 3, True)


def test_a_silent_trailer_has_silent_copies(tmp_path: Path) -> None:
    path = make_video(tmp_path / "silent.mp4", LOOKS[1], 4.0, has_sound=False)
    (tmp_path / "copies").mkdir()
    made = make_altered_copies(path, tmp_path / "copies", FEATURES)
    assert {extract_features(copy, FEATURES).has_audio for copy in made.values()} == {False}


def test_what_is_no_video_has_no_copies(tmp_path: Path) -> None:
    (tmp_path / "playlist.mp4").write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n")
    with pytest.raises(MediaError):
        make_altered_copies(tmp_path / "playlist.mp4", tmp_path, FEATURES)


def make_dataset() -> Dataset:
    """Three held-out trailers of two films, one to train on, and one whose bytes are not kept."""
    films = (("a", "test"), ("b", "test"), ("a", "test"), ("c", "train"), ("d", "test"))
    trailers = tuple(
        DatasetTrailer(trailer_id=f"imdb-vi{n}", film_id=film, genres=("Drama",), split=split, shard=0, row=n)
        for n, (film, split) in enumerate(films)
    )
    return Dataset(
        version="m-1", genres=("Drama",), shards=(), trailers=trailers, n_without_genre=0, model=ModelSettings(),
        features=FEATURES,
    )  # fmt: skip


@pytest.fixture
def kept(store: Store, videos: list[Path]) -> Iterator[Store]:
    for number, path in enumerate([*videos, videos[0]]):
        store.put_file(media_key(f"imdb-vi{number}"), path)
    return store


def small_pictures(arrays: Arrays) -> dict[str, np.ndarray]:
    """A model that needs no training: the mean frame in 6 x 6 blocks."""
    mean = arrays.frames.sum(axis=1) / arrays.frame_mask.sum(axis=1)[:, None, None, None]
    return {"blocks": normalise(mean.reshape(len(mean), 6, 8, 6, 8, 3).mean(axis=(2, 4)).reshape(len(mean), -1) - 128)}


def test_of_each_film_one_trailer_comes_first(kept: Store) -> None:
    dataset = make_dataset()
    two = choose_originals(dataset, 2, kept)
    assert {dataset.trailers[number].film_id for number in two} == {"a", "b"}
    assert sorted(choose_originals(dataset, 9, kept)) == [0, 1, 2]
    assert choose_originals(dataset, 0, kept) == []


def test_copies_find_their_originals(settings: Settings, kept: Store, videos: list[Path]) -> None:
    dataset = make_dataset()
    kept.put_bytes(media_key("imdb-vi2"), b"damaged since")  # it is left out and stops nothing
    copies = embed_copies(dataset, small_pictures, settings, kept)
    assert copies
    assert (set(copies.originals.tolist()), len(copies.changes)) == ({0, 1}, 2 * len(CHANGES))

    frames = np.stack([extract_features(path, FEATURES).frames for path in (*videos, videos[2], videos[2])])
    arrays = Arrays(frames, np.ones((5, 3), bool), frames[:, 0], np.ones(5, bool))
    gallery = small_pictures(arrays)["blocks"]
    figures = find_originals(copies, "blocks", gallery, dataset).figures()
    assert list(figures) == ["all", *CHANGES]
    assert {figures[name].recall_at_1.value for name in ("re-encoded", "scaled", "logo", "letterboxed")} == {1.0}
    assert figures["all"].n == 20 and figures["mirrored"].n == 2

    other_way_round = find_originals(copies, "blocks", gallery[[1, 0, 2, 3, 4]], dataset).figures()
    assert other_way_round["re-encoded"].recall_at_1.value == 0.0


def test_a_model_that_calls_all_alike_finds_nothing() -> None:
    """By hand: the ranks are 3 and 1, then all five are equal."""
    gallery = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], np.float32)
    asked = np.array([[0.7, 0.71], [0.7, 0.71]], np.float32)
    copies = Copies(np.array([0, 1]), ("logo", "scaled"), {"some": asked, "flat": np.ones((2, 2), np.float32)})
    found = find_originals(copies, "some", gallery, make_dataset())
    assert found.ranks.tolist() == [3, 1]
    assert found.figures()["all"].map.value == pytest.approx((1 / 3 + 1) / 2)
    assert found.figures()["logo"].recall_at_1.value == 0.0
    flat = find_originals(copies, "flat", np.ones((5, 2), np.float32), make_dataset())
    assert flat.figures()["all"].recall_at_1.value == 0.0
    chance = chance_of_finding(copies, 5)
    assert (chance["all"].recall_at_1.value, chance["all"].n, chance["logo"].n) == (0.2, 2, 1)
    assert chance["logo"].map.value == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 5)


def test_without_bytes_there_is_nothing_to_copy(settings: Settings, store: Store, kept: Store) -> None:
    none = settings.model_copy(update={"evaluation": EvaluationSettings(n_copied=0)})
    assert embed_copies(make_dataset(), small_pictures, none, kept) is None
    for number in range(4):
        store.delete(media_key(f"imdb-vi{number}"))
    assert embed_copies(make_dataset(), small_pictures, settings, store) is None
