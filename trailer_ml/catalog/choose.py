"""Which trailers of a film are kept, and why; and which a person should look at first.

What a source offers as a trailer may be a clip, an interview, a fan's cut or another film. Kind, official or not,
language, length and title each speak for or against it, in points and in words; the words stay with the trailer.

Does not belong here: which trailers are of one film (films.py).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from trailer_ml.catalog.findings import set_aside
from trailer_ml.catalog.names import comparable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from trailer_ml.records import Quarantine, Trailer
    from trailer_ml.settings import Settings

REVIEW = "review"
"""The reason under which a doubtful trailer is set aside until a person says yes."""

_KIND_POINTS = {"trailer": 3, "teaser": 2, "recut": 1, "video": 1}
"""`video` is what a source says that does not tell them apart; a whole film is too long to be downloaded."""
_GOOD_LENGTH_S = (45.0, 240.0)
_LONGEST_S = 600.0
_DOUBTFUL = re.compile(
    r"\b(interviews?|reviews?|reactions?|react|explained|breakdown|fan[ -]?made|concept|parody|spoof|gameplay|"
    r"featurette|behind the scenes|making of|full movie|soundtrack|ost|song|lyrics?|clip|scene|bloopers?|"
    r"q&a|press conference)\b",
    re.IGNORECASE,
)

_PLAIN = {"official", "teaser", "trailer", "main", "final", "new", "international", "redband", "hd", "4k", "us", "uk"}
"""Words that any trailer may be called by."""


class _Judged(NamedTuple):
    points: int
    reasons: tuple[str, ...]
    doubt: str
    """Why a person should look at it first; empty: no need."""


def choose_trailers(
    trailers: Iterable[Trailer], known: Iterable[Trailer], accepted: Collection[str], settings: Settings
) -> Iterator[Trailer | Quarantine]:
    """The best trailers of each film, each with what spoke for it, and for each other one why it is not in.

    Args:
        trailers: new ones, their films merged; their order does not matter.
        known: those of the catalog: they stay, and count.
        accepted: ids that a person has looked at and wants.
        settings: all; `catalog.trailers_per_film` and `sources.language` are read.
    """
    n_known = Counter(trailer.film_id for trailer in known)
    films: Mapping[str, list[Trailer]] = defaultdict(list)
    for trailer in trailers:
        films[trailer.film_id].append(trailer)
    for film_id, offered in sorted(films.items()):
        yield from _choose(offered, n_known[film_id], accepted, settings)


def _choose(
    offered: list[Trailer], n_known: int, accepted: Collection[str], settings: Settings
) -> Iterator[Trailer | Quarantine]:
    judged = {trailer.trailer_id: judge(trailer, settings.sources.language) for trailer in offered}
    n_kept = n_known
    for trailer in sorted(offered, key=lambda trailer: (-judged[trailer.trailer_id].points, trailer.trailer_id)):
        points, reasons, doubt = judged[trailer.trailer_id]
        if doubt and trailer.trailer_id not in accepted:
            name = trailer.video_title or trailer.title
            yield set_aside(trailer.trailer_id, REVIEW, f"{doubt}: {name} ({trailer.source_url})")
        elif n_kept >= settings.catalog.trailers_per_film:
            detail = f"{trailer.film_id} has better ones; this one: {', '.join(reasons)}"
            yield set_aside(trailer.trailer_id, "not_chosen", detail)
        else:
            n_kept += 1
            yield trailer.model_copy(update={"chosen_for": (*reasons, f"{points} points")})


def judge(trailer: Trailer, language: str) -> _Judged:
    """Points, what they are for, and whether it is likely no trailer of this film at all.

    Args:
        trailer: as its source says.
        language: the one that is wanted, as two letters.
    """
    verdicts = [_of_kind(trailer), _of_language(trailer, language), _of_length(trailer), _of_title(trailer)]
    if trailer.is_official is not None:
        verdicts.append(
            _Judged(2 if trailer.is_official else 0, ("official" if trailer.is_official else "not official",), "")
        )
    return _Judged(
        sum(verdict.points for verdict in verdicts),
        tuple(reason for verdict in verdicts for reason in verdict.reasons),
        next((verdict.doubt for verdict in verdicts if verdict.doubt), ""),
    )


def _of_kind(trailer: Trailer) -> _Judged:
    points = _KIND_POINTS.get(trailer.kind, 0)
    return _Judged(points, (trailer.kind,), "" if points else f"its source calls it a {trailer.kind}")


def _of_language(trailer: Trailer, language: str) -> _Judged:
    if not trailer.language:
        return _Judged(0, (), "")
    return _Judged(1 if trailer.language == language else -2, (f"language {trailer.language}",), "")


def _of_length(trailer: Trailer) -> _Judged:
    if trailer.duration_s is None:
        return _Judged(0, (), "")
    shortest_s, longest_s = _GOOD_LENGTH_S
    is_good = shortest_s <= trailer.duration_s <= longest_s
    doubt = f"{trailer.duration_s:.0f} s is long for a trailer" if trailer.duration_s > _LONGEST_S else ""
    return _Judged(int(is_good), (f"{trailer.duration_s:.0f} s",), doubt)


def _of_title(trailer: Trailer) -> _Judged:
    """What the video is called, where that is known: it should name the film, and nothing that is no trailer."""
    if not trailer.video_title:
        return _Judged(0, (), "")
    film = comparable(trailer.title)
    rest = re.sub(re.escape(trailer.title), "", trailer.video_title, flags=re.IGNORECASE)
    if found := _DOUBTFUL.search(rest):
        return _Judged(-3, (f"called {found[0].lower()}",), f"its title says {found[0].lower()}")
    words = set(comparable(trailer.video_title).split())
    named = sum(word in words for word in film.split())
    if film and named == len(film.split()):
        return _Judged(2, ("its title names the film",), "")
    others = {word for word in words if not word.isdigit()} - _PLAIN
    doubt = "its title does not name the film" if others and not named else ""
    return _Judged(0, (), doubt)
