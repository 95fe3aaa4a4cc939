"""Videos that are not in the catalog: their files, from wherever they are, and what is seen of them.

An address goes the way of every download, with its guard and limits, into a folder of the caller's; nothing is kept.

Does not belong here: what they are compared with.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from trailer_ml.embeddings.embed import embed_features
from trailer_ml.errors import MediaError
from trailer_ml.features.pool import extract_many
from trailer_ml.media.download import download_videos

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from trailer_ml.features.extract import Features
    from trailer_ml.media.fetch import Outcome
    from trailer_ml.model.encoder import Encoder
    from trailer_ml.settings import Settings

    Seen = tuple[Features, NDArray[np.float32]]

_AT_ONCE = 16  # videos embedded at a time


def fetch_videos(items: Sequence[tuple[str, str | Path]], folder: Path, settings: Settings) -> list[Path | MediaError]:
    """A file for each: its own where it is one, else what its address gave, or why it gave nothing.

    Args:
        items: a name that is fit to be an id, and an address or a path; a Path is never taken for an address.
        folder: gets what is downloaded.
        settings: what fetching may cost, and from where it is allowed.
    """
    addresses = [
        (name, source)
        for name, source in items
        if isinstance(source, str) and (parts := split_source(source)) and parts.scheme in {"http", "https"}
    ]
    outcomes = (
        {outcome.item_id: outcome for outcome in download_videos(addresses, folder, settings)} if addresses else {}
    )
    return [_take(outcomes[name]) if name in outcomes else _find_file(source) for name, source in items]


def look_at_all(
    files: Sequence[Path | MediaError], encoder: Encoder, settings: Settings
) -> Iterator[Seen | MediaError]:
    """What is seen of each file, or why there is none or nothing is, in their order."""
    looks = look_at((file for file in files if isinstance(file, Path)), encoder, settings)
    for file in files:
        yield file if isinstance(file, MediaError) else next(looks)


def look_at(paths: Iterable[Path], encoder: Encoder, settings: Settings) -> Iterator[Seen | MediaError]:
    """Features and (dim,) unit vector of each video, or why there are none, in the order of the paths.

    They are looked at as the encoder was trained, whatever the settings say; what one may cost is theirs to say.
    """
    as_trained = settings.features.model_copy(update=encoder.feature_settings.view)
    extracted = extract_many(paths, as_trained, settings.shards.workers)
    while some := list(itertools.islice(extracted, _AT_ONCE)):
        good = [features for features in some if not isinstance(features, MediaError)]
        vectors = iter(embed_features(good, encoder))
        for features in some:
            yield features if isinstance(features, MediaError) else (features, next(vectors))


def split_source(source: str) -> SplitResult | None:
    """The parts of an address or a path; None where it is neither, such as `http://[oops/ad.mp4`."""
    try:
        parts = urlsplit(source)
        _ = parts.port
    except ValueError:
        return None
    return parts


def hide_secrets(source: str) -> str:
    """An address as it may be shown and kept: without name and password, and without what follows its path.

    >>> hide_secrets("https://me:word@example.com/ads/1.mp4?X-Amz-Signature=5#t"), hide_secrets("ads/1.mp4")
    ('https://example.com/ads/1.mp4', 'ads/1.mp4')
    """
    scheme, mark, rest = source.partition("://")
    if not mark:
        return source
    host, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def hide_secrets_in(text: str, source: str) -> str:
    """What is told of a source, every address in it as it may be shown: it may have been sent on to another one.

    >>> hide_secrets_in("no video at http://a/1?key=5, sent to https://b/2?token=7", "http://a/1?key=5")
    'no video at http://a/1, sent to https://b/2'
    """
    text = text.replace(source, hide_secrets(source))
    return re.sub(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>]+", lambda found: hide_secrets(found[0]), text)


def _take(outcome: Outcome) -> Path | MediaError:
    return outcome.path or MediaError(outcome.detail or outcome.reason, reason=outcome.reason)


def _find_file(source: str | Path) -> Path | MediaError:
    if isinstance(source, str) and split_source(source) is None:
        return MediaError(f"this is no address: {source}", reason="bad_url")
    try:
        if (path := Path(source)).is_file():
            return path
    except OSError as error:  # longer than a path may be, a folder that may not be looked into
        return MediaError(f"{error.strerror}: {source}", reason="not_found")
    return MediaError(f"there is no file {source}", reason="not_found")
