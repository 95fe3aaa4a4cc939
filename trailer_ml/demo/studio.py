"""The studio: makes the film world of the demo, once, out of nothing but ffmpeg's own sources.

One ffmpeg process makes one file, written aside and renamed; `world.json` comes last. So a studio that is killed goes
on where it was, and one that is finished answers at once. The same arguments give the same bytes on the same machine.

Does not belong here: what the films are (casting.py) and what they look and sound like (grammar.py and its
neighbours).
"""

from __future__ import annotations

import json
import logging
import random
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from trailer_ml.demo.casting import WIDE, cast_world
from trailer_ml.demo.grammar import draw_look
from trailer_ml.demo.picture import draw_scenes, picture_graph, spot_overlays
from trailer_ml.demo.sound import sound_graph
from trailer_ml.demo.timeline import FPS, cut_shots, shorten
from trailer_ml.demo.world import WORLD_NAME
from trailer_ml.errors import SettingsError
from trailer_ml.media.ffmpeg import find_ffmpeg
from trailer_ml.processes import run_child

if TYPE_CHECKING:
    from collections.abc import Callable

    from trailer_ml.demo.world import Ad, Clip, Film, World

logger = logging.getLogger(__name__)

RECIPE_NAME = "recipe.json"
ASIDE = ".making-"
RENDER_TIMEOUT_S = 120.0
CRF, RECUT_CRF = 31, 35
SPOT_PACE = 1.5
"""A commercial has half the time of a trailer and is cut and played faster."""


class Job(NamedTuple):
    """One file to make."""

    file: str
    graph: str
    has_sound: bool
    crf: int
    is_damaged: bool = False


def make_world(
    folder: Path,
    *,
    n_films: int = 84,
    seed: int = 11,
    seconds: float = 26.0,
    odd: bool = True,
    workers: int = 2,
    on_progress: Callable[[int, int], None] | None = None,
) -> World:
    """Make the film world in `folder`, or what is missing of it. One studio at a time works in a folder.

    Args:
        folder: gets `media/`, `ads/` and, last, `world.json`.
        n_films: films that have a trailer, in turns of the six genres; one in seven has two. The default world takes
            under a minute on two cores, 12 films of 8 seconds take a few seconds.
        seed: draws everything.
        seconds: length of a trailer, 4 % less to 16 % more.
        odd: whether the odd trailers of world.Oddity are in, and the titles that no trailer comes from; they need
            9 films at least.
        workers: ffmpeg processes at a time.
        on_progress: told how many files of how many there are, after each.

    Raises:
        SettingsError: too few films for the odd ones, or the folder holds a world made from other arguments or by
            another version.
    """
    world = cast_world(n_films=n_films, seed=seed, seconds=seconds, odd=odd)
    _claim(folder, world)
    jobs = _jobs(world)
    missing = [job for job in jobs if not (folder / job.file).exists()]
    if not missing and (folder / WORLD_NAME).exists():
        return world
    logger.info("%d of %d trailers and commercials are to be made in %s", len(missing), len(jobs), folder)
    with tempfile.TemporaryDirectory(prefix=ASIDE, dir=folder) as aside:
        pool = ThreadPoolExecutor(workers)
        try:
            for n_made, _ in enumerate(pool.map(lambda job: _render(job, folder, Path(aside)), missing), 1):
                if on_progress:
                    on_progress(len(jobs) - len(missing) + n_made, len(jobs))
        finally:
            pool.shutdown(cancel_futures=True)
    _write(folder / WORLD_NAME, world.model_dump_json(indent=1).encode())
    return world


def _claim(folder: Path, world: World) -> None:
    """The first file says what the folder is for, so that two worlds never mix; what a kill left is swept."""
    recipe = world.model_dump(include={"version", "seed", "n_films", "seconds", "has_odd"})
    path = folder / RECIPE_NAME
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _write(path, json.dumps(recipe).encode())
    elif (found := json.loads(path.read_bytes())) != recipe:
        raise SettingsError(
            f"{folder} holds a film world made from {found}, not {recipe}: remove it or choose another folder"
        )
    for name in ("media", "ads"):
        (folder / name).mkdir(exist_ok=True)
    for left_over in folder.glob(f"{ASIDE}*"):  # an ffmpeg that outlived its studio finds no folder to write to
        shutil.rmtree(left_over, ignore_errors=True)


