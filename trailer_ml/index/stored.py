"""Indexes as they lie in the store: the manifest that makes one whole, and the pointer that says which one is served.

Does not belong here: Annoy, and any decision about what is served (see publish.py).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import model_validator

from trailer_ml.errors import DataError, NoIndexError
from trailer_ml.records import IndexManifest, IndexSummary, Record, Version
from trailer_ml.storage import CURRENT_INDEX_KEY, Versioned, index_key

if TYPE_CHECKING:
    from trailer_ml.storage import Store

ANNOY_FILE = "index.ann"
IDS_FILE = "ids.json"
BATCHES_FILE = "batches.json"
"""Which batches it was built from: what is not named there is looked for beside it (see rest.py)."""
MANIFEST_FILE = "manifest.json"


def files_of(manifest: IndexManifest) -> dict[str, str]:
    """The files of an index and the hash of each: the vectors in the order of their rows, then the ids."""
    vectors = (manifest.index_sha256, *manifest.more_sha256)
    names = [ANNOY_FILE, *(f"index-{part:02}.ann" for part in range(1, len(vectors)))]
    return dict(zip([*names, IDS_FILE], [*vectors, manifest.ids_sha256], strict=True))


def split_rows(n: int, n_files: int) -> list[range]:
    """Which rows each file of an index holds: runs of the same length, or one less.

    >>> split_rows(7, 3)
    [range(0, 3), range(3, 5), range(5, 7)]
    """
    ends = [0]
    for part in range(n_files):
        ends.append(ends[-1] + n // n_files + (part < n % n_files))
    return [range(*pair) for pair in itertools.pairwise(ends)]


class Pointer(Record):
    """What `index/current.json` holds."""

    version: Version
    model_version: Version
    n: int
    recall_at_10: float
    """As measured by the machine that published it."""
    previous: tuple[Version, ...] = ()
    """Those to go back to, newest first."""
    gone_back_from: tuple[Version, ...] = ()
    """Left by a rollback: published again by hand only, and doomed once another one is published."""
    doomed: tuple[Version, ...] = ()
    """Being deleted: never published while they stand here."""

    @model_validator(mode="before")
    @classmethod
    def _from_old(cls, value: Any) -> Any:
        """Until these were two lists there was one, `retired`, of both kinds."""
        if isinstance(value, dict) and "retired" in value:
            value = dict(value)
            value["gone_back_from"] = value.pop("retired")
        return value

    @property
    def known(self) -> frozenset[str]:
        """Every version it names."""
        return frozenset({self.version, *self.previous, *self.gone_back_from, *self.doomed})


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
        DataError: it is damaged.
    """
    try:
        found = store.read_json_or_none(index_key(version, MANIFEST_FILE))
        if found is None:
            raise NoIndexError(f"there is no index {version}: make one with `trailer-ml index build`")
        return IndexManifest.model_validate(found)
    except ValueError as error:
        raise DataError(explain_damage(version)) from error


def explain_damage(version: str) -> str:
    """What to say of an index whose bytes are not those that were written."""
    return (
        f"index {version} is damaged in the store: go back with `trailer-ml index rollback` if it is served, build it"
        " again with `trailer-ml index build` if not"
    )


def summarise(
    manifest: IndexManifest,
    *,
    is_new: bool,
    is_published: bool = False,
    reason: str = "",
    is_worse: bool = False,
    left_out: tuple[str, ...] = (),
) -> IndexSummary:
    """The summary of what was done with an index."""
    return IndexSummary(
        version=manifest.version,
        model_version=manifest.model_version,
        n=manifest.n,
        recall_at_10=manifest.recall_at_10,
        is_new=is_new,
        is_published=is_published,
        reason=reason,
        is_worse=is_worse,
        left_out=left_out,
    )
