"""Indexes as they lie in the store: the manifest that makes one whole, and the pointer that says which one is served.

Does not belong here: Annoy, and any decision about what is served (see publish.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trailer_ml.errors import NoIndexError
from trailer_ml.records import IndexManifest, IndexSummary, Record, Version
from trailer_ml.storage import CURRENT_INDEX_KEY, Versioned, index_key

if TYPE_CHECKING:
    from trailer_ml.storage import Store

ANNOY_FILE = "index.ann"
IDS_FILE = "ids.json"
MANIFEST_FILE = "manifest.json"


class Pointer(Record):
    """What `index/current.json` holds."""

    version: Version
    model_version: Version
    n: int
    recall_at_10: float
    previous: tuple[Version, ...] = ()
    """Those to go back to, newest first."""
    retired: tuple[Version, ...] = ()
    """No longer to go back to; the next publication deletes what is left of them."""


class Seen(NamedTuple):
    """The pointer, and what a swap of it has to name."""

    pointer: Pointer
    tag: Versioned


def read_pointer(store: Store) -> Seen | None:
    """Which index is served; None where none has been published yet."""
    tag = store.read_pointer(CURRENT_INDEX_KEY)
    return Seen(Pointer.model_validate(tag.value), tag) if tag else None


def read_current_manifest(store: Store) -> IndexManifest:
    """The manifest of the index that is served.

    Raises:
        NoIndexError: none has been published.
    """
    seen = read_pointer(store)
    if seen is None:
        raise NoIndexError(
            "no index has been published yet: make one with `trailer-ml index build`, then `trailer-ml index publish`"
        )
    return read_manifest(store, seen.pointer.version)


def read_manifest(store: Store, version: str) -> IndexManifest:
    """The manifest of one index.

    Raises:
        NoIndexError: it was never built, or is gone.
    """
    found = store.read_json_or_none(index_key(version, MANIFEST_FILE))
    if found is None:
        raise NoIndexError(f"there is no index {version}: make one with `trailer-ml index build`")
    return IndexManifest.model_validate(found)


def summarise(manifest: IndexManifest, *, is_new: bool, is_published: bool = False, reason: str = "") -> IndexSummary:
    """The summary of what was done with an index."""
    return IndexSummary(
        version=manifest.version,
        model_version=manifest.model_version,
        n=manifest.n,
        recall_at_10=manifest.recall_at_10,
        is_new=is_new,
        is_published=is_published,
        reason=reason,
    )
