"""Whether an index is what its manifest says, on the machine that asks.

Does not belong here: whether it is served (see publish.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trailer_ml.index.recall import measure_recall
from trailer_ml.index.serve import open_index
from trailer_ml.index.stored import read_manifest, summarise

if TYPE_CHECKING:
    from trailer_ml.records import IndexSummary
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store


def verify_index(version: str, settings: Settings, store: Store) -> IndexSummary:
    """Check an index as this machine sees it: its hashes, a self-test of the file, its recall against exact search.

    What is checked are the bytes in the store, not a copy that this machine may have of them: they are copied anew, and
    every copy is tested (selftest.py).

    Args:
        version: which one.
        settings: how many queries, and how good it has to be.
        store: where it is.

    Returns:
        Its recall as measured here; where that is too low, the reason says so.

    Raises:
        NoIndexError: there is no such index.
        DataError: its bytes are not those of its manifest, or the file does not find its own vectors on this machine.
    """
    manifest = read_manifest(store, version)
    with open_index(manifest, store, settings.index.cache_folder, is_copied_anew=True) as index:
        recall = measure_recall(index, settings.index.n_queries)
    measured = manifest.model_copy(update={"recall_at_10": recall.value})
    bar = settings.index.min_recall_at_10
    reason = "" if recall.value >= bar else f"its recall@10 is {recall.value:.4f}, below the {bar:.2f} asked for"
    return summarise(measured, is_new=False, reason=reason)
