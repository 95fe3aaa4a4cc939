"""One batch to one shard: records in the order of their ids, and the manifest last.

Two runs may be at one batch (a late twin, a backfill beside the nightly run) and find other media. Records are
therefore written only where nobody has written any since this run began; whose manifest is there first has made the
shard.

A trailer whose bytes are in the store gets a record, or a reason why not; a reason that may lie in this machine (a
crash, no memory, no time) only after another look, alone, when the rest of the batch is done. One that was given up
earlier is named in the manifest with that reason. One that waits to be downloaded again is left out: it comes back in a
batch of its own. One that is taken down meanwhile is left out of the finished shard (purge.py).

Does not belong here: extraction (features), downloading (media).
"""

from __future__ import annotations

import datetime as dt
import logging
from collections import Counter, deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from trailer_ml.catalog.listing import read_batch
from trailer_ml.catalog.quarantine import put_quarantine
from trailer_ml.errors import (
    ConflictError,
    CorruptShardError,
    LocalFaultError,
    MediaError,
    MissingObjectError,
    TooManyLossesError,
    TrailerError,
)
from trailer_ml.features.pool import MAY_PASS, extract_many
from trailer_ml.records import Quarantine, Receipt, Rejected, ShardManifest, ShardSummary
from trailer_ml.scratch import scratch_folder
from trailer_ml.shards.manifests import read_manifest
from trailer_ml.shards.purge import purge_shard
from trailer_ml.shards.schema import SCHEMA_VERSION, encode_jpeg, to_example
from trailer_ml.shards.tfrecord import write_record
from trailer_ml.storage import (
    media_key,
    quarantine_key,
    receipt_key,
    sha256_of_file,
    shard_key,
    shard_manifest_key,
    thumb_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np

    from trailer_ml.features.extract import Features
    from trailer_ml.records import BatchRef, Trailer
    from trailer_ml.settings import FeatureSettings, Settings, ShardSettings
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)

_RETRY_AFTER = dt.timedelta(days=1)
"""Until runs over other days take up a batch that failed; who clears its task need not wait."""
_NOT_IN_THE_BYTES = {"timeout_s", "memory_bytes", "max_pixels", "ffmpeg_path"}


class _Downloaded(NamedTuple):
    trailer: Trailer
    receipt: Receipt


class _Made(NamedTuple):
    """What a trailer becomes: a quarter of a megabyte, of which a batch has few enough to wait for each other."""

    film_id: str
    record: bytes
    thumb: bytes
    is_short: bool
    is_silent: bool
    is_damaged: bool


_Result = _Made | Rejected


def write_shard(batch: BatchRef, settings: Settings, store: Store) -> ShardSummary:
    """Write the shard of a batch, its thumbnails and its manifest; nothing is done where the manifest is there.

    Raises:
        MissingObjectError: there is no such batch, or some of it was neither downloaded nor given up.
        TooManyLossesError: at least `shards.min_losses` of what was downloaded, and more than `shards.max_loss_share`,
            cannot be used; quarantine says why.
        ConflictError: another run is writing this shard; try again.
        CorruptShardError: its manifest is there and damaged.
        LocalFaultError: this machine is in the way: its disk is full, a process cannot be started.
    """
    summary = _make_shard(batch, settings, store)
    # Who takes a trailer down writes its tombstone first and looks for a shard then: one of the two sees the other.
    purge_shard(batch, store)
    manifest = read_manifest(batch, store)
    return _summarise(batch, manifest, is_new=summary.is_new) if manifest else summary


def _make_shard(batch: BatchRef, settings: Settings, store: Store) -> ShardSummary:
    left_over = store.tag_of(shard_key(batch))  # asked before the manifest: where one follows later, this is outdated
    if (done := read_manifest(batch, store)) is not None:
        return _summarise(batch, done, is_new=False)
    downloaded, given_up = _sort_out(batch, store)
    with _local_faults(batch), scratch_folder("trailer-ml-shard-") as folder:
        results = _make_all(downloaded, folder, settings, store)
        _check_losses(batch, results, settings.shards, store)
        _look_again(results, downloaded, folder, settings, store)
        _update_quarantine(results, given_up, store)
        kept = {id_: result for id_, result in results.items() if isinstance(result, _Made)}
        path = folder / "records.tfrecord"
        with path.open("wb") as file:
            for made in kept.values():
                write_record(file, made.record)
        rejected = [*(result for result in results.values() if isinstance(result, Rejected)), *given_up]
        manifest = _describe(batch, path, kept, rejected, settings.features)
        for trailer_id, made in kept.items():
            store.put_bytes(thumb_key(trailer_id), made.thumb, "image/jpeg")
        return _publish(batch, manifest, path, left_over, store)


