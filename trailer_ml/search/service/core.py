"""What the endpoints share: what is served, what is seen of a trailer, and answers that are too dear to make each time.

Does not belong here: HTTP, and making an answer that is cheap.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from trailer_ml.search.service.live import Live, Snapshot
from trailer_ml.search.service.looking import Looking
from trailer_ml.search.service.map import lay_out
from trailer_ml.search.service.metrics import Metrics
from trailer_ml.search.service.placed import PlacedFilms
from trailer_ml.search.service.shown import Showcase
from trailer_ml.search.service.twins import TwinFinder
from trailer_ml.search.status import count_states

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from trailer_ml.records import Status
    from trailer_ml.search.service.map import Layout
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

_STATUS_S = 5.0
Value = TypeVar("Value")


class Service:
    """Made once for an app.

    Args:
        settings: all of them.
        store: where everything is.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings = settings
        self.store = store
        self.metrics = Metrics()
        self.live = Live(settings, store)
        self.showcase = Showcase(store)
        self.placed = PlacedFilms(store)
        self.looking = Looking(settings)
        self.twins = TwinFinder(settings, self.live)
        self._status: _Kept[Status] = _Kept()
        self._layout: _Kept[Layout] = _Kept()

    def start(self) -> None:
        """Begin to follow the store."""
        self.live.on_change = self.showcase.forget
        self.live.on_look = self.looking.rest
        self.live.start()

    def stop(self) -> None:
        """End what was started."""
        self.live.stop()
        self.looking.stop()
        self.twins.stop()

    def status(self) -> Status:
        """Where every trailer stands, a few seconds ago at most."""
        return self._status.get(time.monotonic() // _STATUS_S, lambda: count_states(self.store))

    def layout(self, snapshot: Snapshot) -> Layout:
        """The map of an index, with what came since it was built."""
        n = snapshot.catalogue.n
        key = (snapshot.index.manifest.version, n)
        return self._layout.get(key, lambda: lay_out(snapshot.index.vectors_of(range(n))))


class _Kept(Generic[Value]):
    """One value for one key; whoever comes while it is made waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: Hashable = None
        self._value: list[Value] = []

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        with self._lock:
            if self._key != key or not self._value:
                self._value = [make()]
                self._key = key
            return self._value[0]
