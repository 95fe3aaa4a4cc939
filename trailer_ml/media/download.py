"""Downloading a batch into the store: the bytes first, their receipt last, and what failed with its reason.

A trailer is there when its receipt is. Whatever moment this is killed at, the next call goes on after the last receipt.

Does not belong here: how a video is fetched (fetch.py).
"""

from __future__ import annotations

import datetime as dt
import logging
from collections import Counter
from typing import TYPE_CHECKING

from trailer_ml.catalog.listing import read_batch
from trailer_ml.errors import TooManyLossesError
from trailer_ml.media.fetch import Outcome, fetch_each
from trailer_ml.records import DownloadSummary, Quarantine, Receipt
from trailer_ml.scratch import scratch_folder
from trailer_ml.storage import media_key, quarantine_key, receipt_key, sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trailer_ml.records import BatchRef, Trailer
    from trailer_ml.settings import MediaSettings, Settings
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)


def download_batch(batch: BatchRef, settings: Settings, store: Store) -> DownloadSummary:
    """Get the bytes of every trailer of a batch into the store.

    A trailer that is there already, was given up, or still has to wait is left alone. The bytes are stored as they
    came, mp4 or matroska, under a key that ends in mp4: readers go by the bytes.

    Args:
        batch: a planned batch.
        settings: all; `media` is read, and of others what fetch_each reads.
        store: where the batch lies and the bytes go.

    Raises:
        TooManyLossesError: more of it was lost than the settings allow; by then all of it has been recorded. What was
            given up before this run does not count, so that another run goes on without it.
        LocalFaultError: this machine cannot go on; what was stored before stays.
        MissingObjectError: there is no such batch.
    """
    trailers = read_batch(store, batch)
    rejected: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    due: dict[str, Trailer] = {}
    n_reused = n_downloaded = size_bytes = 0
    for trailer in trailers:
        entry = _read_entry(store, trailer.trailer_id)
        if _is_stored(store, trailer.trailer_id):
            n_reused += 1
            if entry:  # an earlier run was killed right after the receipt
                store.delete(quarantine_key("download", trailer.trailer_id))
        elif entry and (entry.is_permanent or not _is_due(entry)):
            (rejected if entry.is_permanent else waiting)[entry.reason] += 1
        else:
            due[trailer.trailer_id] = trailer
    known = rejected.copy()
    if due:
        with scratch_folder("trailer-ml-download-") as folder:
            items = [(trailer_id, trailer.source_url) for trailer_id, trailer in due.items()]
            for outcome in fetch_each(items, folder, settings):
                if outcome.path is not None:
                    n_downloaded += 1
                    size_bytes += _keep(outcome, due[outcome.item_id], store)
                else:
                    entry = _set_aside(outcome, settings.media, store)
                    (rejected if entry.is_permanent else waiting)[entry.reason] += 1
    summary = DownloadSummary(
        batch=batch,
        n_planned=len(trailers),
        n_downloaded=n_downloaded,
        n_reused=n_reused,
        rejected=dict(sorted(rejected.items())),
        waiting=dict(sorted(waiting.items())),
        size_bytes=size_bytes,
    )
    _check_losses(summary, known, settings.media)
    return summary


def download_videos(items: Sequence[tuple[str, str]], folder: Path, settings: Settings) -> list[Outcome]:
    """Fetch videos into a folder, without the store; used for commercials.

    Args:
        items: (id, url).
        folder: gets `<id>.mp4` for each that came.
        settings: as of fetch_each.

    Returns:
        One outcome for each item, in their order.
    """
    return list(fetch_each(items, folder, settings))


def _is_stored(store: Store, trailer_id: str) -> bool:
    receipt = store.read_json_or_none(receipt_key(trailer_id))
    if receipt is None:
        return False
    if store.size_of(media_key(trailer_id)) == receipt["size_bytes"]:
        return True
    logger.warning("%s has a receipt, but not its bytes: it is downloaded again", trailer_id)
    store.delete(receipt_key(trailer_id))
    return False


def _keep(outcome: Outcome, trailer: Trailer, store: Store) -> int:
    """Store bytes and receipt, unless another run just has; the local file goes. Returns the bytes' size."""
    if outcome.path is None or outcome.probe is None:
        raise AssertionError("only what came is kept")
    receipt = Receipt(
        trailer_id=trailer.trailer_id,
        sha256=sha256_of_file(outcome.path),
        size_bytes=outcome.path.stat().st_size,
        duration_s=outcome.probe.duration_s,
        streams=outcome.probe.streams,
        source_url=trailer.source_url,
        downloader=outcome.downloader,
    )
    # Another run may store the same trailer at this moment: bytes that have their receipt are not touched, and a
    # receipt of other bytes does not stay.
    while not _is_stored(store, trailer.trailer_id):
        store.put_file(media_key(trailer.trailer_id), outcome.path)
        store.create_json(receipt_key(trailer.trailer_id), receipt.to_json())
    store.delete(quarantine_key("download", trailer.trailer_id))
    outcome.path.unlink()
    return receipt.size_bytes


def _set_aside(outcome: Outcome, media: MediaSettings, store: Store) -> Quarantine:
    """Record why a trailer is not in; one that had to wait too often is given up."""
    before = _read_entry(store, outcome.item_id)
    attempts = 1 + (before.attempts if before else 0)
    is_permanent = outcome.wait_s is None or attempts >= media.give_up_after
    entry = Quarantine(
        id=outcome.item_id,
        stage="download",
        reason=outcome.reason,
        detail=outcome.detail,
        is_permanent=is_permanent,
        attempts=attempts,
        retry_at=None if is_permanent else _in_seconds(outcome.wait_s or 0.0),
    )
    store.put_json(quarantine_key("download", outcome.item_id), entry.to_json())
    return entry


def _read_entry(store: Store, trailer_id: str) -> Quarantine | None:
    value = store.read_json_or_none(quarantine_key("download", trailer_id))
    return None if value is None else Quarantine.model_validate(value)


def _is_due(entry: Quarantine) -> bool:
    return entry.retry_at is not None and entry.retry_at <= dt.datetime.now(dt.UTC)


def _in_seconds(wait_s: float) -> dt.datetime:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=wait_s)).replace(microsecond=0)


def _check_losses(summary: DownloadSummary, known: Counter[str], media: MediaSettings) -> None:
    lost = Counter(summary.rejected) + Counter(summary.waiting) - known
    n_lost = lost.total()
    if n_lost >= media.min_losses and n_lost > media.max_loss_share * summary.n_planned:
        reasons = ", ".join(f"{reason} {count}" for reason, count in lost.most_common())
        raise TooManyLossesError(
            f"{n_lost} of {summary.n_planned} trailers of {summary.batch.path} did not come ({reasons}); "
            "TRAILER_MEDIA_MAX_LOSS_SHARE says how many are allowed, and another run goes on without those given up"
        )
