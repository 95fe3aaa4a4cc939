"""The scene sampler, on a film whose cuts are known, and the table that all samplers are rows of."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from trailer_ml.features.container import Deadline, open_media
from trailer_ml.features.extract import extract_features
from trailer_ml.features.samplers import SAMPLERS
from trailer_ml.features.sampling import spread_over_shots
from trailer_ml.features.shots import find_cuts
from trailer_ml.settings import FeatureSettings

SCENE = FeatureSettings(sampler="scene", start_s=1.0, interval_s=1.0, n_frames=10, spectrogram_s=6.0)
SHOTS_S = (2.0, 0.6, 4.0, 1.2, 4.2)
CUTS_S = (2.0, 2.6, 6.6, 7.8)
COLOURS = (
    "testsrc2=s={s}",
    "color=navy:s={s}",
    "gradients=s={s}:c0=white:c1=gray:seed=1",
    "color=red:s={s}",
    "mandelbrot=s={s}",
)


@pytest.fixture(scope="module")
def film(ffmpeg: Callable[..., bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five shots, as an encoder leaves them: a keyframe at each cut, and others within the longer shots."""
    path = tmp_path_factory.mktemp("shots") / "film.mp4"
    inputs = [
        word
        for colour, seconds in zip(COLOURS, SHOTS_S, strict=True)
        for word in ("-f", "lavfi", "-t", seconds, "-i", f"{colour.format(s='320x180')}:r=25")
    ]
    graph = "".join(f"[{i}:v]format=yuv420p,setsar=1[v{i}];" for i in range(5)) + "[v0][v1][v2][v3][v4]concat=n=5[v]"
    ffmpeg(
        *inputs,
        "-filter_complex",
        graph,
        "-map",
        "[v]",
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-g",
        40,
        "-force_key_frames",
        ",".join(map(str, CUTS_S)),
        path,
    )
    return path


def test_cuts_are_found_where_the_film_has_them(film: Path) -> None:
    deadline = Deadline(30)
    with open_media(film, SCENE, deadline) as source:
        assert find_cuts(source, 0.0, 12.0, deadline) == pytest.approx(CUTS_S, abs=0.05)
        assert find_cuts(source, 2.2, 7.0, deadline) == pytest.approx(CUTS_S[1:3], abs=0.05)


@pytest.mark.parametrize("engine", ["pyav", "ffmpeg"])
def test_every_shot_is_looked_at(engine: str, film: Path, make_seen: Callable[[Path, np.ndarray], np.ndarray]) -> None:
    features = extract_features(film, SCENE.model_copy(update={"engine": engine}))

    expected_s = spread_over_shots((1.0, *CUTS_S, 11.0), 10)
    np.testing.assert_allclose(features.frame_times_s, expected_s, atol=0.06)
    assert (np.diff(np.searchsorted(CUTS_S, features.frame_times_s)) <= 1).all()
    assert set(np.searchsorted(CUTS_S, features.frame_times_s)) == set(range(5))
    assert np.abs(features.frames.astype(int) - make_seen(film, features.frame_times_s)).mean() <= 3
    assert features.sampler == "scene"


@pytest.fixture
def make_seen(ffmpeg_frames: Callable[..., np.ndarray]) -> Callable[[Path, np.ndarray], np.ndarray]:
    def show(path: Path, times_s: np.ndarray) -> np.ndarray:
        return ffmpeg_frames(path, tuple(times_s.tolist()), "scale=560:-1,crop=224:224:168:45")

    return show


def test_more_shots_than_frames(film: Path) -> None:
    features = extract_features(film, SCENE.model_copy(update={"n_frames": 2, "interval_s": 5.0}))
    shots = [(1.0, 2.0), (2.0, 2.6), (2.6, 6.6), (6.6, 7.8), (7.8, 11.0)]
    middles = [(shots[i][0] + shots[i][1]) / 2 for i in (1, 3)]
    np.testing.assert_allclose(features.frame_times_s, middles, atol=0.05)


def test_one_shot_is_looked_at_evenly(make_video: Callable[..., Path]) -> None:
    """A single keyframe: nothing says that there are cuts."""
    path = make_video(seconds=12, sound=False, video=("-c:v", "libx264", "-preset", "ultrafast", "-g", "9999"))
    features = extract_features(path, SCENE.model_copy(update={"n_frames": 4, "interval_s": 2.5}))
    np.testing.assert_allclose(features.frame_times_s, [2.25, 4.75, 7.25, 9.75], atol=0.05)


@pytest.mark.parametrize(("seconds", "n"), [(5, 4), (0.8, 1)])
def test_a_short_film_gets_as_many_frames_as_from_the_grid(
    seconds: float, n: int, make_video: Callable[..., Path]
) -> None:
    features = extract_features(make_video(seconds=seconds, sound=False), SCENE)
    assert len(features.frames) == n


@pytest.mark.parametrize("n_shots", [1, 2, 9, 10, 11, 25, 300])
def test_as_many_instants_as_asked_for_each_in_a_shot_of_its_own_if_there_are_enough(n_shots: int) -> None:
    lengths_s = np.random.default_rng(n_shots).uniform(0.1, 4.0, n_shots)
    edges_s = (5.0, *(5.0 + np.cumsum(lengths_s)).tolist())
    instants_s = spread_over_shots(edges_s, 10)

    assert len(instants_s) == len(set(instants_s)) == 10
    assert list(instants_s) == sorted(instants_s)
    assert len(set(np.searchsorted(edges_s, instants_s))) == min(n_shots, 10)


def test_what_the_setting_offers_is_what_the_table_has() -> None:
    assert set(get_args(FeatureSettings.model_fields["sampler"].annotation)) == set(SAMPLERS)
