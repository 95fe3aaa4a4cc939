"""Ads to films: for each commercial the films whose trailers are most like it, with the reason, as lines and as a page.

Does not belong here: how videos are fetched (media), and how neighbours are found (neighbours.py).
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from trailer_ml.errors import MediaError, SettingsError
from trailer_ml.index.serve import open_current_index
from trailer_ml.media.download import download_videos
from trailer_ml.model.registry import load_encoder
from trailer_ml.records import ID_PATTERN, AdFilm, AdMatch, AdsSummary
from trailer_ml.scratch import scratch_folder
from trailer_ml.search.match import look_at
from trailer_ml.search.neighbours import find_neighbours, find_rows_taken_down
from trailer_ml.search.reasons import explain_answer, explain_answers
from trailer_ml.search.report import encode_picture, read_thumbs, render_page
from trailer_ml.shards.schema import encode_jpeg
from trailer_ml.storage import ads_key, encode_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from trailer_ml.media.fetch import Outcome
    from trailer_ml.model.encoder import Encoder
    from trailer_ml.records import IndexManifest, Neighbour
    from trailer_ml.search.match import Seen
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

_STRIP_QUALITY = 85


class Ad(NamedTuple):
    """An advertisement to be matched."""

    name: str
    """Unique in its run, and fit to be an id."""
    source: str


class Look(NamedTuple):
    """What was seen of an ad."""

    match: AdMatch
    strip: tuple[str, ...] = ()
    """Its frames as data URIs."""


def match_ads(sources: Sequence[str], run: str, settings: Settings, store: Store) -> AdsSummary:
    """Rank films for some ads, and write `ads/<run>/matches.jsonl` and `report.html`.

    An ad that cannot be used does not stop the others: its line says why.

    Args:
        sources: addresses or local files.
        run: names the result; a run of the same name is written over.
        settings: how many films each ad gets, and what fetching and looking may cost.
        store: where the index, its model and the pictures are.

    Raises:
        SettingsError: the name of the run is not one, or there is no ad.
        NoIndexError: no index has been published yet.
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
        everything_seen = list(_look_at_ads(ads, folder, encoder, settings))
        taken_down = find_rows_taken_down(index, store)  # now: the downloads may have taken an hour
        looks = []
        for ad, seen in everything_seen:
            if isinstance(seen, MediaError):
                looks.append(Look(AdMatch(ad=ad.name, source=ad.source, problem=seen.reason, detail=str(seen))))
                continue
            features, vector = seen
            films = find_neighbours(
                index,
                vector,
                settings.search.k,
                model_version=encoder.version,
                left_out=taken_down,
                one_per_film=True,
            )
            looks.append(Look(describe_match(ad, films), _encode_frames(features.frames)))
        return write_run(run, looks, index.manifest, store)


def name_ads(sources: Sequence[str]) -> list[Ad]:
    """A name for each, after its file; of equal names all but the first get a number.

    >>> [ad.name for ad in name_ads(["http://127.0.0.1/ads/ad-horror.mp4?x=1", "Ad Horror.mov"])]
    ['ad-horror', 'ad-horror-2']
    """
    ads: dict[str, Ad] = {}
    for source in sources:
        parts = _split(source)
        stem = PurePosixPath((unquote(parts.path) if parts else "") or source).stem
        plain = re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")[:100] or "ad"
        names = itertools.chain([plain], (f"{plain}-{number}" for number in itertools.count(2)))
        name = next(name for name in names if name not in ads)
        ads[name] = Ad(name, source)
    return list(ads.values())


def describe_match(ad: Ad, films: Sequence[Neighbour]) -> AdMatch:
    """The films of one ad, best first, with reasons in words."""
    return AdMatch(
        ad=ad.name,
        source=ad.source,
        films=tuple(AdFilm(best=film, reason=explain_answer(film)) for film in films),
        reason=explain_answers(films),
    )


def write_run(run: str, looks: Sequence[Look], index: IndexManifest, store: Store) -> AdsSummary:
    """Write the lines and the page of a run; the same looks give the same bytes."""
    matches = [look.match for look in looks]
    lines = b"".join(encode_json(match.to_json()) for match in matches)
    page = render_page(
        "ads.html.j2",
        run=run,
        index=index,
        matches=matches,
        matched=[match for match in matches if not match.problem],
        problems=[match for match in matches if match.problem],
        strips={look.match.ad: look.strip for look in looks},
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
        report_key=ads_key(run, "report.html"),
    )
    store.put_bytes(summary.matches_key, lines, "application/jsonl")
    store.put_bytes(summary.report_key, page.encode(), "text/html; charset=utf-8")
    return summary


def fetch_ads(ads: Sequence[Ad], folder: Path, settings: Settings) -> list[Path | MediaError]:
    """A file for each ad: its own where it is one, else what its address gave, or why it gave nothing."""
    addresses = [
        (ad.name, ad.source) for ad in ads if (parts := _split(ad.source)) and parts.scheme in {"http", "https"}
    ]
    outcomes = (
        {outcome.item_id: outcome for outcome in download_videos(addresses, folder, settings)} if addresses else {}
    )
    return [_take(outcomes[ad.name]) if ad.name in outcomes else _find_file(ad) for ad in ads]


def _take(outcome: Outcome) -> Path | MediaError:
    return outcome.path or MediaError(outcome.detail or outcome.reason, reason=outcome.reason)


def _find_file(ad: Ad) -> Path | MediaError:
    if _split(ad.source) is None:
        return MediaError(f"this is no address: {ad.source}", reason="bad_url")
    try:
        if (path := Path(ad.source)).is_file():
            return path
    except OSError as error:  # longer than a path may be, a folder that may not be looked into
        return MediaError(f"{error.strerror}: {ad.source}", reason="not_found")
    return MediaError(f"there is no file {ad.source}", reason="not_found")


def _split(source: str) -> SplitResult | None:
    """The parts of an address or a path; None where it is neither, such as `http://[oops/ad.mp4`."""
    try:
        parts = urlsplit(source)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _look_at_ads(
    ads: Sequence[Ad], folder: Path, encoder: Encoder, settings: Settings
) -> Iterator[tuple[Ad, Seen | MediaError]]:
    files = fetch_ads(ads, folder, settings)
    looks = look_at((file for file in files if isinstance(file, Path)), encoder, settings)
    for ad, file in zip(ads, files, strict=True):
        yield ad, file if isinstance(file, MediaError) else next(looks)


def _encode_frames(frames: NDArray[np.uint8]) -> tuple[str, ...]:
    return tuple(encode_picture(encode_jpeg(frame, _STRIP_QUALITY)) for frame in frames)
