"""Vectors: which shards are embedded together, what came of it, and what lies beside the vectors of one."""

from __future__ import annotations

from trailer_ml.records.base import FilmId, Record, TrailerId, Version
from trailer_ml.records.catalog import BatchRef
from trailer_ml.records.shards import BadShard


class EmbedChunk(Record):
    """Some shards for one task to embed with one model."""

    model_version: Version
    batches: tuple[BatchRef, ...]


class EmbedSummary(Record):
    """What embedding one chunk did."""

    model_version: Version
    n_shards: int
    """Embedded in this call."""
    n_trailers: int
    bad: tuple[BadShard, ...] = ()
    """Left out: they are not what their manifests say."""


class EmbeddedTrailer(Record):
    """What an answer says about a trailer, kept beside its vector so that search never opens a shard."""

    trailer_id: TrailerId
    film_id: FilmId
    title: str
    kind: str = "trailer"
    genres: tuple[str, ...] = ()
    year: int | None = None


class EmbeddingsManifest(Record):
    """What lies beside the vectors of one shard; written last."""

    key: str
    sha256: str
    model_version: Version
    dim: int
    video_dim: int
    """The first `video_dim` numbers of a vector are its video part, the rest its audio part."""
    shard_sha256: str
    trailers: tuple[EmbeddedTrailer, ...]
    """In the order of the vectors."""
