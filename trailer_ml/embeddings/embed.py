"""One vector a trailer, by the champion, shard by shard; by the model of the served index too, while that is another.

Vectors of one model lie apart from those of another: a new champion starts its own and leaves the old ones in place.

Does not belong here: training, and how vectors are kept (see stored.py).
"""

from __future__ import annotations

import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, cast

import numpy as np

from trailer_ml.catalog.listing import read_trailers
from trailer_ml.embeddings.stored import find_served_model, is_whole, read_embedded, require_champion, write_vectors
from trailer_ml.errors import CorruptShardError, DataError, MissingObjectError, ModelMismatchError, NoModelError
from trailer_ml.model.card import read_card
from trailer_ml.model.examples import stack
from trailer_ml.model.registry import load_encoder
from trailer_ml.records import BadShard, EmbedChunk, EmbeddedTrailer, EmbedSummary, ShardManifest
from trailer_ml.scratch import scratch_folder
from trailer_ml.shards.manifests import is_of_view, list_shards, read_manifest
from trailer_ml.shards.read import cached_shard, read_records
from trailer_ml.storage import sha256_of_file, shard_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from trailer_ml.features.extract import Features
    from trailer_ml.model.encoder import Encoder
    from trailer_ml.records import BatchRef
    from trailer_ml.settings import Settings
    from trailer_ml.shards.schema import ShardRecord
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)

_AT_ONCE = 16  # trailers decoded at a time: ten frames of 224 x 224 and a spectrogram are 1.7 MB
_READERS = 8  # vectors checked at once; the way to the store is most of the time


def plan_embeddings(settings: Settings, store: Store) -> list[EmbedChunk]:
    """The shards that are not embedded as they are now, in chunks of `index.shards_per_task`; maybe none.

    First what the champion lacks. Behind it, from a promotion until an index of the champion is served, what the model
    of the served index lacks: by that one's vectors answers find what is new, and the wait has no end where an index
    is refused or gone back to.

    Shards whose trailers were looked at in another way than a model's were are no input for it, and stay out.
    Vectors that are damaged in the store count as missing, and so are made again.

    Raises:
        NoModelError: no model has been promoted yet.
    """
    champion, served, shards = require_champion(store), find_served_model(store), list_shards(store)
    plan = list(_plan_of_model(champion, shards, settings, store))
    if served and served != champion:
        try:
            plan += _plan_of_model(served, shards, settings, store)
        except (NoModelError, ModelMismatchError) as error:  # gone, or of an older version of this software
            logger.warning("new trailers are not found until an index of %s is served: %s", champion, error)
    return plan


def _plan_of_model(
    model_version: str, shards: Sequence[tuple[BatchRef, ShardManifest]], settings: Settings, store: Store
) -> Iterator[EmbedChunk]:
    view = read_card(model_version, store).features.view
    seen_alike = [(batch, shard) for batch, shard in shards if is_of_view(shard, view)]
    if n_other := len(shards) - len(seen_alike):
        logger.warning(
            "%d shards were made with other TRAILER_FEATURES_ settings than %s: left out", n_other, model_version
        )
    with ThreadPoolExecutor(_READERS) as readers:
        is_done = readers.map(lambda each: _is_embedded(each[0], each[1], model_version, store), seen_alike)
    missing = [batch for (batch, _), done in zip(seen_alike, is_done, strict=True) if not done]
    size = settings.index.shards_per_task
    for start in range(0, len(missing), size):
        yield EmbedChunk(model_version=model_version, batches=tuple(missing[start : start + size]))


