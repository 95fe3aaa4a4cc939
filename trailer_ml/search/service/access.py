"""Who may ask: a key, compared in constant time, or a session that was begun with it; and not too often.

Does not belong here: HTTP headers (guard.py).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from trailer_ml.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from trailer_ml.settings import ServiceSettings

SESSION_S = 12 * 3600
_MIN_KEY_LENGTH = 16
_MAX_CLIENTS = 10_000


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own.

    >>> is_loopback("localhost"), is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_access(settings: ServiceSettings) -> None:
    """Raise unless it is said who may ask where strangers can.

    Raises:
        SettingsError: it would listen beyond loopback without a key, or the key is one that can be guessed.
    """
    if settings.api_key is None:
        if not is_loopback(settings.host):
            raise SettingsError(
                f"to be reached at {settings.host} the service needs a key: set TRAILER_SERVICE_API_KEY"
                ' (python -c "import secrets; print(secrets.token_urlsafe())" makes one)'
            )
    elif len(settings.api_key.get_secret_value()) < _MIN_KEY_LENGTH:
        raise SettingsError(f"TRAILER_SERVICE_API_KEY has to have {_MIN_KEY_LENGTH} characters or more")


class Keyholder:
    """Knows the key, and sessions that were begun with it; a session is no key and ends by itself.

    Args:
        key: the secret.
        now: seconds since the epoch.
    """

    def __init__(self, key: str, now: Callable[[], float] = time.time) -> None:
        self._digest = hashlib.sha256(key.encode()).digest()
        self._signing = hmac.digest(key.encode(), b"trailer-ml session", "sha256")
        self._now = now

    def is_key(self, text: str) -> bool:
        """Whether this is the key."""
        return hmac.compare_digest(hashlib.sha256(text.encode(errors="replace")).digest(), self._digest)

    def begin_session(self) -> str:
        """What a cookie holds for `SESSION_S`."""
        until = str(int(self._now()) + SESSION_S)
        return f"{until}.{self._sign(until)}"

    def is_session(self, text: str) -> bool:
        """Whether a cookie was given by `begin_session` and has not run out."""
        until, _, signature = text.partition(".")
        is_signed = hmac.compare_digest(self._sign(until).encode(), signature.encode(errors="replace"))
        return is_signed and int(until) > self._now()

    def _sign(self, text: str) -> str:
        return hmac.digest(self._signing, text.encode(errors="replace"), "sha256").hex()


class Buckets:
    """How often each client may come: a bucket of tokens that fills by itself.

    Args:
        per_s: tokens that flow in.
        size: tokens it holds.
        now: any clock of seconds.
    """

    def __init__(self, per_s: float, size: float, now: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._size = size
        self._now = now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, client: str) -> float:
        """Take a token; 0, or the seconds until there is one.

        >>> clock = [0.0]
        >>> buckets = Buckets(2.0, 1.0, now=lambda: clock[0])
        >>> buckets.take("a"), buckets.take("a"), buckets.take("b")
        (0.0, 0.5, 0.0)
        """
        with self._lock:
            now = self._now()
            tokens, filled_at = self._buckets.pop(client, (self._size, now))
            tokens = min(self._size, tokens + (now - filled_at) * self._per_s)
            wait_s = 0.0 if tokens >= 1 else (1 - tokens) / self._per_s
            self._buckets[client] = (tokens if wait_s else tokens - 1, now)
            while len(self._buckets) > _MAX_CLIENTS:
                self._buckets.popitem(last=False)
            return wait_s
