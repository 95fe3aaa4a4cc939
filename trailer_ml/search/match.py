"""Which trailers are like a video that was never seen before?

Does not belong here: ranking films for advertisements (see ads.py).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from trailer_ml.embeddings.embed import embed_features
from trailer_ml.errors import MediaError
from trailer_ml.features.pool import extract_many
from trailer_ml.index.serve import open_current_index
from trailer_ml.model.registry import load_encoder
from trailer_ml.records import VideoMatch
from trailer_ml.search.neighbours import find_neighbours, find_rows_taken_down

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from trailer_ml.features.extract import Features
    from trailer_ml.model.encoder import Encoder
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

    Seen = tuple[Features, NDArray[np.float32]]

_AT_ONCE = 16  # videos embedded at a time


def match_videos(paths: Sequence[Path], settings: Settings, store: Store, k: int | None = None) -> Iterator[VideoMatch]:
    """The trailers nearest to some videos, from the published index.

    Args:
        paths: of the videos.
        settings: how many are returned, and what one video may cost.
        store: where the index and its model are.
        k: how many; None: `search.k`.

    Yields:
        The answers for each video that is one, in the order of the paths.

    Raises:
        MediaError: at the end, when all others have been answered for: some were none, and the message says which.
        NoIndexError: no index has been published yet.
    """
    n_asked = settings.search.k if k is None else k
    bad: list[tuple[Path, MediaError]] = []
    with open_current_index(store, settings.index.cache_folder) as index:
        encoder = load_encoder(store, index.manifest.model_version, settings.model.cache_folder)
        for path, seen in zip(paths, look_at(paths, encoder, settings), strict=True):
            if isinstance(seen, MediaError):
                bad.append((path, seen))
                continue
            _, vector = seen
            taken_down = find_rows_taken_down(index, store)  # now: the look before it may have taken minutes
            found = find_neighbours(index, vector, n_asked, model_version=encoder.version, left_out=taken_down)
            yield VideoMatch(video=str(path), neighbours=tuple(found))
    if bad:
        raise MediaError(
            "; ".join(f"{path}: {str(error).removeprefix(f'{path.name}: ')}" for path, error in bad),
            reason=bad[0][1].reason,
        )


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
