"""Downloading a batch into the store: the bytes first, their receipt last, and what failed with its reason.

A trailer is there when its receipt is. Whatever moment this is killed at, the next call goes on after the last receipt.

Nothing is given up before the whole batch has been seen. Until then all that failed waits, and what waits counts as
lost in the next run too, so that neither a source's bad hour nor a kill in the middle of it passes for the truth.

Does not belong here: how a video is fetched (fetch.py), and what a failure means (failures.py).
"""

from __future__ import annotations

import datetime as dt
import logging
from collections import Counter
from typing import TYPE_CHECKING

from trailer_ml.catalog.listing import list_batches, read_batch, read_batch_ids
from trailer_ml.catalog.quarantine import put_quarantine
from trailer_ml.catalog.turns import Turns
from trailer_ml.errors import TooManyLossesError
from trailer_ml.media.failures import DOUBTFUL, PATIENT
from trailer_ml.media.fetch import Outcome, fetch_each, local_faults
from trailer_ml.records import DownloadSummary, Quarantine, Receipt
from trailer_ml.scratch import scratch_folder
from trailer_ml.storage import media_key, quarantine_key, receipt_key, sha256_of_file, tombstone_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
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
        TooManyLossesError: more of it was lost than the settings allow. All of that waits to be tried again, and only
            what has failed too often is given up; what was given up before this run does not count.
        LocalFaultError: this machine cannot go on; what was stored before stays.
        MissingObjectError: there is no such batch.
    """
    trailers = read_batch(store, batch)
    rejected: Counter[str] = Counter()
    waiting: dict[str, str] = {}
    due: dict[str, Trailer] = {}
    n_reused = 0
    for trailer in trailers:
        entry = _read_entry(store, trailer.trailer_id)
        if _is_stored(store, trailer.trailer_id):
            n_reused += 1
            if entry:  # an earlier run was killed right after the receipt
                store.delete(quarantine_key("download", trailer.trailer_id))
        elif entry and _is_given_up(entry, settings.media, store):
            rejected[entry.reason] += 1
        elif entry and not _is_due(entry):
            waiting[trailer.trailer_id] = entry.reason
        else:
            due[trailer.trailer_id] = trailer
    sizes, lost = _fetch(due, settings, store)
    waiting |= {entry.id: entry.reason for _, entry in lost}
    if too_many := _find_too_many(batch, waiting, len(trailers), settings.media, store):
        reasons = ", ".join(f"{reason} {count}" for reason, count in too_many.most_common())
        raise TooManyLossesError(
            f"{too_many.total()} of {len(trailers)} trailers of {batch.path} did not come ({reasons}); they wait and "
            "are tried again. TRAILER_MEDIA_MAX_LOSS_SHARE says how many are allowed: raise it to go on without them",
            lost=too_many, n_kept=len(sizes), size_bytes=sum(sizes),
        )  # fmt: skip
    for outcome, entry in lost:
        if _is_final(outcome, entry, settings.media):
            _give_up(entry, store)
            rejected[waiting.pop(entry.id)] += 1
    return DownloadSummary(
        batch=batch,
        n_planned=len(trailers),
        n_downloaded=len(sizes),
        n_reused=n_reused,
        rejected=dict(sorted(rejected.items())),
        waiting=dict(sorted(Counter(waiting.values()).items())),
        size_bytes=sum(sizes),
    )


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


def _fetch(
    due: dict[str, Trailer], settings: Settings, store: Store
) -> tuple[list[int], list[tuple[Outcome, Quarantine]]]:
    """Fetch and store; the sizes of what came, and what did not, which waits from now on."""
    sizes: list[int] = []
    lost: list[tuple[Outcome, Quarantine]] = []
    if due:
        with local_faults(), scratch_folder("trailer-ml-download-") as folder:
            items = [(trailer_id, trailer.source_url) for trailer_id, trailer in due.items()]
            turns = Turns(settings.media.turn_every_s, store)
            for outcome in fetch_each(items, folder, settings, turns):
                if outcome.path is not None:
                    sizes.append(_keep(outcome, due[outcome.item_id], store))
                else:
                    lost.append((outcome, _set_aside(outcome, settings.media, store)))
    return sizes, lost


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
    if store.exists(tombstone_key(trailer.trailer_id)):  # taken down meanwhile: of the two, one sees the other
        store.delete(receipt_key(trailer.trailer_id))
        store.delete(media_key(trailer.trailer_id))
    outcome.path.unlink()
    return receipt.size_bytes


def _set_aside(outcome: Outcome, media: MediaSettings, store: Store) -> Quarantine:
    """Record why a trailer is not in, and that it waits."""
    before = _read_entry(store, outcome.item_id)
    entry = Quarantine(
        id=outcome.item_id,
        stage="download",
        reason=outcome.reason,
        detail=outcome.detail,
        is_permanent=False,
        attempts=(before.attempts if before else 0) + _is_counted(outcome),
        retry_at=_in_seconds(outcome.wait_s or media.retry_later_s),
    )
    put_quarantine(entry, store)
    return entry


def _is_counted(outcome: Outcome) -> bool:
    return outcome.is_asked and outcome.reason not in PATIENT


def _is_final(outcome: Outcome, entry: Quarantine, media: MediaSettings) -> bool:
    """Whether a trailer that failed, in a batch that did well, is given up."""
    if outcome.wait_s is None and outcome.reason not in DOUBTFUL:
        return True
    return _is_counted(outcome) and entry.attempts >= media.give_up_after


def _is_given_up(entry: Quarantine, media: MediaSettings, store: Store) -> bool:
    """Whether an earlier run gave it up, or would have if its batch had not lost too much."""
    if not entry.is_permanent and entry.attempts >= media.give_up_after and entry.reason not in PATIENT:
        if not _is_due(entry):
            return False
        _give_up(entry, store)
        return True
    return entry.is_permanent


def _give_up(entry: Quarantine, store: Store) -> None:
    put_quarantine(entry.model_copy(update={"is_permanent": True, "retry_at": None}), store)


def _read_entry(store: Store, trailer_id: str) -> Quarantine | None:
    value = store.read_json_or_none(quarantine_key("download", trailer_id))
    return None if value is None else Quarantine.model_validate(value)


def _is_due(entry: Quarantine) -> bool:
    return entry.retry_at is not None and entry.retry_at <= dt.datetime.now(dt.UTC)


def _in_seconds(wait_s: float) -> dt.datetime:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=wait_s)).replace(microsecond=0)


def _find_too_many(
    batch: BatchRef, lost: Mapping[str, str], n_planned: int, media: MediaSettings, store: Store
) -> Counter[str]:
    """What was lost (by id and reason), counted by reason; nothing where it is as much as the settings allow.

    What an earlier batch lost already is no news.
    """

    def are_too_many(n_lost: int) -> bool:
        return n_lost >= media.min_losses and n_lost > media.max_loss_share * n_planned

    if not are_too_many(len(lost)):
        return Counter()
    earlier = [other for other in list_batches(store, batch.listed_on) if other.number < batch.number]
    known = {trailer_id for other in earlier for trailer_id in read_batch_ids(store, other)}
    news = Counter(reason for trailer_id, reason in lost.items() if trailer_id not in known)
    return news if are_too_many(news.total()) else Counter()
