"""A folder of video files as a data set: to try ways of looking at trailers before any shard is written.

`videos.csv` in the folder names the files and their genres. What is extracted is kept on this machine by file and by
the way it was looked at, so that only the first epoch waits for it.

Does not belong here: training. This module loads neither Keras nor TensorFlow.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import logging
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trailer_ml.errors import DataError, LocalFaultError, MediaError
from trailer_ml.features.extract import Features
from trailer_ml.features.pool import extract_many
from trailer_ml.model.dataset import (
    Dataset,
    DatasetTrailer,
    DatasetVideo,
    describe,
    drop_lone_genres,
    split_of,
    write_dataset,
)
from trailer_ml.storage import encode_json, sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trailer_ml.settings import FeatureSettings, Settings
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)

MANIFEST = "videos.csv"
_PER_PART = 64  # so many trailers' features of a frozen backbone are kept as one object


class Video(NamedTuple):
    """One line of the manifest, and the file it names."""

    file: str
    path: Path
    sha256: str
    trailer_id: str
    film_id: str
    genres: tuple[str, ...]


class VideoData(NamedTuple):
    """A data set of videos as one sampler sees them."""

    dataset: Dataset
    lost: dict[str, str]
    """File -> why no sampler's data set has it."""
    seconds_per_trailer: float
    """Of one process, as it was measured when they were extracted."""
    mean_frames: float


def read_videos(folder: Path) -> list[Video]:
    """What `videos.csv` in a folder lists: columns `file`, `genres` (with `|` between them) and, if there, `film_id`.

    A trailer's id is made of its file's name. Where no film is named, each file is a film of its own.

    Raises:
        DataError: there is no such file, or one of its lines cannot be used; the message says which.
    """
    manifest = folder / MANIFEST
    videos: dict[str, Video] = {}
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in ("file", "genres") if name not in (reader.fieldnames or ())]:
                raise DataError(f"{manifest}, line 1: there is no column {' and no column '.join(missing)}")
            for row in reader:
                where = f"{manifest}, line {reader.line_num}"
                video = _read_row(row, folder, where)
                if other := videos.get(video.trailer_id):
                    raise DataError(f"{where}: {video.file} and {other.file} are both {video.trailer_id}: rename one")
                videos[video.trailer_id] = video
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{manifest} cannot be read ({error}): it lists file,genres,film_id of each video") from error
    if not videos:
        raise DataError(f"{manifest} lists no videos")
    return list(videos.values())


def _read_row(row: dict[str, str | None], folder: Path, where: str) -> Video:
    name = (row["file"] or "").strip()
    path = folder / name
    if not name or not path.is_file():
        raise DataError(f"{where}: there is no file {name!r} in {folder}")
    genres = tuple(sorted({genre.strip() for genre in (row["genres"] or "").split("|")} - {""}))
    if not genres:
        raise DataError(f"{where}: {name} has no genre")
    trailer_id = _make_id(name)
    film_id = _make_id(row.get("film_id") or "") or trailer_id
    return Video(name, path, sha256_of_file(path), f"video-{trailer_id}", f"video-{film_id}", genres)


def _make_id(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.strip().lower())[-120:]


class VideoFeatures:
    """What was seen of video files: extracted in processes that may die, under the limits of the settings, and kept.

    Args:
        settings: how they are looked at.
        cache_folder: for what was extracted; 1.7 MB a trailer at 224 pixels. It may be deleted at any time.
        workers: processes at a time.
    """

    def __init__(self, settings: FeatureSettings, cache_folder: Path, workers: int) -> None:
        self._settings = settings
        view = hashlib.sha256(encode_json([settings.view, settings.engine])).hexdigest()[:16]
        self._folder = cache_folder / view
        self._workers = workers

    def read(self, files: Sequence[tuple[Path, str]]) -> Iterator[Features | MediaError]:
        """Features of some files, in order; a file that cannot be used is a MediaError that says why.

        Args:
            files: where each is, and its sha256.

        Raises:
            LocalFaultError: this machine cannot go on.
        """
        missing = [(path, self._path(sha256)) for path, sha256 in files if not self._path(sha256).exists()]
        extracted = extract_many((path for path, _ in missing), self._settings, self._workers)
        targets = {kept for _, kept in missing}
        began, n_new = time.monotonic(), 0
        with contextlib.closing(extracted):  # type: ignore[type-var]
            for _, sha256 in files:
                kept = self._path(sha256)
                if kept not in targets:
                    yield Features.load_npz(kept)
                    continue
                features = next(extracted)
                n_new += 1
                if isinstance(features, Features):
                    self._keep(kept, features, (time.monotonic() - began) * self._workers / n_new)
                yield features

    def seconds_of(self, sha256: str) -> float:
        """Seconds of one process that it took to extract a file that is kept."""
        return float(json.loads(self._path(sha256).with_suffix(".json").read_text())["seconds"])

    def _path(self, sha256: str) -> Path:
        return self._folder / f"{sha256[:32]}.npz"

    def _keep(self, path: Path, features: Features, seconds: float) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f".{path.stem}.{os.getpid()}.json")
            aside.write_text(json.dumps({"seconds": seconds}))
            aside.replace(path.with_suffix(".json"))
            features.save_npz(path)
        except OSError as error:
            raise LocalFaultError(f"what was extracted cannot be kept in {path.parent}: {error}") from error


