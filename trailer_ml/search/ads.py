"""Ads to films: for each commercial the films whose trailers are most like it, with the reason, as lines and as a page.

Does not belong here: how videos are fetched (media), and how neighbours are found (neighbours.py).
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

import numpy as np

from trailer_ml.catalog.listing import read_taken_down
from trailer_ml.errors import MediaError, SettingsError
from trailer_ml.index.rest import take_in_rest
from trailer_ml.index.serve import open_current_index
from trailer_ml.model.registry import load_encoder
from trailer_ml.pages import as_data_uri
from trailer_ml.records import ID_PATTERN, AdFilm, AdMatch, AdsSummary, FramePair
from trailer_ml.scratch import scratch_folder
from trailer_ml.search.calibration import percentile_of
from trailer_ml.search.closest import find_closest_frames, read_trailers_of_shards, shrink_frames
from trailer_ml.search.footage import fetch_videos, hide_secrets, hide_secrets_in, look_at_all, split_source
from trailer_ml.search.neighbours import find_neighbours, find_rows_taken_down
from trailer_ml.search.placements import RankedFilms
from trailer_ml.search.reasons import explain_answer, explain_answers, mix_genres
from trailer_ml.search.report import N_FILMS, read_thumbs, render_page, show_source, sort_films
from trailer_ml.shards.schema import encode_jpeg
from trailer_ml.storage import ads_key, encode_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from trailer_ml.features.extract import Features
    from trailer_ml.records import FilmAds, IndexManifest, Neighbour
    from trailer_ml.settings import Settings
    from trailer_ml.shards.schema import ShardRecord
    from trailer_ml.storage import Store

_STRIP_SIDE, _STRIP_QUALITY = 144, 85
N_MIXED = 10
"""Films nearest to an ad whose genres are counted."""
N_SHOWN, N_FRAMES = 3, 3
"""Of so many films of an ad so many frames are shown: each may lie in a shard of its own, and shards are large."""


class Ad(NamedTuple):
    """An advertisement to be matched."""

    name: str
    """Unique in its run, and fit to be an id."""
    source: str


class Glimpse(NamedTuple):
    """What is kept of an ad that was looked at: of many, the frames themselves would fill the memory."""

    strip: tuple[str, ...]
    """Its frames as data URIs."""
    picture: bytes
    """The same side by side, a JPEG."""
    times_s: tuple[float, ...]
    small: NDArray[np.float32]
    """(n_frames, numbers), see shrink_frames."""
    vector: NDArray[np.float32]
    """(dim,)."""


class Look(NamedTuple):
    """What was seen of an ad."""

    match: AdMatch
    glimpse: Glimpse | None = None
    """None: it could not be used."""
    pairs: Mapping[str, tuple[tuple[str, str], ...]] = {}
    """By trailer id: frames of both that are most alike, as data URIs."""


def match_ads(sources: Sequence[str], run: str, settings: Settings, store: Store) -> AdsSummary:
    """Rank films for some ads, and write `ads/<run>/matches.jsonl`, `films.jsonl`, `report.html` and `pictures/`.

    An ad that cannot be used does not stop the others: its line says why. Of an address no more than host and path is
    kept: what else is in it may be a secret.

    Args:
        sources: addresses or local files.
        run: names the result; a run of the same name is written over.
        settings: how many films each ad gets, and what fetching and looking may cost.
        store: where the index, its model and the pictures are.

    Raises:
        SettingsError: the name of the run is not one, or there is no ad.
        NoIndexError: no index has been published yet.
        MediaError: after all is written: no ad could be used.
    """
    if not re.fullmatch(ID_PATTERN.rstrip("$"), run):
        raise SettingsError(
            f"a run is named with a-z, 0-9, '.', '_' and '-', and begins with a letter or digit: {run!r}"
        )
    if not sources:
        raise SettingsError("there is no ad to match: name at least one address or file")
    ads = name_ads(sources)
    with (
        open_current_index(store, settings.index.cache_folder) as index,
        scratch_folder("trailer-ml-ads-") as folder,
    ):
        encoder = load_encoder(store, index.manifest.model_version, settings.model.cache_folder)
        seen_of_ads = [
            seen if isinstance(seen, MediaError) else take_glimpse(*seen)
            for seen in look_at_all(fetch_ads(ads, folder, settings), encoder, settings)
        ]
        take_in_rest(index, store)
        taken_down = find_rows_taken_down(index, store)  # now: the downloads may have taken an hour
        films = RankedFilms(index, taken_down)
        looks = []
        for ad, seen in zip(ads, seen_of_ads, strict=True):
            if isinstance(seen, MediaError):
                looks.append(Look(describe_problem(ad, seen)))
                continue
            nearest = find_neighbours(
                index,
                seen.vector,
                max(settings.search.k, N_MIXED),
                model_version=encoder.version,
                left_out=taken_down,
                one_per_film=True,
            )
            films.add(ad.name, seen.vector)
            match = describe_match(ad, nearest, settings.search.k, films.pair_scores)
            looks.append(Look(match.model_copy(update={"frame_times_s": seen.times_s}), seen))
        looks = show_closest_frames(looks, settings, store)
        summary = write_run(run, looks, films.place(settings.search), index.manifest, store)
    if not summary.n_matched:
        raise MediaError(
            f"none of {summary.n_ads} ads could be used: {summary.matches_key} says why", reason=min(summary.problems)
        )
    return summary


def name_ads(sources: Sequence[str]) -> list[Ad]:
    """A name for each, after its file; of equal names all but the first get a number.

    >>> [ad.name for ad in name_ads(["http://127.0.0.1/ads/ad-horror.mp4?x=1", "Ad Horror.mov"])]
    ['ad-horror', 'ad-horror-2']
    """
    ads: dict[str, Ad] = {}
    for source in sources:
        parts = split_source(source)
        stem = PurePosixPath((unquote(parts.path) if parts else "") or source).stem
        plain = re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")[:100] or "ad"
        names = itertools.chain([plain], (f"{plain}-{number}" for number in itertools.count(2)))
        name = next(name for name in names if name not in ads)
        ads[name] = Ad(name, source)
    return list(ads.values())


def describe_match(ad: Ad, nearest: Sequence[Neighbour], k: int, pair_scores: NDArray[np.floating]) -> AdMatch:
    """The `k` films of one ad, best first, with reasons in words, and what genres its surroundings have."""
    films = nearest[:k]
    return AdMatch(
        ad=ad.name,
        source=hide_secrets(ad.source),
        films=tuple(
            AdFilm(best=film, reason=explain_answer(film), percentile=percentile_of(film.score, pair_scores))
            for film in films
        ),
        reason=explain_answers(films),
        genre_mix=mix_genres(nearest[:N_MIXED]),
    )


def describe_problem(ad: Ad, error: MediaError) -> AdMatch:
    """Why there are no films for an ad."""
    detail = hide_secrets_in(str(error), ad.source)
    return AdMatch(ad=ad.name, source=hide_secrets(ad.source), problem=error.reason, detail=detail)


def show_closest_frames(looks: Sequence[Look], settings: Settings, store: Store) -> list[Look]:
    """The same, with the frames that are most alike for the first films of each ad."""
    first = {film.best.trailer_id for look in looks for film in look.match.films[:N_SHOWN]}
    shown = list(looks)
    for record in read_trailers_of_shards(first, settings, store):  # one at a time: a record is large
        theirs = shrink_frames(record.frames)
        for number, look in enumerate(shown):
            places = [film.best.trailer_id for film in look.match.films[:N_SHOWN]]
            if look.glimpse and record.trailer_id in places:
                pairs = find_closest_frames(look.glimpse.small, theirs, N_FRAMES)
                shown[number] = _show_pairs(look, look.glimpse, places.index(record.trailer_id), record, pairs)
    return shown


def _show_pairs(
    look: Look, glimpse: Glimpse, place: int, record: ShardRecord, pairs: Sequence[tuple[int, int, float]]
) -> Look:
    """A look with the pairs of frames of one of its films."""
    frames = tuple(
        FramePair(one_s=glimpse.times_s[i], other_s=float(record.frame_times_s[j]), likeness=alike)
        for i, j, alike in pairs
    )
    films = list(look.match.films)
    films[place] = films[place].model_copy(update={"frames": frames})
    pictures = tuple((glimpse.strip[i], _encode(record.frames[j])) for i, j, _ in pairs)
    return look._replace(
        match=look.match.model_copy(update={"films": tuple(films)}), pairs={**look.pairs, record.trailer_id: pictures}
    )


def write_run(
    run: str, looks: Sequence[Look], placed: Sequence[FilmAds], index: IndexManifest, store: Store
) -> AdsSummary:
    """Write the lines and the page of a run; the same looks give the same bytes.

    Tombstones are looked at once more after the page: of us and of who takes a trailer down, one sees the other.
    """
    matches = [look.match for look in looks]
    shown = [show_source(match) for match in matches]
    page = render_page(
        "ads.html.j2",
        run=run,
        index=index,
        matches=shown,
        matched=[match for match in shown if not match.problem],
        problems=[match for match in shown if match.problem],
        strips={look.match.ad: look.glimpse.strip for look in looks if look.glimpse},
        pairs={
            look.match.ad: {film.best.trailer_id: look.pairs.get(film.best.trailer_id, ()) for film in look.match.films}
            for look in looks
        },
        films=sort_films(placed)[:N_FILMS],
        n_films=len(placed),
        thumbs=read_thumbs((film.best.trailer_id for match in matches for film in match.films), store),
    )
    summary = AdsSummary(
        run=run,
        model_version=index.model_version,
        index_version=index.version,
        n_ads=len(matches),
        n_matched=sum(not match.problem for match in matches),
        problems=dict(sorted(Counter(match.problem for match in matches if match.problem).items())),
        matches_key=ads_key(run, "matches.jsonl"),
        films_key=ads_key(run, "films.jsonl"),
        report_key=ads_key(run, "report.html"),
    )
    store.delete(summary.report_key)  # of an earlier run of this name: what is on it is in its lines, or it is gone
    write_pictures(run, looks, store)
    for key, records in ((summary.matches_key, matches), (summary.films_key, placed)):
        store.put_bytes(key, b"".join(encode_json(record.to_json()) for record in records), "application/jsonl")
    store.put_bytes(summary.report_key, page.encode(), "text/html; charset=utf-8")
    if read_taken_down(store) & {film.best.trailer_id for match in matches for film in match.films}:
        store.delete(summary.report_key)
    return summary


def write_pictures(run: str, looks: Sequence[Look], store: Store) -> None:
    """The frames of each ad, side by side in one JPEG; what an earlier run of the name left goes."""
    left = set(store.list_keys(ads_key(run, "pictures/")))
    for look in looks:
        if look.glimpse is not None:
            key = ads_key(run, f"pictures/{look.match.ad}.jpg")
            store.put_bytes(key, look.glimpse.picture, "image/jpeg")
            left.discard(key)
    for key in left:
        store.delete(key)


def fetch_ads(ads: Sequence[Ad], folder: Path, settings: Settings) -> list[Path | MediaError]:
    """A file for each ad: its own where it is one, else what its address gave, or why it gave nothing."""
    return fetch_videos([(ad.name, ad.source) for ad in ads], folder, settings)


def take_glimpse(features: Features, vector: NDArray[np.float32]) -> Glimpse:
    """What is kept of an ad.

    Args:
        features: of the ad.
        vector: (dim,) its embedding.
    """
    frames = [_shrink(frame) for frame in features.frames]
    return Glimpse(
        strip=tuple(as_data_uri(encode_jpeg(frame, _STRIP_QUALITY)) for frame in frames),
        picture=encode_jpeg(np.concatenate(frames, axis=1), _STRIP_QUALITY),
        times_s=tuple(float(time_s) for time_s in features.frame_times_s),
        small=shrink_frames(features.frames),
        vector=vector,
    )


def _encode(frame: NDArray[np.uint8]) -> str:
    return as_data_uri(encode_jpeg(_shrink(frame), _STRIP_QUALITY))


def _shrink(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.fromarray(frame).resize((_STRIP_SIDE, _STRIP_SIDE), Image.Resampling.BOX))