@contextmanager
def _local_faults(batch: BatchRef) -> Iterator[None]:
    """Where a file cannot be written here, that is said as an error of ours: another try may find room."""
    try:
        yield
    except OSError as error:
        if isinstance(error, TrailerError):
            raise
        raise LocalFaultError(f"the shard of {batch.path} cannot be made on this machine: {error}") from error


def _publish(batch: BatchRef, manifest: ShardManifest, path: Path, left_over: str | None, store: Store) -> ShardSummary:
    """Store records and manifest, one right after the other; where another run was first, its shard counts."""
    if (theirs := read_manifest(batch, store)) is None:
        try:
            store.swap_file(manifest.key, path, left_over)
        except ConflictError:
            if (theirs := read_manifest(batch, store)) is None:
                raise
    if theirs is not None:
        return _summarise(batch, theirs, is_new=False)
    is_new = store.create_json(shard_manifest_key(batch), manifest.to_json())
    if not is_new and store.read_json(shard_manifest_key(batch))["sha256"] != manifest.sha256:
        raise CorruptShardError(
            f"two runs wrote {manifest.key} in the same moment: if `trailer-ml verify` names it, delete its manifest"
        )
    return _summarise(batch, manifest, is_new=is_new)


def _check_losses(batch: BatchRef, results: dict[str, _Result], shards: ShardSettings, store: Store) -> None:
    """Fail a batch that lost too many; nobody of it is given up, for another try may find them well (decision 22)."""
    lost = [result for result in results.values() if isinstance(result, Rejected)]
    if len(lost) >= shards.min_losses and len(lost) > shards.max_loss_share * len(results):
        _put_aside(lost, store, retry_at=dt.datetime.now(dt.UTC) + _RETRY_AFTER)
        reasons = dict(Counter(each.reason for each in lost))
        raise TooManyLossesError(
            f"{len(lost)} of the {len(results)} trailers of {batch.path} cannot be used: {reasons}; "
            "TRAILER_SHARDS_MAX_LOSS_SHARE says how many are allowed",
            lost=reasons,
        )


def _sort_out(batch: BatchRef, store: Store) -> tuple[list[_Downloaded], list[Rejected]]:
    """The trailers of a batch that there are bytes of, and those given up, by id."""
    downloaded, given_up, unknown = [], [], []
    for trailer in sorted(read_batch(store, batch), key=lambda trailer: trailer.trailer_id):
        if receipt := store.read_json_or_none(receipt_key(trailer.trailer_id)):
            downloaded.append(_Downloaded(trailer, Receipt.model_validate(receipt)))
        elif entry := store.read_json_or_none(quarantine_key("download", trailer.trailer_id)):
            quarantine = Quarantine.model_validate(entry)
            if quarantine.is_permanent:
                given_up.append(
                    Rejected(trailer_id=trailer.trailer_id, reason=quarantine.reason, detail=quarantine.detail)
                )
        else:
            unknown.append(trailer.trailer_id)
    if unknown:
        raise MissingObjectError(
            f"{len(unknown)} trailers of {batch.path} were neither downloaded nor given up, the first is {unknown[0]}:"
            " download the batch first"
        )
    return downloaded, given_up


def _make_all(downloaded: list[_Downloaded], folder: Path, settings: Settings, store: Store) -> dict[str, _Result]:
    """A record or a reason for each trailer, by id, in the order of the ids."""
    made = dict(_make_records(downloaded, folder, settings, settings.shards.workers, store))
    return {item.trailer.trailer_id: made[item.trailer.trailer_id] for item in downloaded}


def _look_again(
    results: dict[str, _Result], downloaded: list[_Downloaded], folder: Path, settings: Settings, store: Store
) -> None:
    """What may have been this machine's doing gets another look when the rest is done, with nothing beside it."""
    doubtful = {id_ for id_, result in results.items() if isinstance(result, Rejected) and result.reason in MAY_PASS}
    again = [item for item in downloaded if item.trailer.trailer_id in doubtful]
    if again:
        logger.warning("%d trailers are looked at again, one by one", len(again))
        results.update(_make_records(again, folder, settings, 1, store))


def _make_records(
    downloaded: list[_Downloaded], folder: Path, settings: Settings, workers: int, store: Store
) -> Iterator[tuple[str, _Result]]:
    """By id, a record for each trailer or the reason why not."""
    fetched: deque[_Downloaded] = deque()
    not_fetched: list[Rejected] = []

    def fetch() -> Iterator[Path]:
        for item in downloaded:
            media = folder / f"{item.trailer.trailer_id}.mp4"
            try:
                _fetch_media(item, media, store)
            except MediaError as error:
                not_fetched.append(_lost(item, error))
            else:
                fetched.append(item)
                yield media

    for features in extract_many(fetch(), settings.features, workers):
        item = fetched.popleft()
        trailer_id = item.trailer.trailer_id
        (folder / f"{trailer_id}.mp4").unlink()
        if isinstance(features, MediaError):
            yield trailer_id, _lost(item, features)
        elif error := _refuse(features, settings):
            yield trailer_id, _lost(item, error)
        else:
            yield trailer_id, _make_record(item, features, settings.features)
    for lost in not_fetched:
        yield lost.trailer_id, lost