def embed_shards(chunk: EmbedChunk, settings: Settings, store: Store) -> EmbedSummary:
    """Embed some shards, each with its manifest last; what was embedded from the very same shard is left as it is.

    A bad shard stops no other: nothing is written for it, and the summary names it. What was embedded from an earlier
    making of it stays.

    Args:
        chunk: which shards, and by which model.
        settings: how many bad records a shard may have.
        store: where shards, model and vectors are.

    Raises:
        NoModelError: there is no such model.
    """
    bad: list[BadShard] = []
    missing = list(_read_missing(chunk, bad, store))
    if not missing:
        return EmbedSummary(model_version=chunk.model_version, n_shards=0, n_trailers=0, bad=tuple(bad))
    encoder = load_encoder(store, chunk.model_version, settings.model.cache_folder)
    n_shards, n_trailers = 0, 0
    for batch, shard in missing:
        try:
            n_trailers += _embed_shard(batch, shard, encoder, settings, store)
            n_shards += 1
        except CorruptShardError as error:
            logger.info("%s is bad and left out: %s", batch.path, error)
            bad.append(BadShard(key=shard.key, problems=(str(error),)))
    return EmbedSummary(model_version=chunk.model_version, n_shards=n_shards, n_trailers=n_trailers, bad=tuple(bad))


def embed_features(features: Sequence[Features] | Sequence[ShardRecord], encoder: Encoder) -> NDArray[np.float32]:
    """Vectors of some trailers.

    Args:
        features: n of them, sampled as the encoder's `feature_settings` say.
        encoder: the model.

    Returns:
        (n, dim) float32, unit rows.
    """
    dim = encoder.video_dim + encoder.audio_dim
    if not features:
        return np.empty((0, dim), dtype=np.float32)
    records = cast("Sequence[ShardRecord]", features)  # frames, spectrogram and has_audio are the same in both
    return encoder.embed(*stack(records, encoder.feature_settings.n_frames))


def _read_missing(chunk: EmbedChunk, bad: list[BadShard], store: Store) -> Iterator[tuple[BatchRef, ShardManifest]]:
    """The shards of a chunk that are to be embedded; those whose manifest is gone or damaged are added to `bad`."""
    for batch in chunk.batches:
        try:
            shard = read_manifest(batch, store)
        except CorruptShardError as error:
            bad.append(BadShard(key=shard_key(batch), problems=(str(error),)))
            continue
        if shard is None:
            bad.append(BadShard(key=shard_key(batch), problems=("its manifest has gone since this was planned",)))
        elif not _is_embedded(batch, shard, chunk.model_version, store):
            yield batch, shard


def _is_embedded(batch: BatchRef, shard: ShardManifest, model_version: str, store: Store) -> bool:
    """Whether the vectors of this very shard are there and whole."""
    try:
        manifest = read_embedded(store, model_version, batch).manifest
    except (MissingObjectError, DataError):
        return False
    return manifest.shard_sha256 == shard.sha256 and is_whole(store, manifest)


def _embed_shard(batch: BatchRef, shard: ShardManifest, encoder: Encoder, settings: Settings, store: Store) -> int:
    kinds = {trailer.trailer_id: trailer.kind for trailer in read_trailers(store, batch.listed_on)}
    vectors = [embed_features([], encoder)]
    trailers: list[EmbeddedTrailer] = []
    with scratch_folder("trailer-ml-embed-") as folder:
        n_bad = settings.shards.max_bad_records
        path = cached_shard(store, batch, shard, folder, n_bad)
        # What was read, damage and all: once the shard is mended, its vectors are made again.
        sha256 = sha256_of_file(path) if n_bad else shard.sha256
        records = read_records(path, n_bad)
        while some := list(itertools.islice(records, _AT_ONCE)):
            vectors.append(embed_features(some, encoder))
            trailers += [_describe(record, kinds.get(record.trailer_id, "trailer")) for record in some]
    write_vectors(
        store,
        batch,
        np.concatenate(vectors),
        trailers,
        model_version=encoder.version,
        video_dim=encoder.video_dim,
        shard_sha256=sha256,
    )
    logger.info("%s: %d trailers embedded by %s", batch.path, len(trailers), encoder.version)
    return len(trailers)


def _describe(record: ShardRecord, kind: str) -> EmbeddedTrailer:
    return EmbeddedTrailer(
        trailer_id=record.trailer_id,
        film_id=record.film_id,
        title=record.title,
        kind=kind,
        genres=record.genres,
        year=record.year,
    )
