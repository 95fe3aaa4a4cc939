"""What a source of trailers has to be, and asking those that are set.

A source is a module in sources/, known here by its name, with

    TERMS           what its owner says about using it
    NEEDS_CONSENT   whether a person has to say that the terms are kept, in `catalog.accept_terms`
    HAS_DATES       whether it says itself when a trailer was listed; one that does not cannot go back in time: its
                    trailers are listed on the day before the crawl, which is when they were first seen
    list_trailers(interval, settings) -> iterator of Trailer and of Quarantine (a title without a trailer, and why)

imdb_html takes a third argument, the films that did not come before. imdb_datasets has no trailers: it joins what it
knows of films to those of the others.

Does not belong here: a source itself, and keeping what was found (crawl.py).
"""

from __future__ import annotations

import importlib
import json
import logging
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast, get_args

from trailer_ml.catalog.blocked import note_blocked
from trailer_ml.catalog.findings import is_latest
from trailer_ml.errors import SettingsError
from trailer_ml.records import Quarantine, SourceTerms, Trailer
from trailer_ml.settings import SourceName

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from trailer_ml.records import Interval
    from trailer_ml.settings import CatalogSettings, Settings
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)

Found = Trailer | Quarantine
SOURCE_NAMES: tuple[SourceName, ...] = get_args(SourceName)


class Source(Protocol):
    """A module of sources/."""

    TERMS: str
    NEEDS_CONSENT: bool
    HAS_DATES: bool

    def list_trailers(self, interval: Interval, settings: Settings) -> Iterator[Found]:
        """What it has; of any date where it cannot be asked for an interval.

        Raises:
            SettingsError: something is missing to ask it: a path, a key.
            SourceBlockedError: it does not want robots.
            SourceUnavailableError: it does not answer, or not as it should.
            RateLimitedError: it asked for a longer wait than is set.
        """
        ...


class Listing(NamedTuple):
    """What the sources found, whole: one that could not read what it should have raises instead."""

    trailers: tuple[Trailer, ...]
    """Each id once, as the first source that has it says, in the order of the ids."""
    set_aside: tuple[Quarantine, ...]
    """Titles that have no trailer here, each with its reason."""
    n_titles_seen: int


def load_source(name: SourceName) -> Source:
    """The module of a source."""
    return cast("Source", importlib.import_module(f"trailer_ml.catalog.sources.{name}"))


def list_sources(interval: Interval, settings: Settings, store: Store, waiting: Collection[str] = ()) -> Listing:
    """Ask every source that is set for the trailers of an interval.

    Args:
        interval: the listing dates.
        settings: all; `catalog` and `sources` are read.
        store: where it is said which of them block us.
        waiting: ids of films that did not come before and are asked for again, by the source that can.

    Raises:
        SettingsError: the terms of one have to be accepted first, or something is missing to ask it.
        SourceBlockedError: one does not want robots.
        SourceUnavailableError: one does not answer, or not as it should.
        RateLimitedError: one asked for a longer wait than is set.
    """
    from trailer_ml.catalog.sources import imdb_datasets

    check_consent(settings.catalog)
    trailers: dict[str, Trailer] = {}
    set_aside: dict[str, Quarantine] = {}
    films: set[str] = set()
    for name in settings.catalog.sources:
        for found in _ask(name, interval, settings, store, waiting):
            if isinstance(found, Quarantine):
                set_aside.setdefault(found.id, found)
                films.add(found.id)
            else:
                trailers.setdefault(found.trailer_id, found)
                films.add(found.film_id)
    if "imdb_datasets" in settings.catalog.sources:
        joined = list(imdb_datasets.join_titles(trailers.values(), settings))
        trailers = {found.trailer_id: found for found in joined if isinstance(found, Trailer)}
        set_aside |= {found.id: found for found in joined if isinstance(found, Quarantine)}
    return Listing(
        trailers=tuple(trailers[trailer_id] for trailer_id in sorted(trailers)),
        set_aside=tuple(set_aside[film_id] for film_id in sorted(set_aside)),
        n_titles_seen=len(films),
    )


def _ask(
    name: SourceName, interval: Interval, settings: Settings, store: Store, waiting: Collection[str]
) -> Iterator[Found]:
    source = load_source(name)
    if not (source.HAS_DATES or is_latest(interval)):
        logger.warning("%s cannot go back in time: what it has is listed when yesterday is crawled", name)
        return
    with note_blocked(name, store):
        if name == "imdb_html":
            from trailer_ml.catalog.sources import imdb_html

            yield from imdb_html.list_trailers(interval, settings, waiting)
        else:
            yield from source.list_trailers(interval, settings)


def describe_sources(catalog: CatalogSettings) -> Iterator[SourceTerms]:
    """Every source there is, with its terms."""
    for name in SOURCE_NAMES:
        source = load_source(name)
        yield SourceTerms(
            name=name,
            is_asked=name in catalog.sources,
            is_allowed=not source.NEEDS_CONSENT or name in catalog.accept_terms,
            terms=source.TERMS,
        )


def check_consent(catalog: CatalogSettings) -> None:
    """Raise unless the terms of every source that is set are accepted, where they have to be.

    Raises:
        SettingsError: with the terms.
    """
    for name in catalog.sources:
        source = load_source(name)
        if source.NEEDS_CONSENT and name not in catalog.accept_terms:
            accepted = json.dumps([*catalog.accept_terms, name])
            raise SettingsError(f"{source.TERMS} If that is so: TRAILER_CATALOG_ACCEPT_TERMS='{accepted}'")