def _jobs(world: World) -> list[Job]:
    films = {film.film_id: film for film in world.films}
    jobs = [_clip_job(clip, films[clip.film_id], world) for clip in world.clips if clip.oddity != "gone"]
    return jobs + [_ad_job(ad, world.seed) for ad in world.ads]


def _clip_job(clip: Clip, film: Film, world: World) -> Job:
    """What one trailer is made of: look and scenes are drawn from the film's seed, cut and sound from the trailer's."""
    film_rng = random.Random(f"{world.seed} {film.film_id}")
    look = draw_look(film.genres[0], film_rng)
    scenes = draw_scenes(film.genres, look, film_rng)
    is_variant = clip.oddity in {"teaser", "recut"}
    original = world.clips_of(film.film_id)[0] if is_variant else clip
    rng = random.Random(f"{world.seed} {original.video_id}")
    shots = cut_shots(film.genres, [scene.genre for scene in scenes], original.duration_s, rng)
    if clip.oddity == "recut":
        shots = [*random.Random(f"{world.seed} {clip.video_id}").sample(shots[:-1], len(shots) - 1), shots[-1]]
    elif clip.oddity == "teaser":
        shots = shorten(shots, clip.duration_s)
    graph = picture_graph(scenes, shots, look, (clip.width, clip.height), rng)
    has_sound = clip.oddity != "silent"
    if has_sound:
        graph += ";" + sound_graph(
            film.genres, clip.duration_s, random.Random(f"{world.seed} {original.video_id} sound")
        )
    crf = RECUT_CRF if clip.oddity == "recut" else CRF
    return Job(clip.file, graph, has_sound, crf, is_damaged=clip.oddity == "corrupt")


def _ad_job(ad: Ad, seed: int) -> Job:
    rng = random.Random(f"{seed} {ad.name}")
    look = draw_look(ad.genre, rng)
    scenes = draw_scenes((ad.genre,), look, rng)
    shots = cut_shots((ad.genre,), [scene.genre for scene in scenes], ad.duration_s, rng, pace=SPOT_PACE)
    picture = picture_graph(scenes, shots, look, WIDE, rng, overlays=spot_overlays(ad.duration_s, rng))
    return Job(
        ad.file, f"{picture};{sound_graph((ad.genre,), ad.duration_s, rng, pace=SPOT_PACE)}", has_sound=True, crf=CRF
    )


def _render(job: Job, folder: Path, aside: Path) -> None:
    made = aside / Path(job.file).name
    run_child(_ffmpeg_arguments(job, made), timeout_s=RENDER_TIMEOUT_S)
    if job.is_damaged:
        _damage(made)
    made.replace(folder / job.file)


def _ffmpeg_arguments(job: Job, path: Path) -> list[str]:
    sound = ("-map", "[sound]", "-c:a", "aac", "-aac_coder", "fast", "-b:a", "64k") if job.has_sound else ()
    return [
        find_ffmpeg(None), "-nostdin", "-y", "-v", "error", "-filter_complex_threads", "1",
        "-filter_complex", job.graph, "-map", "[picture]", "-threads", "1", "-c:v", "libx264", "-preset", "ultrafast",
        "-crf", str(job.crf), "-r", str(FPS), "-g", str(2 * FPS), "-pix_fmt", "yuv420p", *sound, "-threads", "1",
        "-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact",
        "-movflags", "+faststart", "-f", "mp4", str(path),
    ]  # fmt: skip


def _damage(path: Path) -> None:
    """A film whose bytes have rotted: it still starts like an MP4, but nothing in it can be read."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(32)
        file.write(random.Random(size).randbytes(size - 32))


def _write(path: Path, content: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix=ASIDE, dir=path.parent) as aside:
        made = Path(aside, path.name)
        made.write_bytes(content)
        made.replace(path)
