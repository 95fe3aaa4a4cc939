"""What is served at this moment: the published index, what was taken down since, and how both are followed.

A thread looks at the tombstones and at the pointer every `service.refresh_s`. What it finds becomes a new `Snapshot`,
put in the place of the old one by one assignment. Another index is opened in a thread of its own, however long that
takes and whether or not it can be had: what is taken down meanwhile is gone from the old one all the same. A request
takes the snapshot once and answers from it alone, so no answer is mixed of two indexes. The old index is unmapped when
the last request that holds it lets go: CPython counts.

Does not belong here: HTTP.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from trailer_ml.catalog.listing import read_taken_down
from trailer_ml.errors import NoIndexError, TrailerError, UnknownTrailerError
from trailer_ml.index.rest import take_in_rest
from trailer_ml.index.serve import open_index
from trailer_ml.index.stored import read_manifest, read_pointer
from trailer_ml.search.service.catalogue import Catalogue
from trailer_ml.storage import CURRENT_INDEX_KEY

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

    from trailer_ml.index.serve import ServedIndex
    from trailer_ml.index.stored import Pointer
    from trailer_ml.records import EmbeddedTrailer
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)
_OUT_OF_DATE_S = 30.0
"""So long without an answer of the store, and it is no longer said that all is well."""
_FIRST_S = 20.0
"""So long the start waits for the first index: one that is on this machine already is opened in less."""
_PAUSE_S, _PAUSES, _LONGEST_PAUSE_S = 5.0, 20, 300.0
"""After an index that could not be opened, before it is tried again; or so many times as long as that took."""


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
        self._published = ""
        self._looked_at = -math.inf
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._opening: threading.Thread | None = None
        self._failed = ("", -math.inf)
        """Which index could not be opened, and when it may be tried again."""
        self._lock = threading.Lock()
        self.on_change: Callable[[frozenset[str]], None] = lambda _: None
        """Given what has been taken down since the last look."""
        self.on_look: Callable[[], None] = lambda: None
        self.on_open: Callable[[], None] = lambda: None
        """Called when another index is served."""

    def start(self) -> None:
        """Look once, then again and again in a thread; it is no error when nothing is published yet."""
        self._try("the store could not be looked at", self.look)
        if self._opening:
            self._opening.join(_FIRST_S)
        self._thread = threading.Thread(target=self._follow, name="trailer-ml-live", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the threads."""
        self._stop.set()
        for thread in (self._thread, self._opening):
            if thread:
                thread.join()

    @property
    def unseen_s(self) -> float:
        """Since all was last looked at: the store did not answer, or what it holds could not be read."""
        return time.monotonic() - self._looked_at

    @property
    def is_up_to_date(self) -> bool:
        """Whether all was looked at of late."""
        return self.unseen_s < _OUT_OF_DATE_S

    @property
    def is_behind(self) -> bool:
        """Whether another index is published than is served: it is being opened, or cannot be."""
        snapshot = self._snapshot
        return self._published != (snapshot.index.manifest.version if snapshot else "")

    def snapshot(self) -> Snapshot:
        """What is served now.

        Raises:
            NoIndexError: no index has been published yet.
        """
        if self._snapshot is None:
            raise NoIndexError("no index has been published yet")
        return self._snapshot

    def look(self) -> None:
        """Look at the store: leave out what is taken down, take in what came, and begin to open another index."""
        with self._lock:
            self._look()
        self.on_look()

    def _look(self) -> None:
        taken_down = read_taken_down(self._store)
        if (old := self._snapshot) and old.taken_down != taken_down:
            self._serve(replace(old, taken_down=taken_down))
        seen, served = read_pointer(self._store), self._snapshot
        self._published = seen.pointer.version if seen else ""
        if seen is None:
            self._snapshot = None
        elif served and served.index.manifest.version == seen.pointer.version:
            self._take_in(served)
        else:
            self._begin_to_open(seen.pointer)
        self._looked_at = time.monotonic()

    def _serve(self, snapshot: Snapshot) -> None:
        """From now on; what it leaves out and the old one did not is forgotten."""
        old, self._snapshot = self._snapshot, snapshot
        if old and (gone := snapshot.taken_down - old.taken_down):
            self.on_change(gone)

    def _take_in(self, served: Snapshot) -> None:
        """What was embedded since the index was built."""
        take_in_rest(served.index, self._store, served.taken_down)
        if served.index.n != served.catalogue.n:
            self._serve(replace(served, catalogue=Catalogue(served.index.trailers)))

    def _begin_to_open(self, pointer: Pointer) -> None:
        failed, again_at = self._failed
        is_paused = failed == pointer.version and time.monotonic() < again_at
        if not is_paused and not (self._opening and self._opening.is_alive()):
            self._opening = threading.Thread(
                target=self._try,
                args=(f"index {pointer.version} could not be opened", lambda: self._open(pointer)),
                name="trailer-ml-opening",
                daemon=True,
            )
            self._opening.start()

    def _open(self, pointer: Pointer) -> None:
        began = time.monotonic()
        try:
            manifest = read_manifest(self._store, pointer.version)
            index = open_index(manifest, self._store, self._settings.index.cache_folder)
            published_at = self._store.modified_at(CURRENT_INDEX_KEY)
            take_in_rest(index, self._store, read_taken_down(self._store))
            catalogue = Catalogue(index.trailers)
            with self._lock:  # no look in between, which would know more than this does
                if self._published != pointer.version:  # gone back from, or published over, meanwhile
                    return
                taken_down = read_taken_down(self._store)
                self._serve(Snapshot(index, catalogue, pointer.recall_at_10, published_at, taken_down))
        except Exception:
            now = time.monotonic()
            self._failed = (pointer.version, now + min(max(_PAUSE_S, _PAUSES * (now - began)), _LONGEST_PAUSE_S))
            raise
        self.on_open()
        logger.info("index %s is served", pointer.version)

    def _follow(self) -> None:
        while not self._stop.wait(self._settings.service.refresh_s):
            self._try("the store could not be looked at", self.look)

    def _try(self, failure: str, step: Callable[[], None]) -> None:
        """What is served stays when it fails, and the figures tell: these threads must not end before their service."""
        try:
            step()
        except TrailerError as error:
            logger.warning("%s: %s", failure, error)
        except Exception:
            logger.exception("%s", failure)
