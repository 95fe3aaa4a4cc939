"""Endpoints for what was found over the whole catalogue: near-duplicates, and ads beside films.

Does not belong here: finding.
"""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from trailer_ml.records import AdMatch
from trailer_ml.search.service.answers import AdsAnswer, AdsRunsAnswer, DuplicatesAnswer
from trailer_ml.search.service.problems import describe
from trailer_ml.search.service.sending import RunInPath, send, service_of
from trailer_ml.storage import ads_key

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from trailer_ml.records import DuplicateGroup

router = APIRouter(tags=["findings"])
_REPORT_CSP = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox"


@router.get("/duplicates", response_model=DuplicatesAnswer, responses=describe(503))
def list_duplicates(request: Request) -> Response:
    """Groups of trailers that are nearly the same. The first who asks of a new index waits for it."""
    snapshot, groups = service_of(request).duplicates()
    kept = (_leave_out(group, snapshot.taken_down) for group in groups)
    return send(DuplicatesAnswer(**snapshot.versions, groups=tuple(group for group in kept if group)), request)


@router.get("/ads", response_model=AdsRunsAnswer, responses=describe(503))
def list_runs(request: Request) -> Response:
    """The runs of ads that there are."""
    keys = service_of(request).store.list_keys("ads/")
    runs = {key.split("/")[1] for key in keys if key.endswith("/matches.jsonl")}
    return send(AdsRunsAnswer(runs=tuple(sorted(runs, reverse=True))))


@router.get("/ads/{run}", response_model=AdsAnswer, responses=describe(404, 422, 503))
def show_run(request: Request, run: RunInPath) -> Response:
    """One run of ads: for each its films, best first."""
    service = service_of(request)
    gone = service.live.snapshot().taken_down
    ads = _read_ads(request, run)
    has_report = not _names(ads) & gone and service.store.exists(ads_key(run, "report.html"))
    kept = tuple(
        ad.model_copy(
            update={
                "films": tuple(film for film in ad.films if film.best.trailer_id not in gone),
                "source": ad.source if ad.source.startswith(("http://", "https://")) else PurePath(ad.source).name,
            }
        )
        for ad in ads
    )
    return send(AdsAnswer(run=run, has_report=has_report, ads=kept))


@router.get(
    "/ads/{run}/report",
    response_class=Response,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}, **describe(404, 422, 503)},
)
def show_report(request: Request, run: RunInPath) -> Response:
    """Its page, with the frames of the ads; not once a trailer on it was taken down."""
    service = service_of(request)
    if _names(_read_ads(request, run)) & service.live.snapshot().taken_down:
        raise HTTPException(404, "a trailer of this report was taken down: make the run again")
    page = service.store.read_bytes(ads_key(run, "report.html"))
    return Response(page, headers={"Content-Security-Policy": _REPORT_CSP}, media_type="text/html")


def _read_ads(request: Request, run: str) -> tuple[AdMatch, ...]:
    lines = service_of(request).store.read_bytes(ads_key(run, "matches.jsonl")).splitlines()
    return tuple(AdMatch.model_validate(json.loads(line)) for line in lines)


def _names(ads: tuple[AdMatch, ...]) -> frozenset[str]:
    return frozenset(film.best.trailer_id for ad in ads for film in ad.films)


def _leave_out(group: DuplicateGroup, gone: AbstractSet[str]) -> DuplicateGroup | None:
    """A group without what was taken down; None where less than two trailers are left."""
    trailers = tuple(trailer for trailer in group.trailers if trailer.trailer_id not in gone)
    pairs = tuple(pair for pair in group.pairs if pair[0] not in gone and pair[1] not in gone)
    return group.model_copy(update={"trailers": trailers, "pairs": pairs}) if len(trailers) > 1 else None
