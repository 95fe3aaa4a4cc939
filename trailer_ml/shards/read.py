"""Shards to arrays: from the store to a local cache, and from there to numpy or to tf.data.

Our own training decodes records with Pillow, in threads (`read_look`); `load_dataset` is for training code of somebody
else's. TensorFlow is imported only there.

Does not belong here: splits, labels and batches (model).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trailer_ml.errors import ConflictError, CorruptShardError, MissingObjectError
from trailer_ml.scratch import scratch_folder
from trailer_ml.shards.manifests import read_manifest
from trailer_ml.shards.schema import ShardRecord, feature_spec, from_example, read_trailer_id
from trailer_ml.shards.tfrecord import read_raw_records
from trailer_ml.storage import sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trailer_ml.errors import TrailerError
    from trailer_ml.records import BatchRef, ShardManifest
    from trailer_ml.shards.tfrecord import RawRecord
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)

_BUFFER_BYTES = 4 * 2**20


def cached_shard(
    store: Store, batch: BatchRef, manifest: ShardManifest, cache_folder: Path, max_bad_records: int = 0
) -> Path:
    """A local copy of a shard: fetched and checked once, found again by its name and hash.

    A copy of what the shard was before it was made again goes when the new one comes.

    Args:
        store: where the shard is.
        batch: whose it is.
        manifest: what it should be.
        cache_folder: where copies are kept.
        max_bad_records: of a reader that leaves out so many (`read_records`). If there are any, a shard of the right
            length is let in although its hash is wrong, under a name that nobody finds again.

    Raises:
        CorruptShardError: the bytes in the store are not the manifest's, or there are none.
        ConflictError: that is so because the shard has another manifest by now; try again with that one.
    """
    path = cache_folder / f"{batch.path}.{manifest.sha256[:16]}.tfrecord"
    if path.exists() and path.stat().st_size == manifest.size_bytes:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(".aside-", cache_folder) as folder:
        aside = folder / path.name
        try:
            store.read_file(manifest.key, aside)
        except MissingObjectError as error:
            message = f"{manifest.key}: the manifest is there, the records are not"
            raise _explain(message, store, batch, manifest) from error
        if sha256_of_file(aside) != manifest.sha256:
            wrong = _explain(f"{manifest.key}: its bytes are not those of its manifest", store, batch, manifest)
            is_readable = isinstance(wrong, CorruptShardError) and aside.stat().st_size == manifest.size_bytes
            if not max_bad_records or not is_readable:
                raise wrong
            logger.warning("%s: what is good of them is read", wrong)
            path = path.with_suffix(".damaged.tfrecord")
        aside.replace(path)
    for older in path.parent.glob(f"{batch.number:04d}.*.tfrecord"):
        if older != path:
            older.unlink(missing_ok=True)
    return path


def _explain(message: str, store: Store, batch: BatchRef, manifest: ShardManifest) -> TrailerError:
    """Where a trailer of the shard was taken down while it was read, another try reads the one that is there now."""
    if read_manifest(batch, store) in (None, manifest):
        return CorruptShardError(message)
    return ConflictError(f"{manifest.key}: the shard was changed while it was read")


def read_records(path: Path, max_bad_records: int = 0) -> Iterator[ShardRecord]:
    """The records of a local shard, decoded.

    Args:
        path: as `cached_shard` gives it.
        max_bad_records: so many records that do not parse are left out, and named in the log.

    Raises:
        CorruptShardError: there are more, or the file is damaged so that the rest cannot be found.
    """
    n_bad = 0
    for raw in read_raw_records(path):
        try:
            record = parse_record(raw)
        except CorruptShardError as error:
            n_bad += 1
            message = f"{path.name}: record {raw.number} ({read_trailer_id(raw.data)}): {error}"
            if n_bad > max_bad_records:
                raise CorruptShardError(message) from error
            logger.warning("left out: %s", message)
        else:
            yield record


def parse_record(raw: RawRecord) -> ShardRecord:
    """One record, decoded.

    Raises:
        CorruptShardError: its bytes are damaged, or no record.
    """
    if not raw.is_intact:
        raise CorruptShardError("its bytes do not match their CRC")
    return from_example(raw.data)


def load_dataset(
    paths: Sequence[Path], n_frames: int, image_size: int | None = None, spectrogram_size: int | None = None
) -> Any:
    """The records of local shards as a tf.data.Dataset, in the order of the paths and of the records.

    Args:
        paths: as `cached_shard` gives them.
        n_frames: every element is padded to so many frames, or cut to them.
        image_size: frames are scaled to this; None: as they are.
        spectrogram_size: likewise.

    Returns:
        Elements are dictionaries: `frames` (n_frames, size, size, 3) uint8; `frame_mask` (n_frames,) bool, False where
        it is padding; `spectrogram` (size, size, 3) uint8; `has_audio` () bool; `trailer_id`, `film_id` () string;
        `genres` (any,) string.
    """
    import tensorflow as tf

    spec = feature_spec()

    def parse(data: Any) -> dict[str, Any]:
        fields = tf.io.parse_single_example(data, spec)
        spectrogram = _decode(fields["spectrogram"])
        return {
            "frames": _decode_frames(fields["frames"], n_frames, image_size),
            "frame_mask": tf.range(n_frames) < tf.cast(fields["n_frames"], tf.int32),
            "spectrogram": _scale(spectrogram[None], spectrogram_size)[0],
            "has_audio": tf.cast(fields["has_audio"], tf.bool),
            "trailer_id": fields["trailer_id"],
            "film_id": fields["film_id"],
            "genres": fields["genres"],
        }

    # One file after the other, for the order; the time goes into decoding pictures, which is done in parallel.
    records = tf.data.TFRecordDataset([str(path) for path in paths], buffer_size=_BUFFER_BYTES)
    return records.map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)


def _decode(data: Any) -> Any:
    """(h, w, 3) uint8, the same pixels that Pillow decodes."""
    import tensorflow as tf

    picture = tf.io.decode_image(data, channels=3, expand_animations=False)
    picture.set_shape((None, None, 3))
    return picture


def _decode_frames(jpegs: Any, n_frames: int, size: int | None) -> Any:
    """(n_frames, h, w, 3) uint8; black where there is no frame."""
    import tensorflow as tf

    frames = tf.map_fn(
        lambda jpeg: tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE"),
        jpegs[:n_frames],
        fn_output_signature=tf.TensorSpec((None, None, 3), tf.uint8),
    )
    frames = _scale(frames, size)
    frames = tf.pad(frames, [[0, n_frames - tf.shape(frames)[0]], [0, 0], [0, 0], [0, 0]])
    frames.set_shape((n_frames, size, size, 3))
    return frames


def _scale(pictures: Any, size: int | None) -> Any:
    """(n, h, w, 3) uint8 to (n, size, size, 3) uint8; None: as they are."""
    import tensorflow as tf

    if size is None:
        return pictures
    return tf.cast(tf.round(tf.image.resize(pictures, (size, size), antialias=True)), tf.uint8)
