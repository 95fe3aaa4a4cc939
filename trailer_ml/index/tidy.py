"""Deleting indexes that nobody needs any more.

A version is deleted only while the pointer calls it doomed, and no version is published while it does. As the pointer
changes by compare-and-swap alone, an index cannot be published and deleted at the same time.

Does not belong here: what is served, and how long it is kept (see publish.py).
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import TYPE_CHECKING

from trailer_ml.errors import ConflictError
from trailer_ml.index.stored import MANIFEST_FILE, read_pointer
from trailer_ml.storage import CURRENT_INDEX_KEY, index_key

if TYPE_CHECKING:
    from collections.abc import Collection

    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)

_PATIENCE = dt.timedelta(days=1)  # a build takes minutes, and whoever wants to publish one by hand has until tomorrow


def find_unused(store: Store, known: Collection[str]) -> set[str]:
    """Versions that the pointer does not know and that were written more than a day ago: refused, or superseded."""
    written: dict[str, dt.datetime] = {}
    for key in store.list_keys("index/i-"):
        version = key.split("/")[1]
        moment = None if version in known else store.modified_at(key)
        if moment:
            written[version] = max(moment, written.get(version, moment))
    limit = dt.datetime.now(dt.UTC) - _PATIENCE
    return {version for version, moment in written.items() if moment < limit}


def delete_doomed(store: Store) -> None:
    """Delete what the pointer calls doomed, then take it off that list.

    Whoever is killed here, or finds the pointer changed by somebody else at the end, leaves names on the list; the
    next publication does this again.
    """
    seen = read_pointer(store)
    doomed = seen.pointer.doomed if seen else ()
    for version in doomed:
        now = read_pointer(store)
        if now and version in now.pointer.doomed:  # otherwise somebody else was quicker, and it may be back
            _delete(version, store)
    seen = read_pointer(store)
    if doomed and seen:
        left = tuple(version for version in seen.pointer.doomed if version not in doomed)
        try:
            store.swap_pointer(CURRENT_INDEX_KEY, seen.pointer.model_copy(update={"doomed": left}).to_json(), seen.tag)
        except ConflictError:
            logger.info("another index was published meanwhile: its publication takes the list on")


def _delete(version: str, store: Store) -> None:
    """The manifest goes first: from then on the index is not there, and what is left of it is litter."""
    store.delete(index_key(version, MANIFEST_FILE))
    for key in list(store.list_keys(f"index/{version}/")):
        store.delete(key)
    logger.info("index %s is deleted", version)
