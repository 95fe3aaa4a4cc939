"""Taking a trailer down: out of every answer at once, purged by the next index build.

Does not belong here: deleting what was made of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trailer_ml.catalog.listing import read_trailers
from trailer_ml.records import Takedown
from trailer_ml.search.unknown import explain_unknown
from trailer_ml.storage import tombstone_key

if TYPE_CHECKING:
    from trailer_ml.storage import Store


def take_down(trailer_id: str, store: Store) -> Takedown:
    """Take one trailer down, for good.

    Raises:
        UnknownTrailerError: the catalog lists no such trailer; the message names those that are close.
    """
    trailers = {trailer.trailer_id: trailer for trailer in read_trailers(store)}
    if trailer_id not in trailers:
        raise explain_unknown(trailer_id, trailers.values())
    is_new = store.create_json(tombstone_key(trailer_id), {"trailer_id": trailer_id})
    return Takedown(trailer_id=trailer_id, is_new=is_new)
