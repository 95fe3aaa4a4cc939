"""Training on a folder of videos: its manifest, what is kept, what a bad file costs, and the comparison."""

import json
import shutil
import subprocess
from pathlib import Path

import imageio_ffmpeg
import keras
import numpy as np
import pytest

from trailer_ml.cli import main
from trailer_ml.errors import DataError, MediaError
from trailer_ml.features.extract import extract_features
from trailer_ml.model.examples import Examples
from trailer_ml.model.frozen import keep_frozen
from trailer_ml.model.initial import read_or_make_initial, set_up_keras
from trailer_ml.model.sampling import VideoBatches
from trailer_ml.model.videos import VideoFeatures, assemble_videos, read_videos
from trailer_ml.settings import FeatureSettings, PhaseSettings, Settings, as_environment
from trailer_ml.storage import Store

N_FILMS = 12
LOOKS = {"Sci-Fi": "testsrc2", "Western": "mandelbrot"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve films of two genres, a second cut of one of them, and a file that is no video."""
    folder = tmp_path_factory.mktemp("videos")
    lines = ["file,genres,film_id"]
    for number in range(N_FILMS):
        genre = list(LOOKS)[number % 2]
        picture = f"{LOOKS[genre]}=s=96x64:r=10,hue=h={number * 29},trim=duration=4"
        sound = f"sine=f={300 + 400 * (number % 2) + number}:d=4"
        run = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound]
        options = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "20", "-pix_fmt", "yuv420p"]
        subprocess.run([*run, *options, folder / f"{number}.mp4"], check=True)
        lines.append(f"{number}.mp4,{genre},")
    shutil.copy(folder / "4.mp4", folder / "Recut of 4.mp4")
    (folder / "bad.mp4").write_bytes(b"no video at all")
    lines += ["Recut of 4.mp4,Sci-Fi|Western,4.mp4", "bad.mp4,Western,"]
    (folder / "videos.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def tried(small: Settings) -> Settings:
    """Settings that look at four seconds and train in as many."""
    phases = (
        PhaseSettings(name="warm-up", loss="classifier", epochs=2, learning_rate=3e-3),
        PhaseSettings(name="frozen", loss="triplet_semi_hard", epochs=1, learning_rate=1e-3),
    )
    features = FeatureSettings(n_frames=4, image_size=48, start_s=0.3, interval_s=0.9, spectrogram_s=3.0)
    model = small.model.model_copy(update={"phases": phases, "test_share": 0.2, "validation_share": 0.0})
    return small.model_copy(update={"features": features, "model": model})


def test_samplers_are_compared_on_the_same_trailers(
    folder: Path,
    tried: Settings,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in as_environment(tried).items():
        monkeypatch.setenv(name, value)
    for name in ("access_key_id", "secret_access_key"):
        monkeypatch.setenv(f"AWS_{name.upper()}", getattr(tried.store, name).get_secret_value())
    samplers = ["--sampler", "exact", "--sampler", "keyframe"]
    assert main(["train", "--from-videos", str(folder), *samplers, "--out", str(tmp_path / "out"), "--json"]) == 0
    trials = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert trials == json.loads((tmp_path / "out" / "samplers.json").read_text())
    exact, keyframe = trials
    assert (exact["sampler"], keyframe["sampler"]) == ("exact", "keyframe")
    assert exact["version"] != keyframe["version"]
    for trial in trials:
        assert trial["n_trailers"] == N_FILMS + 1
        assert set(trial["lost"]) == {"bad.mp4"}
        assert trial["mean_frames"] == 4
        assert trial["seconds_per_trailer"] > 0
        assert 0 < trial["chance_map_at_10"] < 1
        assert trial["chance_map_at_10"] == exact["chance_map_at_10"]  # the same films are held out
    page = (tmp_path / "out" / "samplers.html").read_text()
    assert "<td>keyframe</td>" in page
    assert "<li>bad.mp4: " in page
    assert not list(store.list_keys("shards/"))


def test_what_was_extracted_is_kept_and_is_what_training_sees(
    folder: Path, tried: Settings, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data,) = assemble_videos(folder, ["keyframe"], tried, store)
    settings = tried.features.model_copy(update={"sampler": "keyframe"})
    expected = [extract_features(folder / f"{number}.mp4", settings) for number in (3, 4)]
    with monkeypatch.context() as patch:  # nothing is extracted any more
        patch.setattr("trailer_ml.model.videos.extract_many", lambda *_: (each for each in ()))
        with Examples(data.dataset, store, tried.model.cache_folder / "shards") as examples:
            arrays = examples.read([3, 4])
            for row, features in enumerate(expected):
                np.testing.assert_array_equal(arrays.frames[row], features.frames)
                np.testing.assert_array_equal(arrays.spectrogram[row], features.spectrogram)
            set_up_keras(data.dataset.model)
            encoder = read_or_make_initial(data.dataset, examples, store).encoder
            kept = keep_frozen(data.dataset, examples, encoder, store, tmp_path / "frozen")
            np.testing.assert_array_equal(kept.vectors[12, :2], kept.vectors[4, :2])  # a copy; other views vary
            batches = VideoBatches(data.dataset, examples)
            first = [batches[place][1].tolist() for place in range(len(batches))]
            brightness = keras.ops.mean(keras.ops.cast(encoder.inputs[0], "float32"), axis=(1, 2, 3))
            model = keras.Model(encoder.inputs, keras.layers.Dense(2, activation="softmax")(brightness))
            model.compile("sgd", loss="sparse_categorical_crossentropy", jit_compile=False)
            assert len(model.fit(batches, epochs=2, verbose=0).history["loss"]) == 2
            assert [batches[place][1].tolist() for place in range(len(batches))] != first


def test_a_bad_file_is_an_answer_in_its_place(folder: Path, tried: Settings, tmp_path: Path) -> None:
    kept = VideoFeatures(tried.features, tmp_path, 2)
    first = list(
        kept.read([(folder / "0.mp4", "a" * 64), (folder / "bad.mp4", "b" * 64), (folder / "1.mp4", "c" * 64)])
    )
    assert isinstance(first[1], MediaError)
    assert [type(each).__name__ for each in first] == ["Features", "MediaError", "Features"]
    again = list(kept.read([(folder / "1.mp4", "c" * 64), (folder / "2.mp4", "d" * 64), (folder / "0.mp4", "a" * 64)]))
    np.testing.assert_array_equal(again[0].frames, first[2].frames)
    np.testing.assert_array_equal(again[2].frames, first[0].frames)
    assert np.abs(again[1].frames.astype(int) - first[0].frames).max() > 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,genres\na.mp4,Drama\n", "line 1: there is no column file"),
        ("file,genres\na.mp4,Drama\n\nb.mp4,Drama\n", r"line 4: there is no file 'b\.mp4'"),
        ("file,genres\na.mp4, | \n", r"line 2: a\.mp4 has no genre"),
        ("file,genres\na.mp4,Drama\nA.mp4,Drama\n", r"line 3: A\.mp4 and a\.mp4 are both video-a\.mp4: rename one"),
        ("file,genres\n", "lists no videos"),
        ("file,genres\n\xff", "cannot be read"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, text: str, told: str) -> None:
    for name in ("a.mp4", "A.mp4"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "videos.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=told):
        read_videos(tmp_path)


def test_no_manifest_is_an_error_and_a_sampler_needs_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match=r"videos\.csv cannot be read"):
        read_videos(tmp_path)
    assert main(["train", "--sampler", "exact"]) == 1
    assert "--sampler and --out go with --from-videos" in capsys.readouterr().err
