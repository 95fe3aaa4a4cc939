"""Near-duplicates: the same trailer under several ids, recut, re-encoded or re-uploaded.

Does not belong here: deciding which of them to keep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trailer_ml.index.rest import take_in_rest
from trailer_ml.index.serve import open_current_index
from trailer_ml.records import DuplicateEvidence, DuplicateGroup
from trailer_ml.search.evidence import compare_traits, find_traits
from trailer_ml.search.neighbours import find_rows_taken_down
from trailer_ml.search.prints import read_prints
from trailer_ml.vectors import normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from trailer_ml.index.serve import ServedIndex
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

    Pair = tuple[int, int]

NOT_READ = DuplicateEvidence(is_confirmed=False)
"""Of a pair whose frames cannot be read."""
_FIRST_LOOK = 10
_ALWAYS = 5
"""The nearest that are looked at whatever their cosine, for what a copy has is the model's own: of a frozen
EfficientNet-Lite0 0.85 to 0.999, and films that have nothing in common up to 0.989."""
_MOST = 64  # candidates of one trailer: where training has drawn a genre together, thousands are as near as a copy


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
    least = settings.search.duplicate_score if threshold is None else threshold
    with open_current_index(store, settings.index.cache_folder) as index:
        take_in_rest(index, store)
        left_out = find_rows_taken_down(index, store)
        pairs = dict(_find_pairs(index, least, left_out, n_always=_ALWAYS if by_frames else 0))
        evidence: dict[Pair, DuplicateEvidence] = {}
        if by_frames:
            pairs |= _find_pairs_of_films(index, left_out)
            evidence = _look_closer(index, pairs, settings, store)
            pairs = {
                pair: score
                for pair, score in pairs.items()
                if evidence[pair].is_confirmed or (evidence[pair] is NOT_READ and score >= least)
            }
        groups = [_describe(index, links, evidence) for links in _group(pairs)]
    return sorted(groups, key=lambda group: (-group.pairs[0][2], group.trailers[0].trailer_id))


def _find_pairs(
    index: ServedIndex, least: float, left_out: AbstractSet[int], *, n_always: int
) -> Iterator[tuple[Pair, float]]:
    """Pairs of rows, the lower first, whose cosine is at least `least`, or of whom one is among the other's nearest."""
    for row in range(index.n):
        if row in left_out:
            continue
        query = index.vector(row)
        near = index.nearest(query, _FIRST_LOOK, model_version=index.manifest.model_version)
        scores = _cosines(index, row, near)
        if scores[-1] >= least:
            near = index.nearest(query, _MOST, model_version=index.manifest.model_version)
            scores = _cosines(index, row, near)
        others = [
            (other, score) for other, score in zip(near, scores, strict=True) if other != row and other not in left_out
        ]
        for place, (other, score) in enumerate(others):
            if score >= least or place < n_always:
                yield (min(row, other), max(row, other)), score


def _find_pairs_of_films(index: ServedIndex, left_out: AbstractSet[int]) -> dict[Pair, float]:
    pairs: dict[Pair, float] = {}
    for rows in index.rows_of_film.values():
        up = sorted(row for row in rows if row not in left_out)
        for i, row in enumerate(up[:_MOST]):
            others = up[i + 1 : _MOST]
            pairs |= {(row, other): score for other, score in zip(others, _cosines(index, row, others), strict=True)}
    return pairs


def _cosines(index: ServedIndex, row: int, others: list[int]) -> list[float]:
    vectors = normalise(index.vectors_of([row, *others]).astype(np.float64))
    cosines: list[float] = (vectors[1:] @ vectors[0]).tolist()
    return cosines


def _look_closer(
    index: ServedIndex, pairs: Iterable[Pair], settings: Settings, store: Store
) -> dict[Pair, DuplicateEvidence]:
    """What the frames and the sound of each pair say."""
    name = {row: index.trailers[row].trailer_id for pair in pairs for row in pair}
    traits = {trailer_id: find_traits(each) for trailer_id, each in read_prints(name.values(), settings, store).items()}
    evidence = {}
    for pair in pairs:
        one, other = (traits.get(name[row]) for row in pair)
        evidence[pair] = compare_traits(one, other) if one and other else NOT_READ
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
