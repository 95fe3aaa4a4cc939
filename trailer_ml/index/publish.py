"""Which index is served: the nightly swap, and the way back.

The pointer changes by compare-and-swap only: where two runs meet, one of them gets a ConflictError, and its next try
finds how things stand. What has fallen out of the history, and what nobody has wanted for a day, is doomed by the very
swap that publishes another, and deleted after it (see tidy.py).

Does not belong here: building.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from trailer_ml.embeddings.stored import require_champion
from trailer_ml.errors import ConflictError, DataError, NoIndexError
from trailer_ml.index.stored import Pointer, read_manifest, read_pointer, summarise
from trailer_ml.index.tidy import delete_doomed, find_unused
from trailer_ml.index.verify import verify_index
from trailer_ml.storage import CURRENT_INDEX_KEY

if TYPE_CHECKING:
    from trailer_ml.index.stored import Seen
    from trailer_ml.records import IndexManifest, IndexSummary
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)


def publish_index(
    version: str, settings: Settings, store: Store, *, by_hand: bool = False, is_forced: bool = False
) -> IndexSummary:
    """Serve an index from now on, or keep the one that is served and say why.

    It is verified here and now, whoever has verified it before: what was found then may no longer be so.

    Args:
        version: which one.
        settings: how good it has to be, and how many are kept for going back.
        store: where it is.
        by_hand: a person asks for this very version; otherwise one that was gone back from is refused, for the next
            nightly run builds it again from the same shards.
        is_forced: a person wants it although it lost many trailers or finds too few of the true neighbours.

    Returns:
        is_published False where it was refused, with the reason; is_new False where nothing changed.

    Raises:
        NoIndexError: there is no such index.
        NoModelError: no model has been promoted yet.
        DataError: its bytes are not those of its manifest, or it does not work on this machine.
        ConflictError: somebody else published meanwhile; try again.
    """
    manifest = read_manifest(store, version)
    seen = read_pointer(store)
    current = seen.pointer if seen else None
    if current and current.version == version:
        delete_doomed(store)  # what an earlier try was killed over
        served = manifest.model_copy(update={"recall_at_10": current.recall_at_10})
        return summarise(served, is_new=False, is_published=True, reason="it is served already")
    if objection := _find_objection(manifest, current, store, by_hand=by_hand or is_forced):
        return _refuse(manifest, objection)
    loss = _find_loss(manifest, current, settings)
    if loss and not is_forced:
        return _refuse(manifest, loss, is_worse=True)
    verified = verify_index(version, settings, store)
    manifest = manifest.model_copy(update={"recall_at_10": verified.recall_at_10})
    if verified.reason and not is_forced:
        return _refuse(manifest, verified.reason, is_worse=True)
    # Verifying takes minutes, in which there may be another champion.
    if objection := _find_objection(manifest, current, store, by_hand=True):
        return _refuse(manifest, objection)
    overruled = "; ".join(filter(None, (loss, verified.reason)))
    pointer = _point_to(manifest, current, settings.index.keep, store)
    _swap(pointer, seen, store)
    delete_doomed(store)
    return summarise(
        manifest, is_new=True, is_published=True, reason=f"by hand, although {overruled}" if overruled else ""
    )


def rollback_index(settings: Settings, store: Store) -> IndexSummary:
    """Serve the index that was served before, or the newest before it that is still good on this machine.

    The one that is left, and those that are passed over, are deleted once another is published.

    Raises:
        NoIndexError: there is none to go back to, or none of them is good; the message says why.
        ConflictError: somebody else published meanwhile; try again.
    """
    seen = read_pointer(store)
    if seen is None or not seen.pointer.previous:
        raise NoIndexError("there is no earlier index to go back to")
    left = seen.pointer
    bad: dict[str, str] = {}
    for version in left.previous:
        try:
            verified = verify_index(version, settings, store)
        except (DataError, NoIndexError) as error:
            bad[version] = str(error)
        else:
            if not verified.reason:
                break
            bad[version] = verified.reason
        logger.warning("index %s is passed over: %s", version, bad[version])
    else:
        raise NoIndexError(
            f"no earlier index is good: {'; '.join(f'{version}: {why}' for version, why in bad.items())}"
        )
    manifest = read_manifest(store, version).model_copy(update={"recall_at_10": verified.recall_at_10})
    pointer = Pointer(
        version=version,
        model_version=manifest.model_version,
        n=manifest.n,
        recall_at_10=manifest.recall_at_10,
        previous=left.previous[len(bad) + 1 :],
        gone_back_from=tuple(sorted({*left.gone_back_from, left.version, *bad})),
        doomed=left.doomed,
    )
    _swap(pointer, seen, store)
    passed_over = f"; passed over: {', '.join(bad)}" if bad else ""
    return summarise(manifest, is_new=True, is_published=True, reason=f"went back from {left.version}{passed_over}")


def _swap(pointer: Pointer, seen: Seen | None, store: Store) -> None:
    """Serve what a pointer names.

    Where the answer to a swap is lost, boto3 asks again and is refused: then the pointer is ours already.
    """
    try:
        store.swap_pointer(CURRENT_INDEX_KEY, pointer.to_json(), seen.tag if seen else None)
    except ConflictError:
        now = read_pointer(store)
        if now is None or now.pointer != pointer:
            raise


def _refuse(manifest: IndexManifest, reason: str, *, is_worse: bool = False) -> IndexSummary:
    logger.warning("index %s is not published: %s", manifest.version, reason)
    return summarise(manifest, is_new=False, reason=reason, is_worse=is_worse)


def _find_objection(manifest: IndexManifest, current: Pointer | None, store: Store, *, by_hand: bool) -> str:
    """Why an index must not be served, whatever it is worth; empty where nothing is against it."""
    if current and manifest.version in current.doomed:
        return "it is being deleted: build it again when that is done"
    if not by_hand and current and manifest.version in current.gone_back_from:
        return f"it was gone back from: publish it by hand (`trailer-ml index publish {manifest.version}`)"
    champion = require_champion(store)
    if manifest.model_version != champion:
        return f"it holds vectors of model {manifest.model_version}, and the champion is {champion}"
    return ""


def _find_loss(manifest: IndexManifest, current: Pointer | None, settings: Settings) -> str:
    """In words, that it has far fewer trailers than what is served; empty where it has not."""
    shrink = 1 - manifest.n / current.n if current else 0.0
    if current and shrink > settings.index.max_shrink_share:
        return (
            f"it has {manifest.n} trailers where {current.version} has {current.n}:"
            f" {shrink:.0%} fewer, and {settings.index.max_shrink_share:.0%} is allowed"
        )
    return ""


def _point_to(manifest: IndexManifest, current: Pointer | None, keep: int, store: Store) -> Pointer:
    history = [current.version, *current.previous] if current else []
    history = [version for version in history if version != manifest.version]
    left_over = {*current.doomed, *current.gone_back_from} if current else set()
    unused = find_unused(store, {manifest.version, *(current.known if current else ())})
    return Pointer(
        version=manifest.version,
        model_version=manifest.model_version,
        n=manifest.n,
        recall_at_10=manifest.recall_at_10,
        previous=tuple(history[:keep]),
        doomed=tuple(sorted({*left_over, *history[keep:], *unused} - {manifest.version, *history[:keep]})),
    )
