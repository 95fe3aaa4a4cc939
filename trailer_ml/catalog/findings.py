"""What the sources share when they read rows of somebody else: a row that cannot be read never ends a crawl.

Does not belong here: what the rows of one source look like (sources/), and keeping what was set aside (crawl.py).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import re
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from trailer_ml.errors import SourceUnavailableError, TrailerError
from trailer_ml.records import ID_PATTERN, Quarantine, Trailer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from trailer_ml.records import Interval

logger = logging.getLogger(__name__)

_MIN_JUDGED = 20
"""Of fewer rows, most may be odd by chance."""

Row = TypeVar("Row")


def read_rows(
    source: str, rows: Iterable[Row], read: Callable[[Row], Iterable[Trailer | Quarantine]]
) -> Iterator[Trailer | Quarantine]:
    """What `read` makes of each row; a row that makes nothing valid is set aside as `unreadable`.

    Args:
        source: its name, for the id of what is set aside.
        rows: as JSON holds them.
        read: raises a ValueError (pydantic's is one) for a row that it cannot read.

    Raises:
        TrailerError: as `read` raises it: that is no matter of one row.
    """
    for row in rows:
        try:
            found = list(read(row))
        except TrailerError:  # some of ours are ValueErrors, too
            raise
        except ValueError as error:
            found = [set_aside(_row_id(source, row), "unreadable", describe(error))]
        yield from found


def check_found(
    source: str, found: Iterable[Trailer | Quarantine], table: Mapping[str, str]
) -> Iterator[Trailer | Quarantine]:
    """Pass on what was found; when most of it could not be read, it is the source that has changed.

    Args:
        source: its name.
        found: in any order.
        table: of genres; those of another name are kept, and named in the log.

    Raises:
        SourceUnavailableError: more than half of at least 20 could not be read.
    """
    n_found = n_unreadable = 0
    genres: set[str] = set()
    for one in found:
        n_found += 1
        if isinstance(one, Trailer):
            genres.update(one.genres)
        else:
            n_unreadable += one.reason == "unreadable"
        yield one
    if n_found >= _MIN_JUDGED and n_unreadable * 2 > n_found:
        raise SourceUnavailableError(f"{source}: {n_unreadable} of {n_found} rows are in a shape that is not known")
    if unknown := sorted(genres - set(table.values())):
        logger.info("%s has %d genres of its own, kept as they are: %s", source, len(unknown), ", ".join(unknown[:20]))


def set_aside(film_id: str, reason: str, detail: str) -> Quarantine:
    """A title that is not in the catalog, and why."""
    return Quarantine(id=film_id, stage="catalog", reason=reason, detail=detail[:200], is_permanent=True)


def describe(error: ValueError) -> str:
    """What is wrong, in one line and without the value: that may be long, or be no business of a log."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def last_day(interval: Interval) -> dt.date:
    """When a trailer is listed of which its source does not say when: the day before the crawl."""
    return interval.days()[-1]


def is_latest(interval: Interval) -> bool:
    """Whether an interval ends with yesterday (UTC), so that what has no date is listed in it."""
    return interval.end >= dt.datetime.now(dt.UTC).date()


def utc_date(moment: dt.datetime) -> dt.date:
    """The day of a moment; one that does not say where is taken for UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).astimezone(dt.UTC).date()


def _row_id(source: str, row: Any) -> str:
    """Its own id, or where it has none that can be a key, one that is the same for the same row."""
    own = (row.get("id") or row.get("identifier")) if isinstance(row, dict) else None
    if re.fullmatch(ID_PATTERN, candidate := f"{source}-{own}".lower()) and own:
        return candidate
    text = json.dumps(row, sort_keys=True, default=str)
    return f"{source}-row-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
