"""Writing down that a source does not want us, so that a person is told of it wherever they look.

Does not belong here: finding out (the sources do), and going round it (nobody does).
"""

from __future__ import annotations

import datetime as dt
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trailer_ml.errors import SourceBlockedError
from trailer_ml.records import Blocked
from trailer_ml.storage import blocked_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trailer_ml.storage import Store


@contextmanager
def note_blocked(source: str, store: Store) -> Iterator[None]:
    """While a source is asked: where it blocks us that is kept, with the day it began; where it works it is forgotten.

    Raises:
        SourceBlockedError: it does; as it came.
    """
    try:
        yield
    except SourceBlockedError as error:
        before = store.read_json_or_none(blocked_key(source))
        since = Blocked.model_validate(before).since if before else dt.datetime.now(dt.UTC).replace(microsecond=0)
        store.put_json(blocked_key(source), Blocked(source=source, since=since, detail=str(error)).to_json())
        raise
    store.delete(blocked_key(source))


def read_blocked(store: Store) -> list[Blocked]:
    """The sources that block us, by name."""
    head, _ = blocked_key("|").split("|")
    return [Blocked.model_validate(value) for value in store.read_all_json(store.list_keys(head))]
