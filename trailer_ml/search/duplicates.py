"""Near-duplicates: the same trailer under several ids, recut, re-encoded or re-uploaded.

Does not belong here: deciding which of them to keep.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from trailer_ml.index.rest import take_in_rest
from trailer_ml.index.serve import open_current_index
from trailer_ml.records import DuplicateEvidence, DuplicateGroup
from trailer_ml.search.candidates import ALWAYS, find_near_pairs, find_pairs_of_films, join_pairs, order_by_place
from trailer_ml.search.evidence import compare_traits, find_traits
from trailer_ml.search.neighbours import find_rows_taken_down
from trailer_ml.search.prints import open_prints
from trailer_ml.search.screen import screen_pairs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trailer_ml.index.serve import ServedIndex
    from trailer_ml.search.candidates import Pairs
    from trailer_ml.search.evidence import Traits
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

    Pair = tuple[int, int]

NOT_READ = DuplicateEvidence(is_confirmed=False)
"""Of a pair whose frames cannot be read."""
_KEPT = 256  # trailers whose numbers are in memory, 110 kB each


def find_duplicates(
    settings: Settings, store: Store, threshold: float | None = None, *, by_frames: bool = True
) -> list[DuplicateGroup]:
    """Groups of trailers that are nearly the same, the closest group first, with what speaks for it.

    Candidates are the trailers of one film, those whose vectors are near, and of each the nearest few; what they show
    decides. Where the frames of one can be read no longer, the cosine stands alone, and its evidence is not confirmed.

    Args:
        settings: the threshold, and where copies are kept on this machine.
        store: where the index is published, and the shards are.
        threshold: the least cosine of a pair of two films; None: `search.duplicate_score`.
        by_frames: False: every pair with that cosine, whatever it shows, without evidence.

    Raises:
        NoIndexError: no index has been published yet.
    """
    with open_current_index(store, settings.index.cache_folder) as index:
        return find_duplicates_in(index, settings, store, threshold, by_frames=by_frames)


def find_duplicates_in(
    index: ServedIndex, settings: Settings, store: Store, threshold: float | None = None, *, by_frames: bool = True
) -> list[DuplicateGroup]:
    """Those of an index that is open. See find_duplicates."""
    least = settings.search.duplicate_score if threshold is None else threshold
    take_in_rest(index, store)
    left_out = find_rows_taken_down(index, store)
    near = find_near_pairs(index, least, left_out, n_always=ALWAYS if by_frames else 0)
    if by_frames:
        pairs = join_pairs(near, find_pairs_of_films(index, left_out))
        evidence = _look_closer(index, pairs, least, settings, store)
    else:
        pairs, evidence = near, {}
    links = {
        pair: score
        for pair, score in zip(map(tuple, pairs.rows.tolist()), pairs.scores.tolist(), strict=True)
        if not by_frames or pair in evidence
    }
    groups = [_describe(index, group, evidence) for group in _group(links)]
    return sorted(groups, key=lambda group: (-group.pairs[0][2], group.trailers[0].trailer_id))


def _look_closer(
    index: ServedIndex, pairs: Pairs, least: float, settings: Settings, store: Store
) -> dict[Pair, DuplicateEvidence]:
    """Of each pair that is the same, or whose frames cannot be read, what the frames and the sound say."""
    order = order_by_place(index, np.unique(pairs.rows))
    place_of = np.zeros(index.n, np.int64)
    place_of[order] = np.arange(len(order))
    places = np.sort(place_of[pairs.rows], axis=1)
    evidence: dict[Pair, DuplicateEvidence] = {}
    with open_prints([index.trailers[row].trailer_id for row in order.tolist()], settings, store) as prints:
        is_read = prints.is_there[places].all(axis=1)
        near = pairs.rows[~is_read & (pairs.scores >= least)]
        evidence |= dict.fromkeys(map(tuple, near.tolist()), NOT_READ)
        passed = np.flatnonzero(is_read)[screen_pairs(places[is_read], prints)]

        @lru_cache(_KEPT)
        def traits(row: int) -> Traits:
            return find_traits(prints.print_of(int(place_of[row])))

        for one, other in pairs.rows[passed].tolist():
            found = compare_traits(traits(one), traits(other))
            if found.is_confirmed:
                evidence[one, other] = found
    return evidence


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


def _describe(
    index: ServedIndex, links: Mapping[Pair, float], evidence: Mapping[Pair, DuplicateEvidence]
) -> DuplicateGroup:
    closest_first = sorted(links.items(), key=lambda link: (-link[1], link[0]))
    return DuplicateGroup(
        trailers=tuple(index.trailers[row] for row in sorted({row for pair in links for row in pair})),
        pairs=tuple(
            (index.trailers[one].trailer_id, index.trailers[other].trailer_id, score)
            for (one, other), score in closest_first
        ),
        evidence=tuple(evidence[pair] for pair, _ in closest_first) if evidence else (),
    )
