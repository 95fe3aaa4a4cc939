"""Indexes: what lies beside one, and what building, verifying or publishing it did."""

from __future__ import annotations

from trailer_ml.records.base import Record, Version


class IndexManifest(Record):
    """What lies beside an index; written last."""

    version: Version
    model_version: Version
    n: int
    dim: int
    video_dim: int
    """The first `video_dim` numbers of a vector are its video part, the rest its audio part."""
    n_trees: int
    seed: int
    search_effort: int
    """Candidates looked at in each of its files when it is asked, in multiples of answers x trees."""
    recall_at_10: float
    """Against exact search."""
    n_queries: int
    index_sha256: str
    more_sha256: tuple[str, ...] = ()
    """Of the files behind the first, where the index was split into several."""
    ids_sha256: str
    n_taken_down: int = 0


class IndexSummary(Record):
    """What a build, a verification or a publication of an index did."""

    version: Version
    model_version: Version
    n: int
    recall_at_10: float
    """As measured by the last who did: at the build, or by whoever verified or published it."""
    is_new: bool
    is_published: bool = False
    reason: str = ""
    is_worse: bool = False
    """It works, and its figures are against serving it: a person may want it all the same."""
    left_out: tuple[str, ...] = ()
    """Keys of embeddings that are damaged, and that it was therefore built without."""
