"""The film world: complete, odd where it says so, the same bytes again, and not to be told apart by its mean colour."""

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest

from trailer_ml.demo.casting import FILM_ODDITIES, SHORT_S, cast_world
from trailer_ml.demo.studio import make_world
from trailer_ml.demo.timeline import FPS
from trailer_ml.demo.world import DAYS, GENRES, Clip, World, read_world
from trailer_ml.errors import MissingObjectError, SettingsError


@pytest.fixture(scope="module")
def world(world_folder: Path) -> World:
    return read_world(world_folder)


def test_the_default_world_is_as_large_and_as_varied_as_promised() -> None:
    world = cast_world(n_films=84, seed=11, seconds=26.0, odd=True)
    films = {film.film_id: film for film in world.films}
    listed = [clip for clip in world.clips if films[clip.film_id].title_type == "movie"]
    playable = [clip for clip in listed if clip.oddity not in {"corrupt", "gone"}]

    assert len(playable) >= 72
    assert len({clip.film_id for clip in playable}) >= 60
    assert [ad.genre for ad in world.ads] == list(GENRES)
    assert len({clip.video_id for clip in world.clips}) == len(world.clips)
    assert len({film.film_id for film in world.films}) == len(films)
    assert len({film.title for film in world.films}) == len(films)
    assert all(24 <= clip.duration_s <= 31 for clip in playable if clip.oddity not in {"short", "teaser"})


def test_every_genre_comes_on_every_day_in_equal_parts() -> None:
    world = cast_world(n_films=84, seed=11, seconds=26.0, odd=True)
    genre_of = {film.film_id: film.genres[0] for film in world.films}
    per_day = Counter(clip.listed_on for clip in world.clips)
    per_day_and_genre = Counter((clip.listed_on, genre_of[clip.film_id]) for clip in world.clips)

    assert tuple(sorted(per_day)) == DAYS == (dt.date(2026, 11, 20), dt.date(2026, 11, 21), dt.date(2026, 11, 22))
    assert max(per_day.values()) - min(per_day.values()) <= 4
    assert min(per_day_and_genre.values()) >= 4
    assert len(per_day_and_genre) == len(DAYS) * len(GENRES)
    assert {clip.listed_on for clip in world.clips if clip.oddity} == set(DAYS)


def test_the_odd_ones_can_be_left_out_and_need_room() -> None:
    plain = cast_world(n_films=6, seed=1, seconds=8.0, odd=False)

    assert not any(clip.oddity for clip in plain.clips)
    assert plain.titles_without_trailer == ()
    with pytest.raises(SettingsError, match="need 9 films at least"):
        cast_world(n_films=8, seed=1, seconds=8.0, odd=True)


def test_another_seed_is_another_world() -> None:
    one, other = (cast_world(n_films=12, seed=seed, seconds=8.0, odd=True) for seed in (1, 2))

    assert not {clip.video_id for clip in one.clips} & {clip.video_id for clip in other.clips}


def test_every_file_is_there_and_plays_as_long_as_it_says(world: World, world_folder: Path) -> None:
    for clip in world.clips:
        if clip.oddity in {"gone", "corrupt"}:
            continue
        with av.open(str(world_folder / clip.file)) as container:
            video = container.streams.video[0]
            assert (video.width, video.height) == (clip.width, clip.height)
            assert len(container.streams.audio) == (clip.oddity != "silent"), clip
            n_frames = sum(1 for _ in container.decode(video))
            assert video.average_rate == FPS
            assert n_frames == clip.duration_s * FPS
    for ad in world.ads:
        with av.open(str(world_folder / ad.file)) as container:
            assert container.duration / av.time_base == pytest.approx(ad.duration_s, abs=0.2)


def test_the_index_of_a_file_comes_first(world: World, world_folder: Path) -> None:
    head = (world_folder / world.clips[0].file).read_bytes()

    assert head.index(b"moov") < head.index(b"mdat")


def test_the_odd_ones_are_odd(world: World, world_folder: Path) -> None:
    assert {clip.oddity for clip in world.clips} == {None, *FILM_ODDITIES, "teaser", "series"}
    assert world.odd("portrait").width < world.odd("portrait").height
    assert world.odd("scope").width / world.odd("scope").height == pytest.approx(2.39, abs=0.01)
    assert world.odd("short").duration_s == SHORT_S == 4.0
    assert not (world_folder / world.odd("gone").file).exists()
    with pytest.raises(av.error.FFmpegError):
        av.open(str(world_folder / world.odd("corrupt").file))
    assert (world_folder / world.odd("corrupt").file).read_bytes()[4:8] == b"ftyp"
    assert len(world.film(world.odd("two_genres").film_id).genres) == 2
    assert world.film(world.odd("series").film_id).title_type == "tvSeries"
    assert [world.film(film_id).title_type for film_id in world.titles_without_trailer] == ["movie"]


