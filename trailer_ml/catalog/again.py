"""Trailers that were given up, or wait for their time, and that a person wants tried again now.

Does not belong here: what is due by itself (see batches.py).
"""

from __future__ import annotations

import datetime as dt
import logging
from collections import Counter
from typing import TYPE_CHECKING

from trailer_ml.catalog.quarantine import put_quarantine
from trailer_ml.records import Quarantine, Retried, Stage
from trailer_ml.storage import quarantine_key

if TYPE_CHECKING:
    from collections.abc import Collection

    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)

_STAGES: tuple[Stage, ...] = ("download", "shard")


def try_again(reasons: Collection[str], store: Store) -> Retried:
    """Let whatever was lost for these reasons be due, as if it had never been tried: the next plan takes it up.

    What did not come is downloaded, and what came and could not be used is looked at again.

    Args:
        reasons: as `trailer-ml status` counts them.
        store: where quarantine lies.
    """
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    n_by_reason = Counter(dict.fromkeys(reasons, 0))
    for stage in _STAGES if reasons else ():
        for value in store.read_all_json(store.list_keys(quarantine_key(stage, "").removesuffix(".json"))):
            entry = Quarantine.model_validate(value)
            if entry.reason not in reasons:
                continue
            due = entry.model_copy(update={"is_permanent": False, "attempts": 0, "retry_at": now})
            n_by_reason[entry.reason] += put_quarantine(due, store)
    if n_by_reason:
        logger.info("tried again: %s", ", ".join(f"{reason} {n}" for reason, n in n_by_reason.items()))
    return Retried(n_by_reason=dict(n_by_reason))
