"""What came since an index was built: few vectors, searched exactly beside it, so that a new trailer is found at once.

An index says which batches it was built from. What its own model has embedded beside them is read and taken in; vectors
of another model lie elsewhere and are never looked at.

Does not belong here: what was taken down since (see search/neighbours.py).
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from trailer_ml.embeddings.stored import list_embedded, read_embedded, read_vectors
from trailer_ml.errors import DataError, MissingObjectError
from trailer_ml.index.stored import BATCHES_FILE
from trailer_ml.storage import index_key

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    import numpy as np
    from numpy.typing import NDArray

    from trailer_ml.index.serve import ServedIndex
    from trailer_ml.records import BatchRef, EmbeddingsManifest
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)

_LEAST_S = 1.0  # between two looks; "at once" for a person
_SHARE = 20  # a look that took so long is followed by a pause that is so many times as long
_READERS = 8  # objects read at once; the way to the store is most of the time
_turn = threading.Lock()  # of the threads of a process one looks; the others answer with what is there


def take_in_rest(index: ServedIndex, store: Store, taken_down: AbstractSet[str] = frozenset()) -> None:
    """Let an open index answer for what was embedded since it was built, as of a second ago.

    A look is one listing of keys, 1,000 a request: every second at most, and less often where it takes long.

    Args:
        index: as it was opened.
        store: where it is published.
        taken_down: ids that are not taken in, for who leaves them out of answers by their rows.
    """
    if time.monotonic() < index.look_again_at or not _turn.acquire(blocking=False):
        return
    try:
        started = time.monotonic()
        _look(index, store, taken_down)
        took_s = time.monotonic() - started
        index.look_again_at = started + max(_LEAST_S, _SHARE * took_s)
    finally:
        _turn.release()


def _look(index: ServedIndex, store: Store, taken_down: AbstractSet[str]) -> None:
    manifest = index.manifest
    if index.batches_seen is None:
        index.batches_seen = frozenset(store.read_json_or_none(index_key(manifest.version, BATCHES_FILE)) or ())
    new = [batch for batch in list_embedded(store, manifest.model_version) if batch.path not in index.batches_seen]
    if not new:
        return
    with ThreadPoolExecutor(_READERS) as readers:
        found = list(readers.map(lambda batch: _read(batch, index, store), new))
    for batch, each in zip(new, found, strict=True):
        if each is None:  # damaged: it is made again
            continue
        embedded, vectors = each
        ids = [trailer.trailer_id for trailer in embedded.trailers]
        places = [i for i, each in enumerate(ids) if each not in index.row_of and each not in taken_down]
        if places and vectors is not None:
            index.take_in([embedded.trailers[i] for i in places], vectors[places])
        index.batches_seen |= {batch.path}


def _read(
    batch: BatchRef, index: ServedIndex, store: Store
) -> tuple[EmbeddingsManifest, NDArray[np.float32] | None] | None:
    """What is embedded of a batch, its vectors only if a trailer of it is new; None where it is damaged."""
    try:
        embedded = read_embedded(store, index.manifest.model_version, batch).manifest
        if all(trailer.trailer_id in index.row_of for trailer in embedded.trailers):
            return embedded, None
        if (embedded.dim, embedded.video_dim) != (index.manifest.dim, index.manifest.video_dim):
            logger.warning("not taken in: %s is of another shape than index %s", embedded.key, index.manifest.version)
            return embedded, None
        return embedded, read_vectors(store, embedded)
    except (DataError, MissingObjectError) as error:
        logger.warning("not found until it is mended: %s", error)
        return None
