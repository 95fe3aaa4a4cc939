"""Near-duplicates: the same trailer under several ids, recut, re-encoded or re-uploaded.

Does not belong here: deciding which of them to keep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trailer_ml.index.serve import open_current_index
from trailer_ml.records import DuplicateGroup
from trailer_ml.search.neighbours import find_rows_taken_down
from trailer_ml.vectors import normalise

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from trailer_ml.index.serve import ServedIndex
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

    Pair = tuple[int, int]

_FIRST_LOOK = 10


def find_duplicates(settings: Settings, store: Store, threshold: float | None = None) -> list[DuplicateGroup]:
    """Groups of trailers of the published index that are nearly the same, the closest group first.

    Args:
        settings: the threshold, and where the index is kept on this machine.
        store: where the index is published.
        threshold: the least cosine of a pair; None: `search.duplicate_score`.

    Raises:
        NoIndexError: no index has been published yet.
    """
    least = settings.search.duplicate_score if threshold is None else threshold
    with open_current_index(store, settings.index.cache_folder) as index:
        pairs = dict(_find_pairs(index, least, find_rows_taken_down(index, store)))
        groups = [_describe(index, links) for links in _group(pairs)]
    return sorted(groups, key=lambda group: (-group.pairs[0][2], group.trailers[0].trailer_id))


def _find_pairs(index: ServedIndex, least: float, left_out: AbstractSet[int]) -> Iterator[tuple[Pair, float]]:
    """Every pair of rows, the lower first, whose cosine is at least `least`."""
    vectors = normalise(index.vectors())
    for row in range(len(vectors)):
        if row in left_out:
            continue
        n = _FIRST_LOOK
        while True:
            near = index.nearest(vectors[row], n, model_version=index.manifest.model_version)
            scores = vectors[near].astype(np.float64) @ vectors[row].astype(np.float64)
            if n >= len(vectors) or scores[-1] < least:
                break
            n *= 4
        for other, score in zip(near, scores.tolist(), strict=True):
            if score >= least and other != row and other not in left_out:
                yield (min(row, other), max(row, other)), score


def _group(pairs: Mapping[Pair, float]) -> list[dict[Pair, float]]:
    """The pairs, those together that share a row, directly or through others."""
    parent: dict[int, int] = {}

    def find(row: int) -> int:
        root = row
        while parent.setdefault(root, root) != root:
            root = parent[root]
        while parent[row] != root:
            parent[row], row = root, parent[row]
        return root

    for one, other in pairs:
        parent[find(one)] = find(other)
    groups: dict[int, dict[Pair, float]] = {}
    for pair, score in pairs.items():
        groups.setdefault(find(pair[0]), {})[pair] = score
    return list(groups.values())


def _describe(index: ServedIndex, links: Mapping[Pair, float]) -> DuplicateGroup:
    closest_first = sorted(links.items(), key=lambda link: (-link[1], link[0]))
    return DuplicateGroup(
        trailers=tuple(index.trailers[row] for row in sorted({row for pair in links for row in pair})),
        pairs=tuple(
            (index.trailers[one].trailer_id, index.trailers[other].trailer_id, score)
            for (one, other), score in closest_first
        ),
    )
