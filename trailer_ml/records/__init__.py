"""The facts that cross a border between two stages: small, frozen, JSON-able; one module for the facts of each room.

What a task returns to Airflow is one of these as a dictionary (`record.to_json()`), a few hundred bytes. Arrays, bytes
and long lists never are: they go to the store, and a record names the key. Everybody imports them from here.

Does not belong here: anything that reads, writes or computes.
"""

from trailer_ml.records.base import ID_PATTERN, FilmId, Record, TrailerId, Version
from trailer_ml.records.catalog import (
    BatchRef,
    Blocked,
    CatalogSummary,
    Doubtful,
    HostTurns,
    Interval,
    Quarantine,
    Retried,
    SourceTerms,
    Stage,
    Trailer,
)
from trailer_ml.records.doctor import Check
from trailer_ml.records.embeddings import EmbedChunk, EmbeddedTrailer, EmbeddingsManifest, EmbedSummary
from trailer_ml.records.index import IndexManifest, IndexSummary
from trailer_ml.records.media import DownloadSummary, Receipt, Stream
from trailer_ml.records.model import CopyFigures, DatasetRef, Estimate, Evaluation, PhaseSummary, Promotion
from trailer_ml.records.search import (
    AdFilm,
    AdMatch,
    AdsSummary,
    DuplicateEvidence,
    DuplicateGroup,
    FilmAds,
    FramePair,
    Neighbour,
    PlacedAd,
    State,
    Status,
    Takedown,
    VideoMatch,
)
from trailer_ml.records.shards import BadShard, Rejected, ShardManifest, ShardSummary, VerifySummary