def _refuse(features: Features, settings: Settings) -> MediaError | None:
    """Why a trailer that can be used is not wanted; None: it is."""
    n_frames, n_wanted = len(features.frames), settings.features.n_frames
    if n_frames < n_wanted and not settings.shards.keep_short:
        return MediaError(f"it ends after {n_frames} of {n_wanted} frames", reason="short")
    if not features.has_audio and not settings.shards.keep_silent:
        return MediaError("there is nothing to be heard", reason="silent")
    return None


def _make_record(item: _Downloaded, features: Features, settings: FeatureSettings) -> _Made:
    return _Made(
        film_id=item.trailer.film_id,
        record=to_example(item.trailer, features, item.receipt, settings),
        thumb=encode_jpeg(choose_thumb(features.frames), settings.jpeg_quality),
        is_short=len(features.frames) < settings.n_frames,
        is_silent=not features.has_audio,
        is_damaged=features.n_damaged > 0,
    )


def choose_thumb(frames: np.ndarray) -> np.ndarray:
    """(n_frames, height, width, 3) uint8, RGB: the frame with the most to see, so that none is black.

    Args:
        frames: at least one.

    Returns:
        (height, width, 3) uint8: the one whose brightness is spread widest, looked at coarsely; the first of equals.
    """
    spread = frames[:, ::8, ::8].mean(axis=3).std(axis=(1, 2))
    chosen: np.ndarray = frames[int(spread.argmax())]
    return chosen


def _fetch_media(item: _Downloaded, path: Path, store: Store) -> None:
    try:
        store.read_file(media_key(item.trailer.trailer_id), path)
    except MissingObjectError as error:
        raise MediaError("its receipt is in the store, its bytes are not", reason="media_missing") from error
    if sha256_of_file(path) != item.receipt.sha256:
        path.unlink()
        raise MediaError("its bytes in the store are not those of its receipt", reason="media_changed")


def _lost(item: _Downloaded, error: MediaError) -> Rejected:
    logger.warning("%s is left out: %s (%s)", item.trailer.trailer_id, error.reason, error)
    return Rejected(trailer_id=item.trailer.trailer_id, reason=error.reason, detail=str(error))


def _put_aside(lost: Iterable[Rejected], store: Store, retry_at: dt.datetime | None) -> None:
    for each in lost:
        entry = Quarantine(
            id=each.trailer_id,
            stage="shard",
            reason=each.reason,
            detail=each.detail,
            is_permanent=retry_at is None,
            retry_at=retry_at,
        )
        put_quarantine(entry, store)


def _update_quarantine(results: dict[str, _Result], given_up: list[Rejected], store: Store) -> None:
    _put_aside((each for each in results.values() if isinstance(each, Rejected)), store, retry_at=None)
    kept = {quarantine_key("shard", id_) for id_, result in results.items() if isinstance(result, _Made)}
    kept |= {quarantine_key("shard", each.trailer_id) for each in given_up}  # the download's word counts
    for key in list(store.list_keys("quarantine/shard/")) if kept else ():
        if key in kept:
            store.delete(key)


def _describe(
    batch: BatchRef, path: Path, kept: dict[str, _Made], rejected: list[Rejected], features: FeatureSettings
) -> ShardManifest:
    return ShardManifest(
        key=shard_key(batch),
        sha256=sha256_of_file(path),
        size_bytes=path.stat().st_size,
        count=len(kept),
        trailer_ids=tuple(kept),
        film_ids=tuple(made.film_id for made in kept.values()),
        short=tuple(id_ for id_, made in kept.items() if made.is_short),
        silent=tuple(id_ for id_, made in kept.items() if made.is_silent),
        damaged=tuple(id_ for id_, made in kept.items() if made.is_damaged),
        rejected=tuple(sorted(rejected, key=lambda each: each.trailer_id)),
        sampler=features.sampler,
        features=features.model_dump(mode="json", exclude=_NOT_IN_THE_BYTES),
        schema_version=SCHEMA_VERSION,
        extractor_version=f"{features.engine}-{features.extractor_version}",
    )


def _summarise(batch: BatchRef, manifest: ShardManifest, *, is_new: bool) -> ShardSummary:
    return ShardSummary(
        batch=batch,
        key=manifest.key,
        count=manifest.count,
        n_short=len(manifest.short),
        n_silent=len(manifest.silent),
        rejected=dict(Counter(rejected.reason for rejected in manifest.rejected)),
        size_bytes=manifest.size_bytes,
        is_new=is_new,
    )
