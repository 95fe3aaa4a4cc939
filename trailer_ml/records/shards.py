"""Shards: what lies beside one, and what making and checking them did."""

from __future__ import annotations

from typing import Any

from trailer_ml.records.base import FilmId, Record, TrailerId
from trailer_ml.records.catalog import BatchRef


class Rejected(Record):
    """A trailer that a shard leaves out."""

    trailer_id: TrailerId
    reason: str
    detail: str = ""


class ShardManifest(Record):
    """What lies beside a shard; written last, so where it is, the shard is whole."""

    key: str
    sha256: str
    size_bytes: int
    count: int
    trailer_ids: tuple[TrailerId, ...]
    """In the order of the records."""
    film_ids: tuple[FilmId, ...]
    short: tuple[TrailerId, ...] = ()
    """Those of them with fewer frames than asked for, because they end before."""
    silent: tuple[TrailerId, ...] = ()
    """Those of them without sound, or with nothing to be heard."""
    damaged: tuple[TrailerId, ...] = ()
    """Those of them whose picture has damage beside the frames that were kept."""
    rejected: tuple[Rejected, ...] = ()
    sampler: str
    features: dict[str, Any]
    """The feature settings that made it."""
    schema_version: int
    extractor_version: str


class ShardSummary(Record):
    """What making one shard did."""

    batch: BatchRef
    key: str
    count: int
    n_short: int = 0
    n_silent: int = 0
    rejected: dict[str, int] = {}
    size_bytes: int
    is_new: bool


class BadShard(Record):
    """A shard that is not what its manifest says."""

    key: str
    problems: tuple[str, ...]


class VerifySummary(Record):
    """What reading every shard again found."""

    n_shards: int
    n_records: int
    bad: tuple[BadShard, ...] = ()