def test_teaser_and_recut_show_the_scenes_of_their_trailer(world: World, world_folder: Path) -> None:
    trailer, teaser, recut = world.clips_of(world.odd("recut").film_id)
    others = [clip for clip in world.clips if clip.film_id != trailer.film_id and clip.oddity is None]
    palette = {clip.video_id: _histogram(world_folder, clip) for clip in (trailer, teaser, recut, *others)}

    def distance(clip: Clip) -> float:
        return float(np.abs(palette[trailer.video_id] - palette[clip.video_id]).sum())

    assert [clip.oddity for clip in (trailer, teaser, recut)] == [None, "teaser", "recut"]
    assert teaser.duration_s < trailer.duration_s == recut.duration_s
    assert (world_folder / recut.file).read_bytes() != (world_folder / trailer.file).read_bytes()
    assert max(distance(teaser), distance(recut)) < min(distance(clip) for clip in others)


def test_the_same_arguments_give_the_same_bytes(world: World, world_folder: Path, tmp_path: Path) -> None:
    small = {"n_films": 6, "seconds": 2.0, "odd": False}
    make_world(tmp_path / "one", **small, workers=1)
    make_world(tmp_path / "two", **small, workers=3)

    assert _contents(tmp_path / "one") == _contents(tmp_path / "two")
    assert len(_contents(tmp_path / "one")) == 7 + 6 + 2  # one film has two trailers; six commercials; two JSON files


def test_a_made_world_is_kept(world: World, world_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in world_folder.rglob("*")}
    told: list[tuple[int, int]] = []

    assert make_world(world_folder, n_films=18, seconds=4.0, on_progress=lambda *n: told.append(n)) == world
    assert {path: path.stat().st_mtime_ns for path in world_folder.rglob("*")} == before
    assert told == []


def test_other_arguments_do_not_mix_with_a_made_world(world_folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"remove it or choose another folder$"):
        make_world(world_folder, n_films=18, seconds=5.0)


def test_a_studio_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    script = "from pathlib import Path; import sys; from trailer_ml.demo.studio import make_world as make; "
    script += "make(Path(sys.argv[1]), n_films=6, seconds=2.0, odd=False, workers=1)"
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "killed")], start_new_session=True)
    media = tmp_path / "killed" / "media"
    while not (media.exists() and len(list(media.iterdir())) >= 2):
        assert child.poll() is None
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    finished = {path: path.stat().st_mtime_ns for path in media.iterdir()}
    with pytest.raises(MissingObjectError, match="no finished film world"):
        read_world(tmp_path / "killed")

    told: list[tuple[int, int]] = []
    make_world(tmp_path / "killed", n_films=6, seconds=2.0, odd=False, on_progress=lambda *n: told.append(n))
    make_world(tmp_path / "whole", n_films=6, seconds=2.0, odd=False)

    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert told[-1] == (13, 13)
    assert len(told) == 13 - len(finished)
    assert _contents(tmp_path / "killed") == _contents(tmp_path / "whole")


def test_a_file_that_was_lost_is_made_again(tmp_path: Path) -> None:
    world = make_world(tmp_path, n_films=6, seconds=2.0, odd=False)
    before = _contents(tmp_path)
    (tmp_path / world.clips[0].file).unlink()

    make_world(tmp_path, n_films=6, seconds=2.0, odd=False)

    assert _contents(tmp_path) == before


@pytest.mark.slow
def test_a_mean_colour_does_not_tell_the_genres(tmp_path: Path) -> None:
    """Nearest by mean colour, judged as models are: below half of what is asked of them."""
    world = make_world(tmp_path, n_films=60, seconds=4.0, odd=False)
    genre_of = {film.film_id: film.genres[0] for film in world.films}
    films = np.array([clip.film_id for clip in world.clips])
    genres = np.array([genre_of[film_id] for film_id in films])
    means = np.array([_frames(tmp_path, clip).mean((0, 1, 2)) for clip in world.clips])
    precisions = []
    for i in range(len(means)):
        others = np.flatnonzero(films != films[i])
        nearest = others[np.argsort(((means[others] - means[i]) ** 2).sum(1))][:10]
        is_hit = genres[nearest] == genres[i]
        precisions.append((is_hit * np.cumsum(is_hit) / np.arange(1, 11)).sum() / 10)

    assert np.mean(precisions) < 0.40


def _frames(folder: Path, clip: Clip) -> np.ndarray:
    """(n, 18, 32, 3): a picture from every second."""
    with av.open(str(folder / clip.file)) as container:
        kept = [frame for i, frame in enumerate(container.decode(container.streams.video[0])) if i % 12 == 6]
    return np.stack([frame.reformat(32, 18, "rgb24").to_ndarray() for frame in kept])


def _histogram(folder: Path, clip: Clip) -> np.ndarray:
    """How often each of 512 colours occurs."""
    colours = (_frames(folder, clip) // 32).reshape(-1, 3).astype(int)
    counts = np.bincount(colours @ (64, 8, 1), minlength=512)
    return counts / counts.sum()


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
