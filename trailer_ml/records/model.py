"""Models: what one is trained on, how its training ended, its figures, and whether it is in use."""

from __future__ import annotations

from trailer_ml.records.base import Record, Version


class DatasetRef(Record):
    """A fixed set of shards, split by film, that one model is trained on. Its version names the model too."""

    version: Version
    key: str
    n_trailers: int
    n_films: int
    genres: tuple[str, ...]


class PhaseSummary(Record):
    """How a phase of training ended."""

    version: Version
    phase: str
    epochs: int
    loss: float
    seconds: float
    is_new: bool
    """False: a finished phase was found and nothing was trained."""


class Estimate(Record):
    """A mean, and its 95 % interval by a bootstrap over films; none where there are fewer than two."""

    value: float
    low: float | None = None
    high: float | None = None


class CopyFigures(Record):
    """How well changed copies of held-out trailers find their originals among all trailers."""

    n: int
    """Copies."""
    recall_at_1: Estimate
    map: Estimate
    """With one right answer: the mean of 1 over its rank."""


class Evaluation(Record):
    """Retrieval on held-out films, beside what it must beat."""

    version: Version
    n_queries: int
    k: int
    map_at_k: float
    map_interval: tuple[float, float] | None = None
    """95 %, by a bootstrap over films."""
    untrained_map_at_k: float
    mean_pooled_map_at_k: float | None = None
    """Of the frozen backbone's vectors, averaged over the frames: pictures only."""
    chance_map_at_k: float
    recall_at_k: float
    precision_at_k: float
    ndcg_at_k: float = 0.0
    per_genre: dict[str, float] = {}
    copies: CopyFigures | None = None
    """Near-duplicates; None: not measured, for no bytes of held-out trailers are kept."""
    champion: Version | None = None
    champion_map_at_k: float | None = None
    champion_gain: Estimate | None = None
    """How far above the champion's mAP on the same queries."""
    champion_copies: CopyFigures | None = None
    champion_copies_gain: Estimate | None = None
    """How far above the champion's recall@1 on the same copies."""


class Promotion(Record):
    """Whether a model became the champion, and why."""

    version: Version
    is_promoted: bool
    champion: Version | None
    reason: str
    is_worse: bool = False
    """Its figures alone are against it: a person may want it all the same."""