def open_features(dataset: Dataset, cache_folder: Path) -> VideoFeatures:
    """The features of a data set that was made of videos.

    Args:
        dataset: has `videos`.
        cache_folder: the model's.
    """
    return VideoFeatures(dataset.features, cache_folder / "videos", os.cpu_count() or 1)


def assemble_videos(folder: Path, samplers: Sequence[str], settings: Settings, store: Store) -> list[VideoData]:
    """A data set for each sampler, of the very same trailers: those that every one of them can look at.

    Args:
        folder: has the files and their `videos.csv`.
        samplers: as of the settings of features.
        settings: everything else.
        store: where the data sets are described.

    Raises:
        DataError: a line of the manifest cannot be used, or what is left cannot be learned from.
    """
    videos = read_videos(folder)
    lost: dict[str, str] = {}
    seen = [_look(videos, sampler, settings, lost) for sampler in samplers]
    usable = [video for video in videos if video.file not in lost]
    if not usable:
        raise DataError(f"none of the {len(videos)} videos of {folder} can be used: {next(iter(lost.values()))}")
    return [_describe(usable, folder, each, lost, settings, store) for each in seen]


class _Seen(NamedTuple):
    features: FeatureSettings
    n_frames: dict[str, int]
    seconds: dict[str, float]


def _look(videos: Sequence[Video], sampler: str, settings: Settings, lost: dict[str, str]) -> _Seen:
    """Extract all of them, and note in `lost` what cannot be."""
    chosen = settings.features.model_copy(update={"sampler": sampler})
    kept = VideoFeatures(chosen, settings.model.cache_folder.expanduser() / "videos", os.cpu_count() or 1)
    seen = _Seen(chosen, {}, {})
    found = kept.read([(video.path, video.sha256) for video in videos])
    for video, features in zip(videos, found, strict=True):
        if isinstance(features, MediaError):
            lost[video.file] = f"{features.reason}: {str(features).removeprefix(f'{video.path.name}: ')}"
            logger.warning("left out: %s: %s", video.file, lost[video.file])
        else:
            seen.n_frames[video.file] = len(features.frames)
            seen.seconds[video.file] = kept.seconds_of(video.sha256)
    return seen


def _describe(
    videos: Sequence[Video], folder: Path, seen: _Seen, lost: dict[str, str], settings: Settings, store: Store
) -> VideoData:
    trailers, n_alone = drop_lone_genres(
        [
            DatasetTrailer(
                trailer_id=video.trailer_id,
                film_id=video.film_id,
                genres=video.genres,
                split=split_of(video.film_id, settings.model),
                shard=row // _PER_PART,
                row=row,
            )
            for row, video in enumerate(videos)
        ]
    )
    dataset = describe(
        trailers,
        settings.model_copy(update={"features": seen.features}),
        n_without_genre=n_alone,
        videos=[DatasetVideo(file=video.file, sha256=video.sha256) for video in videos],
        folder=str(folder.absolute()),
    )
    write_dataset(dataset, settings, store)
    return VideoData(
        dataset,
        lost,
        float(np.mean([seen.seconds[video.file] for video in videos])),
        float(np.mean([seen.n_frames[video.file] for video in videos])),
    )
