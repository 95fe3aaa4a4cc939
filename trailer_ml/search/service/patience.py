"""HTTP as uvicorn speaks it, for clients that do not hurry: the head of a request is waited for, but not for ever.

uvicorn itself waits without end for a head, and takes one of any length: a thousand connections that say nothing would
keep everybody else out, and one that goes on and on would fill the memory. The same goes for what comes after an answer
and begins no request: the rest of a body that was refused, or an empty line.

Does not belong here: bodies, which those who read them limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

HEAD_S = 15.0
"""So long a head may take, from the connection or its first byte on."""
MAX_HEAD_BYTES = 64 * 2**10


class PatientProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_in_head = False
        self._head_bytes = 0
        self._end_of_patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Hang up where a head has become too long."""
        super().data_received(data)
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.abort()
        elif self._end_of_patience is None and self.cycle is not None and self.cycle.response_complete:
            self._wait_for_head()  # any byte ends uvicorn's own patience with a connection that is kept

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of the head of a request."""
        super().on_message_begin()
        self._stop_waiting()
        self._wait_for_head()
        self._is_in_head = True

    def on_headers_complete(self) -> None:
        """Wait no more: what follows is a body."""
        self._stop_waiting()
        self._is_in_head, self._head_bytes = False, 0
        super().on_headers_complete()

    def _wait_for_head(self) -> None:
        if self._end_of_patience is None:
            self._end_of_patience = self.loop.call_later(HEAD_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._end_of_patience is not None:
            self._end_of_patience.cancel()
            self._end_of_patience = None
