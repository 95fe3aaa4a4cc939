"""Endpoints for what was found over the whole catalogue: near-duplicates, and ads beside films.

Does not belong here: finding.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from trailer_ml.errors import MissingObjectError, RateLimitedError
from trailer_ml.records import AdFilm, AdMatch, FilmAds
from trailer_ml.search.report import N_FILMS, show_source
from trailer_ml.search.service.answers import AdsAnswer, AdsRunsAnswer, DuplicatesAnswer
from trailer_ml.search.service.problems import describe
from trailer_ml.search.service.sending import RunInPath, send, service_of, waits
from trailer_ml.storage import ads_key

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from trailer_ml.records import DuplicateGroup, Neighbour
    from trailer_ml.search.service.live import Snapshot

router = APIRouter(tags=["findings"])
_REPORT_CSP = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox"


@router.get("/duplicates", response_model=DuplicatesAnswer, responses=describe(422, 503))
async def list_duplicates(
    request: Request,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 60,
) -> Response:
    """Groups of trailers that are nearly the same, the closest first.

    Those of a new index are looked for when somebody first asks: where that takes more than 20 s the answer is 503,
    with the time after which to ask again.
    """
    try:
        snapshot, groups = await service_of(request).twins.wait()
    except RateLimitedError as error:
        raise HTTPException(503, str(error), {"Retry-After": f"{error.retry_after_s:.0f}"}) from error
    kept = [group for group in (_leave_out(group, snapshot.taken_down) for group in groups) if group]
    answer = DuplicatesAnswer(
        **snapshot.versions, n=len(kept), offset=offset, groups=tuple(kept[offset : offset + limit])
    )
    return send(answer, request)


@router.get("/ads", response_model=AdsRunsAnswer, responses=describe(503))
@waits
def list_runs(request: Request) -> Response:
    """The runs of ads that there are."""
    keys = service_of(request).store.list_keys("ads/")
    runs = {key.split("/")[1] for key in keys if key.endswith("/matches.jsonl")}
    return send(AdsRunsAnswer(runs=tuple(sorted(runs, reverse=True))))


@router.get("/ads/{run}", response_model=AdsAnswer, responses=describe(404, 422, 503))
@waits
def show_run(request: Request, run: RunInPath) -> Response:
    """One run of ads: for each its films, best first."""
    service = service_of(request)
    ads = _read_ads(request, run)
    snapshot = service.live.snapshot()  # now: reading takes a while
    has_report = _may_be_shown(ads, _read_films(request, run), snapshot)
    has_report = has_report and service.store.exists(ads_key(run, "report.html"))
    kept = tuple(
        show_source(ad).model_copy(update={"films": _leave_out_films(ad.films, snapshot.taken_down)}) for ad in ads
    )
    return send(AdsAnswer(run=run, has_report=has_report, ads=kept))


@router.get(
    "/ads/{run}/report",
    response_class=Response,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}, **describe(404, 422, 503)},
)
@waits
def show_report(request: Request, run: RunInPath) -> Response:
    """Its page, with the frames of the ads; not once a trailer on it was taken down."""
    service = service_of(request)
    page = service.store.read_bytes(ads_key(run, "report.html"))
    if not _may_be_shown(_read_ads(request, run), _read_films(request, run), service.live.snapshot()):
        raise HTTPException(404, "a trailer of this report was taken down, or a film of it is in the index no more")
    return Response(page, headers={"Content-Security-Policy": _REPORT_CSP}, media_type="text/html")


def _read_ads(request: Request, run: str) -> tuple[AdMatch, ...]:
    lines = service_of(request).store.read_bytes(ads_key(run, "matches.jsonl")).splitlines()
    return tuple(AdMatch.model_validate(json.loads(line)) for line in lines)


def _read_films(request: Request, run: str) -> list[FilmAds]:
    """Those whose titles stand on the page of a run."""
    try:
        return service_of(request).placed.read(run)[:N_FILMS]
    except MissingObjectError:
        return []


def _may_be_shown(ads: tuple[AdMatch, ...], films: list[FilmAds], snapshot: Snapshot) -> bool:
    """Whether no trailer whose picture is on a page was taken down, nor the last one of a film whose title is there."""
    rows_of_film, gone = snapshot.index.rows_of_film, snapshot.rows_taken_down
    return all(film.best.trailer_id not in snapshot.taken_down for ad in ads for film in ad.films) and all(
        any(row not in gone for row in rows_of_film.get(film.film_id, ())) for film in films
    )


def _leave_out_films(films: tuple[AdFilm, ...], gone: AbstractSet[str]) -> tuple[AdFilm, ...]:
    """Those whose trailer was not taken down, naming no other one that was."""
    return tuple(
        film.model_copy(update={"best": _leave_out_also(film.best, gone)})
        for film in films
        if film.best.trailer_id not in gone
    )


def _leave_out_also(best: Neighbour, gone: AbstractSet[str]) -> Neighbour:
    return best.model_copy(update={"also": tuple(each for each in best.also if each not in gone)})


def _leave_out(group: DuplicateGroup, gone: AbstractSet[str]) -> DuplicateGroup | None:
    """A group without what was taken down, nor what was linked to that alone; None where nothing is left."""
    if gone.isdisjoint(trailer.trailer_id for trailer in group.trailers):
        return group
    places = [place for place, (one, other, _) in enumerate(group.pairs) if one not in gone and other not in gone]
    linked = {trailer_id for place in places for trailer_id in group.pairs[place][:2]}
    if not linked:
        return None
    return group.model_copy(
        update={
            "trailers": tuple(trailer for trailer in group.trailers if trailer.trailer_id in linked),
            "pairs": tuple(group.pairs[place] for place in places),
            "evidence": tuple(group.evidence[place] for place in places) if group.evidence else (),
        }
    )
