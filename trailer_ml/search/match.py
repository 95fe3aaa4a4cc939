"""Which trailers are like a video that was never seen before?

Does not belong here: ranking films for advertisements (see ads.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trailer_ml.errors import MediaError
from trailer_ml.index.rest import take_in_rest
from trailer_ml.index.serve import open_current_index
from trailer_ml.model.registry import load_encoder
from trailer_ml.records import VideoMatch
from trailer_ml.scratch import scratch_folder
from trailer_ml.search.filters import ANY
from trailer_ml.search.footage import fetch_videos, hide_secrets, hide_secrets_in, look_at_all
from trailer_ml.search.neighbours import find_neighbours, find_rows_taken_down

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trailer_ml.search.filters import Filters
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store


def match_videos(
    paths: Sequence[Path | str],
    settings: Settings,
    store: Store,
    k: int | None = None,
    *,
    one_per_film: bool = False,
    wanted: Filters = ANY,
) -> Iterator[VideoMatch]:
    """The trailers nearest to some videos, from the published index and what came since.

    Args:
        paths: of the videos; a text may be an address as well, which is fetched as a trailer is, and not kept.
        settings: how many are returned, and what one video may cost.
        store: where the index and its model are.
        k: how many; None: `search.k`.
        one_per_film: of a film only the best trailer is an answer; it names the others.
        wanted: what an answer has to be.

    Yields:
        The answers for each video that is one, in the order of the paths.

    Raises:
        MediaError: at the end, when all others have been answered for: some were none, and the message says which.
        NoIndexError: no index has been published yet.
    """
    n_asked = settings.search.k if k is None else k
    bad: list[tuple[Path | str, MediaError]] = []
    with (
        open_current_index(store, settings.index.cache_folder) as index,
        scratch_folder("trailer-ml-match-") as folder,
    ):
        encoder = load_encoder(store, index.manifest.model_version, settings.model.cache_folder)
        files = fetch_videos([(f"video-{number}", path) for number, path in enumerate(paths)], folder, settings)
        for path, seen in zip(paths, look_at_all(files, encoder, settings), strict=True):
            if isinstance(seen, MediaError):
                bad.append((path, seen))
                continue
            _, vector = seen
            take_in_rest(index, store)
            taken_down = find_rows_taken_down(index, store)  # now: the look before it may have taken minutes
            found = find_neighbours(
                index,
                vector,
                n_asked,
                model_version=encoder.version,
                left_out=taken_down,
                one_per_film=one_per_film,
                wanted=wanted,
            )
            yield VideoMatch(video=hide_secrets(str(path)), neighbours=tuple(found))
    if bad:
        raise MediaError("; ".join(_explain(path, error) for path, error in bad), reason=bad[0][1].reason)


def _explain(path: Path | str, error: MediaError) -> str:
    source = str(path)
    return f"{hide_secrets(source)}: {hide_secrets_in(str(error), source).removeprefix(f'{Path(path).name}: ')}"
