"""What is served at this moment: the published index, what was taken down since, and how both are followed.

A thread looks at the pointer and at the tombstones every `service.refresh_s`. What it finds becomes a new `Snapshot`,
put in the place of the old one by one assignment. A request takes the snapshot once and answers from it alone, so no
answer is mixed of two indexes. The old index is unmapped when the last request that holds it lets go: CPython counts.

Does not belong here: HTTP.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from trailer_ml.catalog.listing import read_taken_down
from trailer_ml.errors import NoIndexError, TrailerError, UnknownTrailerError
from trailer_ml.index.rest import take_in_rest
from trailer_ml.index.serve import open_current_index
from trailer_ml.index.stored import read_pointer
from trailer_ml.search.service.catalogue import Catalogue
from trailer_ml.storage import CURRENT_INDEX_KEY

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

    from trailer_ml.index.serve import ServedIndex
    from trailer_ml.records import EmbeddedTrailer
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)
_OUT_OF_DATE_S = 30.0
"""So long without an answer of the store, and it is no longer said that all is well."""


@dataclass(frozen=True)
class Snapshot:
    """One index, and what of it is no answer any more."""

    index: ServedIndex
    catalogue: Catalogue
    recall_at_10: float
    """As measured by the machine that published it."""
    published_at: dt.datetime | None
    taken_down: frozenset[str]

    @property
    def versions(self) -> dict[str, str]:
        """What every answer names."""
        return {"index_version": self.index.manifest.version, "model_version": self.index.manifest.model_version}

    @cached_property
    def rows_taken_down(self) -> frozenset[int]:
        """The rows of this index that were taken down since it was built."""
        return frozenset(self.index.row_of[gone] for gone in self.taken_down if gone in self.index.row_of)

    @cached_property
    def genres(self) -> dict[str, int]:
        """Trailers of each genre, the largest genre first."""
        return self.catalogue.count_genres(self.rows_taken_down)

    def row(self, trailer_id: str) -> int:
        """The row of a trailer.

        Raises:
            UnknownTrailerError: this index does not answer for it.
        """
        row = self.index.row_of.get(trailer_id)
        if row is None or row in self.rows_taken_down:
            raise UnknownTrailerError(f"there is no trailer {trailer_id} in the index", trailer_id=trailer_id)
        return row

    def trailer(self, trailer_id: str) -> EmbeddedTrailer:
        """What the index knows of a trailer. Raises as `row` does."""
        return self.index.trailers[self.row(trailer_id)]


class Live:
    """Follows the store while it runs.

    Args:
        settings: where the index is kept on this machine, and how often to look.
        store: where it is published.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._snapshot: Snapshot | None = None
        self._looked_at = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self.on_change: Callable[[frozenset[str]], None] = lambda _: None
        """Given what has been taken down since the last look."""
        self.on_look: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Look once, then again and again in a thread; it is no error when nothing is published yet."""
        self._try_to_look()
        self._thread = threading.Thread(target=self._follow, name="trailer-ml-live", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread:
            self._thread.join()

    @property
    def is_up_to_date(self) -> bool:
        """Whether the store has answered of late."""
        return bool(self._looked_at) and time.monotonic() - self._looked_at < _OUT_OF_DATE_S

    def snapshot(self) -> Snapshot:
        """What is served now.

        Raises:
            NoIndexError: no index has been published yet.
        """
        if self._snapshot is None:
            raise NoIndexError("no index has been published yet")
        return self._snapshot

    def look(self) -> None:
        """Look at the store, and serve what it says from now on."""
        with self._lock:
            self._look()
        self.on_look()

    def _look(self) -> None:
        seen, old = read_pointer(self._store), self._snapshot
        taken_down = read_taken_down(self._store)
        if seen is None:
            self._snapshot = None
        elif old is None or old.index.manifest.version != seen.pointer.version:
            index = open_current_index(self._store, self._settings.index.cache_folder)
            self._snapshot = Snapshot(
                index=index,
                catalogue=Catalogue(index.trailers),
                recall_at_10=seen.pointer.recall_at_10,
                published_at=self._store.modified_at(CURRENT_INDEX_KEY),
                taken_down=taken_down,
            )
            # Its trailers are half a million objects that stay: a full collection would look at each of them and hold
            # every request for 0.1 s and more. What is frozen goes all the same when nobody refers to it any more.
            gc.freeze()
            logger.info("index %s is served", index.manifest.version)
        else:
            self._update(old, taken_down)
        if old and (gone := taken_down - old.taken_down):
            self.on_change(gone)
        self._looked_at = time.monotonic()

    def _update(self, old: Snapshot, taken_down: frozenset[str]) -> None:
        """The same index, with what came and went since the last look."""
        n_before = old.catalogue.n
        take_in_rest(old.index, self._store)
        if old.index.n != n_before:
            self._snapshot = replace(old, catalogue=Catalogue(old.index.trailers), taken_down=taken_down)
        elif old.taken_down != taken_down:
            self._snapshot = replace(old, taken_down=taken_down)

    def _follow(self) -> None:
        while not self._stop.wait(self._settings.service.refresh_s):
            self._try_to_look()

    def _try_to_look(self) -> None:
        try:
            self.look()
        except TrailerError as error:  # what is served stays; /health/ready says so when it lasts
            logger.warning("the store could not be looked at: %s", error)
        except Exception:  # this thread must not end before its service
            logger.exception("the store could not be looked at")
