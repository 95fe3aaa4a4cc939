"""Endpoints about trailers: the catalogue, one of them, those like it, and all of them on a map.

Does not belong here: pictures (pictures.py).
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field

from trailer_ml.search.filters import ANY, Filters
from trailer_ml.search.neighbours import find_neighbours
from trailer_ml.search.service.answers import MapAnswer, SimilarAnswer, TrailerAnswer, TrailersAnswer
from trailer_ml.search.service.problems import describe
from trailer_ml.search.service.sending import TrailerIdInPath, computes, send, service_of, waits

router = APIRouter(tags=["trailers"])
MAX_K = 100
K = Annotated[int, Query(ge=1, le=MAX_K, description="how many answers")]
Names = Annotated[list[Annotated[str, Field(max_length=60)]] | tuple[()], Query(max_length=20)]
Year = Annotated[int | None, Query(ge=1870, le=2200)]


@router.get("/trailers", response_model=TrailersAnswer, responses=describe(422, 503))
@computes
def list_trailers(
    request: Request,
    q: Annotated[str, Query(max_length=100, description="words of a title, or an id")] = "",
    genre: Annotated[str, Query(max_length=60)] = "",
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 60,
) -> Response:
    """The trailers of the index, the newest films first."""
    snapshot = service_of(request).live.snapshot()
    rows = snapshot.catalogue.find(q, genre, snapshot.rows_taken_down)
    return send(
        TrailersAnswer(
            **snapshot.versions,
            n=len(rows),
            offset=offset,
            genres=snapshot.genres,
            trailers=tuple(snapshot.index.trailers[row] for row in rows[offset : offset + limit]),
        )
    )


@router.get("/trailers/{trailer_id}", response_model=TrailerAnswer, responses=describe(404, 422, 503))
@waits
def show_trailer(request: Request, trailer_id: TrailerIdInPath) -> Response:
    """One trailer: what is known of it, and what there is to be seen."""
    service = service_of(request)
    snapshot = service.live.snapshot()
    trailer = snapshot.trailer(trailer_id)
    shown = service.showcase.shown(trailer_id)
    return send(
        TrailerAnswer(
            **snapshot.versions,
            trailer=trailer,
            plot=shown.plot,
            source_url=shown.source_url,
            listed_on=shown.listed_on,
            duration_s=shown.duration_s,
            frame_times_s=shown.frame_times_s,
            has_audio=shown.has_audio,
            has_media=bool(service.showcase.media_size(trailer_id)),
        )
    )


@router.get("/trailers/{trailer_id}/similar", response_model=SimilarAnswer, responses=describe(404, 422, 503))
async def find_similar(
    request: Request,
    trailer_id: TrailerIdInPath,
    *,
    k: K = 10,
    same_film: bool = False,
    collapse: bool = True,
    genre: Names = (),
    source: Names = (),
    year_from: Year = None,
    year_to: Year = None,
) -> Response:
    """The trailers nearest to one, best first; those of its own film only if asked for.

    Of another film the best trailer stands for all, and names them (`also`), unless `collapse` is false. A score is a
    cosine, and exactly the sum of its video and audio share.
    """
    snapshot = service_of(request).live.snapshot()
    index, row = snapshot.index, snapshot.row(trailer_id)
    trailer = index.trailers[row]
    own = {row} if same_film else index.rows_of_film[trailer.film_id]
    wanted = Filters(tuple(genre), year_from, year_to, tuple(source))
    find = partial(
        find_neighbours,
        index,
        index.vector(row),
        k,
        model_version=index.manifest.model_version,
        left_out=snapshot.rows_taken_down.union(own),
        one_per_film=collapse and not same_film,
        wanted=wanted,
        genres=trailer.genres,
    )
    # In the event loop on purpose: it takes less time than handing it to a thread, whose search would hold the
    # interpreter's lock all the same. With a filter that few fit it takes longer than others should wait.
    neighbours = find() if wanted == ANY else await service_of(request).apart(find, waits=False)
    return send(SimilarAnswer(**snapshot.versions, trailer_id=trailer_id, neighbours=tuple(neighbours)))


@router.get("/map", response_model=MapAnswer, responses=describe(503))
@computes
def draw_map(request: Request) -> Response:
    """Where every trailer lies, seen along the two directions in which they differ most."""
    service = service_of(request)
    snapshot = service.live.snapshot()
    layout = service.layout(snapshot)
    kept = [row for row in range(len(layout.points)) if row not in snapshot.rows_taken_down]
    trailers = [snapshot.index.trailers[row] for row in kept]
    points = layout.points[kept].round(4).astype(float)
    return send(
        MapAnswer(
            **snapshot.versions,
            explained=layout.explained,
            ids=tuple(trailer.trailer_id for trailer in trailers),
            titles=tuple(trailer.title for trailer in trailers),
            genres=tuple(next(iter(trailer.genres), "") for trailer in trailers),
            x=tuple(points[:, 0].round(4).tolist()),
            y=tuple(points[:, 1].round(4).tolist()),
        ),
        request,
    )
