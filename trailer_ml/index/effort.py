"""How far an index has to look to find what is asked of it: chosen at its build, and kept in its manifest.

More trailers in as many clusters are harder to tell apart, so no number is right for every size: with the 5 that finds
everything among 25,000, a million lost one answer in eight.

Does not belong here: whether what is found is enough to be published (see publish.py).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from trailer_ml.index.recall import ask_exactly, recall_of, sample_rows

if TYPE_CHECKING:
    from trailer_ml.index.serve import ServedIndex
    from trailer_ml.settings import IndexSettings

logger = logging.getLogger(__name__)

FIRST_EFFORT = 5
_STEP, _MOST = 1.5, 320
"""From there on exact search is the quicker one."""


def choose_effort(index: ServedIndex, settings: IndexSettings) -> int:
    """The least effort, of 5, 8, 12, 18 and so on, that finds what publishing asks for and half of the rest.

    It is chosen by other trailers than those by which the index is judged, where there are enough.

    Args:
        index: open, and asked with one effort after the other.
        settings: what publishing asks for, and how many trailers are asked for.

    Returns:
        Of an index of several files a part of it, for each of them is asked. The largest where none is enough.
    """
    if settings.search_effort is not None:
        return settings.search_effort
    queries = ask_exactly(index, _probe_rows(index.manifest.n, settings.n_queries))
    goal = (1 + settings.min_recall_at_10) / 2
    effort = -(-FIRST_EFFORT // (1 + len(index.manifest.more_sha256)))
    while True:
        index.manifest = index.manifest.model_copy(update={"search_effort": effort})
        recall = recall_of(index, queries)
        logger.info("index %s: effort %d finds %.4f", index.manifest.version, effort, recall)
        if recall >= goal or effort >= _MOST:
            return effort
        effort = min(_MOST, int(np.ceil(_STEP * effort)))


def _probe_rows(n: int, n_queries: int) -> np.ndarray:
    """Rows halfway between those by which an index is judged."""
    rows = sample_rows(n, n_queries)
    half = n // (2 * len(rows))
    return np.where(rows + half < n, rows + half, rows - half)
