"""Endpoints for the films of an ads run and the ads that each of them was given, and for the frames of an ad.

Does not belong here: the ads with their films (findings.py), and giving ads to films (search/placements.py).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from trailer_ml.records import ID_PATTERN, FilmAds
from trailer_ml.search.report import sort_films
from trailer_ml.search.service.answers import AdsFilm, AdsFilmsAnswer
from trailer_ml.search.service.catalogue import fold
from trailer_ml.search.service.problems import describe
from trailer_ml.search.service.sending import RunInPath, send, send_bytes, service_of, waits
from trailer_ml.storage import ads_key

if TYPE_CHECKING:
    from trailer_ml.records import EmbeddedTrailer
    from trailer_ml.search.service.live import Snapshot
    from trailer_ml.storage import Store

router = APIRouter(tags=["findings"])
AdInPath = Annotated[str, Path(pattern=ID_PATTERN, examples=["ad-horror"])]


@router.get("/ads/{run}/films", response_model=AdsFilmsAnswer, responses=describe(404, 422, 503))
@waits
def list_films(
    request: Request,
    run: RunInPath,
    q: Annotated[str, Query(max_length=100)] = "",
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 60,
) -> Response:
    """For each film the ads that it was given, best first; the film that an ad suits best comes first.

    A film is shown by a trailer of it: one that was left out of the index since, or taken down, has none.
    """
    service = service_of(request)
    snapshot, words = service.live.snapshot(), fold(q).split()
    found = [
        (trailer, film)
        for film in service.placed.read(run)
        if (trailer := _trailer_of(film, snapshot)) and all(word in fold(trailer.title) for word in words)
    ]
    films = tuple(AdsFilm(trailer=trailer, ads=film.ads) for trailer, film in found[offset : offset + limit])
    return send(AdsFilmsAnswer(run=run, n=len(found), offset=offset, films=films), request)


@router.get(
    "/ads/{run}/pictures/{ad}.jpg",
    response_class=Response,
    responses={
        200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
        304: {"description": "Not Modified"},
        **describe(404, 422, 503),
    },
)
@waits
def show_frames_of_ad(request: Request, run: RunInPath, ad: AdInPath) -> Response:
    """The frames of an ad, squares side by side; `frame_times_s` of the ad says when each is in it."""
    data = service_of(request).store.read_bytes(ads_key(run, f"pictures/{ad}.jpg"))
    return send_bytes(data, "image/jpeg", request)


class PlacedFilms:
    """Reads the films of a run, and remembers those that were asked for last: of a large catalogue they are 10 MB.

    Args:
        store: where the runs are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._tag: tuple[str, str | None] = ("", None)
        self._films: list[FilmAds] = []

    def read(self, run: str) -> list[FilmAds]:
        """Those that were given an ad, the film that an ad suits best first.

        Raises:
            MissingObjectError: there is no such run.
        """
        key = ads_key(run, "films.jsonl")
        with self._lock:
            tag = key, self._store.tag_of(key)
            if tag != self._tag or tag[1] is None:
                films = [FilmAds.model_validate_json(line) for line in self._store.read_bytes(key).splitlines()]
                self._films = sort_films(films)
                self._tag = tag
            return self._films


def _trailer_of(film: FilmAds, snapshot: Snapshot) -> EmbeddedTrailer | None:
    rows = snapshot.index.rows_of_film.get(film.film_id, ())
    row = next((row for row in rows if row not in snapshot.rows_taken_down), None)
    return None if row is None else snapshot.index.trailers[row]
