"""Writing down why a trailer is not in, by the download or the shard that lost it.

Does not belong here: why, and for how long (each stage knows).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trailer_ml.storage import quarantine_key, tombstone_key

if TYPE_CHECKING:
    from trailer_ml.records import Quarantine
    from trailer_ml.storage import Store


def put_quarantine(entry: Quarantine, store: Store) -> bool:
    """Write an entry, over an earlier one of its stage; False where the trailer was taken down: nothing of it stays."""
    key = quarantine_key(entry.stage, entry.id)
    store.put_json(key, entry.to_json())
    if store.exists(tombstone_key(entry.id)):  # meanwhile: of us and of who takes it down, one sees the other
        store.delete(key)
        return False
    return True
