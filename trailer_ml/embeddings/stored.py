"""Vectors as they lie in the store: one `.npz` a shard, its manifest last, read back with the hash checked.

Does not belong here: making vectors (see embed.py). No model is loaded, so the index can be built from this alone.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trailer_ml.errors import DataError, MissingObjectError, NoModelError
from trailer_ml.records import BatchRef, EmbeddedTrailer, EmbeddingsManifest
from trailer_ml.storage import CHAMPION_KEY, CURRENT_INDEX_KEY, embeddings_key, embeddings_manifest_key, sha256_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trailer_ml.storage import Store

    Vectors = NDArray[np.float32]

# What zipfile and numpy make of an archive with one bit changed, depending on which.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, ValueError, LookupError, OSError, EOFError, RuntimeError)


class Embedded(NamedTuple):
    """A manifest, and the hash of its own bytes: the name of all it says."""

    manifest: EmbeddingsManifest
    sha256: str


def find_champion(store: Store) -> str | None:
    """The model whose vectors count; None where none has been promoted yet."""
    pointer = store.read_pointer(CHAMPION_KEY)
    return str(pointer.value["version"]) if pointer else None


def require_champion(store: Store) -> str:
    """The model whose vectors count.

    Raises:
        NoModelError: none has been promoted yet.
    """
    champion = find_champion(store)
    if champion is None:
        raise NoModelError(
            "no model has been promoted yet: make one with `trailer-ml train`, then `trailer-ml promote`"
        )
    return champion


def find_served_model(store: Store) -> str | None:
    """The model of the index that is served; None where none has been published yet."""
    pointer = store.read_pointer(CURRENT_INDEX_KEY)
    return str(pointer.value["model_version"]) if pointer else None


def list_embedded(store: Store, model_version: str) -> list[BatchRef]:
    """The batches whose vectors by this model are in the store."""
    prefix = f"embeddings/{model_version}/"
    return [BatchRef.from_path(key.removeprefix(prefix)) for key in store.list_keys(prefix) if key.endswith(".json")]


def read_embedded(store: Store, model_version: str, batch: BatchRef) -> Embedded:
    """What is known of the vectors of one batch.

    Raises:
        MissingObjectError: there are none.
        DataError: their manifest is damaged.
    """
    key = embeddings_manifest_key(model_version, batch)
    data = store.read_bytes(key)
    try:
        return Embedded(EmbeddingsManifest.model_validate(json.loads(data)), sha256_of(data))
    except ValueError as error:
        raise DataError(f"{key} is damaged: `trailer-ml embed` makes it again") from error


def is_whole(store: Store, manifest: EmbeddingsManifest) -> bool:
    """Whether the vectors that a manifest speaks of are there as it says."""
    try:
        return sha256_of(store.read_bytes(manifest.key)) == manifest.sha256
    except MissingObjectError:
        return False


def read_vectors(store: Store, manifest: EmbeddingsManifest) -> Vectors:
    """The vectors that a manifest speaks of, (n, dim) float32 unit rows.

    Raises:
        DataError: the bytes are not the ones the manifest was written for, or gone.
    """
    try:
        data = store.read_bytes(manifest.key)
    except MissingObjectError as error:
        raise DataError(f"{manifest.key} is gone: `trailer-ml embed` makes it again") from error
    if sha256_of(data) != manifest.sha256:
        raise DataError(f"{manifest.key} is damaged: `trailer-ml embed` makes it again")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        vectors: Vectors = arrays["vectors"]
    return vectors


def write_vectors(
    store: Store,
    batch: BatchRef,
    vectors: Vectors,
    trailers: Sequence[EmbeddedTrailer],
    *,
    model_version: str,
    video_dim: int,
    shard_sha256: str,
) -> None:
    """Put the vectors of one batch into the store, their manifest last.

    Vectors that an earlier try made from the same shard are kept, and the manifest is written for them: floating-point
    sums may differ in the last bit from run to run. Those of a shard that was made again since, and damaged ones, are
    replaced; until their manifest is replaced as well it does not fit them, so a kill in between leaves a batch that is
    to be embedded.

    Args:
        store: where to.
        batch: whose vectors they are.
        vectors: (n, dim) float32, unit rows.
        trailers: (n) what they are vectors of.
        model_version: the model that made them.
        video_dim: the first `video_dim` numbers of a vector are its video part.
        shard_sha256: hash of the shard they were made from.
    """
    key = embeddings_key(model_version, batch)
    trailer_ids = [trailer.trailer_id for trailer in trailers]
    data = _encode(vectors, trailer_ids, shard_sha256)
    if not store.create_bytes(key, data):
        kept = store.read_bytes(key)
        if _source_of(kept) == (shard_sha256, trailer_ids):
            data = kept
        else:
            store.put_bytes(key, data)
    manifest = EmbeddingsManifest(
        key=key,
        sha256=sha256_of(data),
        model_version=model_version,
        dim=vectors.shape[1],
        video_dim=video_dim,
        shard_sha256=shard_sha256,
        trailers=tuple(trailers),
    )
    store.put_json(embeddings_manifest_key(model_version, batch), manifest.to_json())


def _encode(vectors: Vectors, trailer_ids: Sequence[str], shard_sha256: str) -> bytes:
    """The bytes depend on the values only: numpy gives every member of the archive the date 1980-01-01."""
    file = io.BytesIO()
    np.savez(file, vectors=vectors, ids=np.array(trailer_ids, dtype=np.str_), shard=np.array(shard_sha256))
    return file.getvalue()


def _source_of(data: bytes) -> tuple[str, list[str]] | None:
    """The shard that vectors were made from, and the trailers they are of; None where they are damaged."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            _ = arrays["vectors"]  # read for the sake of its checksum
            return str(arrays["shard"]), arrays["ids"].tolist()
    except _UNREADABLE:
        return None
