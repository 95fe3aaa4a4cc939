"""What the endpoints share: what is served, what is seen of a trailer, and answers that are too dear to make each time.

Does not belong here: HTTP, and making an answer that is cheap.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, TypeVar

from anyio import CapacityLimiter, to_thread

from trailer_ml.errors import RetryableError, TrailerError
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

_THREADS, _COMPUTING = 40, 4
_STATUS_S = 5.0
_PATIENCE_S, _FIRST_S = 2.0, 20.0
"""So long a count is waited for, and the first one."""
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
        self.counting = Counting(store)
        self._waiting = CapacityLimiter(_THREADS)
        self._computing = CapacityLimiter(_COMPUTING)
        self._layout: _Kept[Layout] = _Kept()
        for name, about, read in (
            ("trailer_ml_store_unseen_seconds", "Since the store last answered", lambda: self.live.unseen_s),
            ("trailer_ml_index_behind", "1: another index is published than served", lambda: self.live.is_behind),
        ):
            self.metrics.show(name, about, read)

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
        self.counting.stop()

    async def apart(self, step: Callable[[], Value], *, waits: bool) -> Value:
        """Take a step in a thread of our own: inside Airflow the others are its.

        Args:
            step: what takes longer than other requests should stand still.
            waits: for the store. What does not has threads of its own, which no store can hold up.
        """
        return await to_thread.run_sync(step, limiter=self._waiting if waits else self._computing)

    def layout(self, snapshot: Snapshot) -> Layout:
        """The map of an index, with what came since it was built."""
        n = snapshot.catalogue.n
        key = (snapshot.index.manifest.version, n)
        return self._layout.get(key, lambda: lay_out(snapshot.index.vectors_of(range(n))))


class Counting:
    """Counts where every trailer stands, in a thread of its own; to be asked by the event loop alone.

    Args:
        store: all of it is looked at, which takes seconds where it is large.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="trailer-ml-counting")
        self._counting: Future[Status] | None = None
        self._last: Status | None = None
        self._counted_at = -math.inf

    async def status(self) -> Status:
        """As counted a few seconds ago; where that takes long, or the store does not answer, as counted last.

        Raises:
            RetryableError: it was never counted yet, and cannot be just now.
        """
        if self._last and time.monotonic() < self._counted_at + _STATUS_S:
            return self._last
        if self._counting is None or self._counting.done():
            self._counting = self._thread.submit(self._count)
        wait_s = _PATIENCE_S if self._last else _FIRST_S
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._counting)), wait_s)
        except (TimeoutError, TrailerError) as error:
            if self._last is None:
                raise RetryableError(f"the trailers could not be counted: {error}") from error
            return self._last

    def stop(self) -> None:
        """Begin no other count."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _count(self) -> Status:
        self._last = count_states(self._store)
        self._counted_at = time.monotonic()
        return self._last


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
