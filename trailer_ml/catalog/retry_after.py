"""The Retry-After header, for whoever is told to wait: the spider and the downloads.

Does not belong here: waiting.
"""

from __future__ import annotations

import contextlib
import email.utils
import math
import time

_MAX_S = 7 * 86400.0
"""Nobody is waited for longer, whatever number they send."""


def parse_retry_after(text: str) -> float | None:
    """Seconds that a Retry-After header asks for, a week at most; None where it says nothing.

    It is a number or a date.

    >>> parse_retry_after("120")
    120.0
    """
    with contextlib.suppress(ValueError):
        seconds = float(text)
        return _bounded(seconds) if math.isfinite(seconds) else None
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return _bounded(email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    return None


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), _MAX_S)
