"""What the store says of its shards: the manifest beside each.

One that is damaged costs its shard and no other: whoever lists shards goes on without it, and `trailer-ml verify` names
it.

Does not belong here: the records (read.py), which status and index never touch.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from trailer_ml.errors import CorruptShardError, MissingObjectError
from trailer_ml.records import BadShard, BatchRef, ShardManifest
from trailer_ml.storage import shard_manifest_key

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)

_READERS = 8
_BEFORE_THERE_WAS_A_CHOICE = {"spectrogram": "showspectrumpic"}
"""What a manifest means that does not name such a setting."""


def list_shards(
    store: Store, listed_on: dt.date | None = None, bad: list[BadShard] | None = None
) -> list[tuple[BatchRef, ShardManifest]]:
    """Every shard that is done, in order; of one day, or of all.

    Args:
        store: where they are.
        listed_on: the day.
        bad: those whose manifest is damaged are added to it; the log names them in any case.
    """
    prefix = "shards/listed=" + (f"{listed_on.isoformat()}/" if listed_on else "")
    batches = [
        BatchRef.from_path(key.removeprefix("shards/")) for key in store.list_keys(prefix) if key.endswith(".json")
    ]

    def read(batch: BatchRef) -> ShardManifest | BadShard | None:
        try:
            return read_manifest(batch, store)
        except CorruptShardError as error:
            logger.warning("left out: %s", error)
            return BadShard(key=shard_manifest_key(batch), problems=(str(error),))

    with ThreadPoolExecutor(_READERS) as readers:
        found = list(zip(batches, readers.map(read, batches), strict=True))
    if bad is not None:
        bad.extend(each for _, each in found if isinstance(each, BadShard))
    return [(batch, each) for batch, each in found if isinstance(each, ShardManifest)]


def read_manifest(batch: BatchRef, store: Store) -> ShardManifest | None:
    """The manifest of a batch's shard; None where there is none yet.

    Raises:
        CorruptShardError: what is there is no manifest.
    """
    key = shard_manifest_key(batch)
    try:
        return ShardManifest.model_validate(store.read_json(key))
    except MissingObjectError:
        return None
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        message = f"{key} is no manifest ({reason}): delete it, and the shard is made again"
        raise CorruptShardError(message) from error


def is_of_view(manifest: ShardManifest, view: Mapping[str, Any]) -> bool:
    """Whether a shard's trailers were looked at as a view of the feature settings says (`FeatureSettings.view`)."""
    features = _BEFORE_THERE_WAS_A_CHOICE | manifest.features
    return all(features.get(name) == value for name, value in view.items())
