"""How often a host is asked by all workers together, and until when it is left alone.

A host's next free moment is an object in the store that is swapped (If-Match) by whoever takes it, so that two workers
on two machines never take the same one. A host that had enough is blocked there for all of them.

Does not belong here: asking, and waiting.
"""

from __future__ import annotations

import datetime as dt
import random
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trailer_ml.errors import ConflictError, RateLimitedError
from trailer_ml.records import HostTurns
from trailer_ml.storage import turns_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trailer_ml.storage import Store, Versioned

_TRIES = 50
_ANY = "*"


class Turns:
    """The turns of all hosts, for whoever downloads from many.

    Args:
        every_s: host -> seconds between two turns; `*` is any other. A name stands for what is below it, too.
        store: where the turns are.
    """

    def __init__(self, every_s: Mapping[str, float], store: Store) -> None:
        self._every_s = every_s
        self._store = store

    def take(self, url: str) -> float:
        """Seconds to wait before a URL is asked for; 0 where its host is not paced.

        Raises:
            RateLimitedError: its host is to be left alone; `retry_after_s` says how long.
        """
        host = host_of(url)
        every_s = self._interval_of(host)
        return take_turn(host, every_s, self._store) if every_s else 0.0

    def block(self, url: str, wait_s: float, reason: str) -> None:
        """Have all workers leave the host of a URL alone."""
        host = host_of(url)
        if self._interval_of(host):
            block_host(host, wait_s, reason, self._store)

    def _interval_of(self, host: str) -> float:
        names = [name for name in self._every_s if host == name or host.endswith(f".{name}")]
        return self._every_s.get(max(names, key=len, default=_ANY), 0.0)


def host_of(url: str) -> str:
    """Who is asked, in the form that keeps its turns: `www.youtube.com`, `127.0.0.1-8123`.

    >>> host_of("http://127.0.0.1:8123/media/vi1.mp4")
    '127.0.0.1-8123'
    """
    parts = urlsplit(url)
    port = f"-{parts.port}" if parts.port else ""
    return f"{(parts.hostname or '').lower().replace(':', '.')}{port}"


def take_turn(host: str, every_s: float, store: Store) -> float:
    """Take the next free moment of a host.

    Args:
        host: as host_of has it.
        every_s: seconds between two turns, whoever takes them.
        store: where the turns of all hosts are.

    Returns:
        Seconds to wait before asking.

    Raises:
        RateLimitedError: the host is to be left alone; `retry_after_s` says how long.
        ConflictError: others were quicker again and again.
    """
    wait_s = 0.0

    def take(turns: HostTurns, now: dt.datetime) -> HostTurns:
        nonlocal wait_s
        if turns.blocked_until and turns.blocked_until > now:
            left_s = (turns.blocked_until - now).total_seconds()
            raise RateLimitedError(f"{host} is left alone: {turns.reason}", retry_after_s=left_s)
        start = max(now, turns.next_at or now)
        wait_s = (start - now).total_seconds()
        return HostTurns(next_at=start + dt.timedelta(seconds=every_s))

    _swap(host, take, store)
    return wait_s


def block_host(host: str, wait_s: float, reason: str, store: Store) -> None:
    """Have all workers leave a host alone; a block that lasts longer stays.

    Args:
        host: as host_of has it.
        wait_s: seconds from now.
        reason: in words, for whoever asks why.
        store: where the turns of all hosts are.
    """

    def block(turns: HostTurns, now: dt.datetime) -> HostTurns:
        until = now + dt.timedelta(seconds=wait_s)
        if turns.blocked_until and turns.blocked_until >= until:
            return turns
        return turns.model_copy(update={"blocked_until": until, "reason": reason})

    _swap(host, block, store)


def _swap(host: str, change: Callable[[HostTurns, dt.datetime], HostTurns], store: Store) -> None:
    key = turns_key(host)
    for _ in range(_TRIES):
        seen = store.read_pointer(key)
        before = _turns_of(seen)
        after = change(before, dt.datetime.now(dt.UTC))
        if after == before:
            return
        try:
            store.swap_pointer(key, after.to_json(), seen)
        except ConflictError:
            time.sleep(random.uniform(0.0, 0.1))  # noqa: S311 - so that two do not meet again
            continue
        return
    raise ConflictError(f"the turns of {host} are taken by others again and again")


def _turns_of(seen: Versioned | None) -> HostTurns:
    return HostTurns.model_validate(seen.value) if seen else HostTurns()
