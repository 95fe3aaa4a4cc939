"""What to say when somebody asks for a trailer that is not in the index.

Does not belong here: counting (see status.py).
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from trailer_ml.catalog.listing import read_trailers
from trailer_ml.errors import UnknownTrailerError
from trailer_ml.search.status import read_standings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trailer_ml.records import Trailer
    from trailer_ml.storage import Store

_N_CLOSE = 3


def explain_missing(trailer_id: str, store: Store) -> UnknownTrailerError:
    """The error for a trailer that no index answers for: where it stands, or which are close where it is unknown."""
    standing = read_standings(store).get(trailer_id)
    if standing is None:
        return explain_unknown(trailer_id, read_trailers(store))
    why = f" ({standing.reason}{': ' if standing.detail else ''}{standing.detail})" if standing.reason else ""
    return UnknownTrailerError(
        f"{trailer_id} is not in the index: it is {standing.state.replace('_', ' ')}{why}", trailer_id=trailer_id
    )


def explain_unknown(trailer_id: str, trailers: Iterable[Trailer]) -> UnknownTrailerError:
    """The error for an id that the catalog does not list; names the closest ids, or the trailers of a title."""
    close = find_close(trailer_id, trailers)
    hint = "; did you mean " + " or ".join(f"{found.trailer_id} ({found.title})" for found in close) + "?"
    return UnknownTrailerError(f"there is no trailer {trailer_id!r}{hint if close else ''}")


def find_close(text: str, trailers: Iterable[Trailer]) -> list[Trailer]:
    """The few trailers whose title holds the text, or else whose id or title is spelled much like it."""
    wanted = text.casefold().strip()
    of_name: dict[str, Trailer] = {}
    holding = []
    for trailer in trailers:
        title = trailer.title.casefold()
        of_name.setdefault(trailer.trailer_id, trailer)
        of_name.setdefault(title, trailer)
        if len(wanted) > 1 and wanted in title:
            holding.append(trailer)
    if holding:
        return holding[:_N_CLOSE]
    close = [of_name[name] for name in difflib.get_close_matches(wanted, of_name, n=_N_CLOSE, cutoff=0.7)]
    return list(dict.fromkeys(close))
