"""What the endpoints share: what is served, what is seen of a trailer, and answers that are too dear to make each time.

Does not belong here: HTTP, and making an answer that is cheap.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from trailer_ml.errors import ConflictError
from trailer_ml.search.duplicates import find_duplicates
from trailer_ml.search.service.live import Live, Snapshot
from trailer_ml.search.service.looking import Looking
from trailer_ml.search.service.map import lay_out
from trailer_ml.search.service.metrics import Metrics
from trailer_ml.search.service.shown import Showcase
from trailer_ml.search.status import count_states

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from trailer_ml.records import DuplicateGroup, Status
    from trailer_ml.search.service.map import Layout
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

_STATUS_S = 5.0
_TRIES = 5
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
        self.looking = Looking(settings)
        self._status: _Kept[Status] = _Kept()
        self._layout: _Kept[Layout] = _Kept()
        self._duplicates: _Kept[tuple[DuplicateGroup, ...]] = _Kept()

    def start(self) -> None:
        """Begin to follow the store."""
        self.live.on_change = self.showcase.forget
        self.live.on_look = self.looking.rest
        self.live.start()

    def stop(self) -> None:
        """End what was started."""
        self.live.stop()
        self.looking.stop()

    def status(self) -> Status:
        """Where every trailer stands, a few seconds ago at most."""
        return self._status.get(time.monotonic() // _STATUS_S, lambda: count_states(self.store))

    def layout(self, snapshot: Snapshot) -> Layout:
        """The map of an index."""
        return self._layout.get(snapshot.index.manifest.version, lambda: lay_out(snapshot.index.vectors()))

    def duplicates(self) -> tuple[Snapshot, tuple[DuplicateGroup, ...]]:
        """The near-duplicates of an index, and that index. It takes seconds for each new one.

        Raises:
            ConflictError: another index is published again and again.
        """
        for _ in range(_TRIES):
            self.live.look()
            before = self.live.snapshot()
            groups = self._duplicates.get(
                before.index.manifest.version, lambda: tuple(find_duplicates(self.settings, self.store))
            )
            self.live.look()
            if self.live.snapshot().index is before.index:
                return self.live.snapshot(), groups
            self._duplicates.drop()
        raise ConflictError("the index changes all the time")


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

    def drop(self) -> None:
        with self._lock:
            self._value = []
