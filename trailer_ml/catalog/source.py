"""What a source of trailers has to be: a function from settings to a Listing, known here by name.

Does not belong here: a source itself (imdb_html.py is one), and keeping what it found (crawl.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trailer_ml.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Collection

    from trailer_ml.records import Interval, Quarantine, Trailer
    from trailer_ml.settings import CatalogSettings


class Listing(NamedTuple):
    """What a source found, whole: a source that could not read what it should have raises instead."""

    trailers: tuple[Trailer, ...]
    """Each id once; of any date, for not every source can be asked for an interval."""
    set_aside: tuple[Quarantine, ...]
    """Titles that have no trailer here, or could not be read, each with its reason; the few that did not come wait."""
    n_titles_seen: int


def list_source(interval: Interval, settings: CatalogSettings, waiting: Collection[str] = ()) -> Listing:
    """Ask the source that is set for the trailers of an interval.

    Args:
        interval: the listing dates.
        settings: which source, and how politely.
        waiting: ids of films that did not come before and are asked for again.

    Raises:
        SettingsError: its terms have to be accepted first.
        SourceBlockedError: it does not want robots.
        SourceUnavailableError: it does not answer, or too few of its pages came.
        RateLimitedError: it asked for a longer wait than is set.
    """
    from trailer_ml.catalog import imdb_html

    sources = {"imdb_html": imdb_html}
    source = sources[settings.source]
    if not settings.accept_terms:
        raise SettingsError(f"{source.TERMS} If that is so, set TRAILER_CATALOG_ACCEPT_TERMS=true")
    listing: Listing = source.list_trailers(interval, settings, waiting)
    return listing
