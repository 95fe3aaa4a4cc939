"""A film site on loopback that serves a made world like the real thing: chart, titles, videos with Range, moods.

    python -m trailer_ml.demo.site FOLDER --port 8123

    /robots.txt  /chart/moviemeter/?page=N  /title/tt…/  /video/vi…/  /media/vi….mp4  /poster/tt….svg
    /ads/ads.json  /ads/ad-….mp4
    /challenge/title/tt…/     what a robot gets once IMDb's firewall has seen it: 202, `x-amzn-waf-action: challenge`
    /report/…                 a folder of files, if one is given
    /_requests                how often each of the above was asked for, as JSON

Does not belong here: what stands on the pages (pages.py).
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from trailer_ml.demo import pages
from trailer_ml.demo.services import LOOPBACK
from trailer_ml.demo.world import read_world
from trailer_ml.errors import ChildTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

REFUSALS = 2
"""How often the trailer that is `rate_limited` is refused before it is given."""


@contextlib.contextmanager
def run_site(
    world_folder: Path, *, port: int = 0, report_folder: Path | None = None, challenge: bool = False
) -> Iterator[str]:
    """Serve while the block runs, from a thread of this process.

    Args:
        world_folder: what make_world made.
        port: where; 0: on any free port.
        report_folder: served below /report/; it may still be empty.
        challenge: answer every title page with a firewall's challenge.

    Yields:
        The address, such as `http://127.0.0.1:8123`.

    Raises:
        MissingObjectError: there is no finished world in the folder.
        OSError: the port is taken.
    """
    application = make_site(world_folder, report_folder=report_folder, challenge=challenge)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        config = uvicorn.Config(
            application,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="film-site", daemon=True)
        thread.start()
        try:
            _wait_until_started(server)
            yield f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


def make_site(world_folder: Path, *, report_folder: Path | None = None, challenge: bool = False) -> ASGIApp:
    """The site as an ASGI application; arguments as of `run_site`."""
    site = _Site(world_folder, challenge=challenge)
    routes = [
        Route("/robots.txt", _robots),
        Route("/chart/moviemeter/", site.chart),
        Route("/title/{film_id}/", site.title),
        Route("/challenge/title/{film_id}/", _challenge),
        Route("/video/{video_id}/", site.video),
        Route("/media/{name}", site.media),
        Route("/poster/{film_id}.svg", site.poster),
        Route("/ads/ads.json", site.ads),
        Route("/ads/{name}", site.ad),
    ]
    if report_folder is not None:
        report_folder.mkdir(parents=True, exist_ok=True)
        routes.append(Mount("/report", StaticFiles(directory=report_folder, html=True)))  # type: ignore[arg-type]
    return _Counting(Starlette(routes=routes))


class _Site:
    """Answers from one world; knows how often it has refused what."""

    def __init__(self, folder: Path, *, challenge: bool) -> None:
        world = read_world(folder)
        self._world = world
        self._folder = folder
        self._challenge = challenge
        self._films = {film.film_id: film for film in world.films}
        self._clips = {clip.video_id: clip for clip in world.clips}
        self._ads = {Path(ad.file).name: ad for ad in world.ads}
        self._n_refused: Counter[str] = Counter()

    async def chart(self, request: Request) -> Response:
        page = request.query_params.get("page", "1")
        text = pages.chart_page(self._world, int(page)) if page.isascii() and page.isdigit() else None
        return _gone() if text is None else HTMLResponse(text)

    async def title(self, request: Request) -> Response:
        if self._challenge:
            return await _challenge(request)
        film = self._films.get(request.path_params["film_id"])
        if film is None:
            return _gone()
        return HTMLResponse(pages.title_page(film, self._world.clips_of(film.film_id), _base(request)))

    async def video(self, request: Request) -> Response:
        clip = self._clips.get(request.path_params["video_id"])
        return (
            _gone() if clip is None else HTMLResponse(pages.video_page(clip, self._films[clip.film_id], _base(request)))
        )

    async def poster(self, request: Request) -> Response:
        film = self._films.get(request.path_params["film_id"])
        return _gone() if film is None else Response(pages.poster(film), media_type="image/svg+xml")

    async def media(self, request: Request) -> Response:
        clip = self._clips.get(request.path_params["name"].removesuffix(".mp4"))
        if clip is None or clip.oddity == "gone":
            return _gone()
        if clip.oddity == "rate_limited" and self._n_refused[clip.video_id] < REFUSALS:
            self._n_refused[clip.video_id] += 1
            return PlainTextResponse("Too many requests\n", status_code=429, headers={"Retry-After": "1"})
        return FileResponse(self._folder / clip.file, media_type="video/mp4")

    async def ads(self, request: Request) -> Response:
        return JSONResponse(pages.ads_list(self._world, _base(request)))

    async def ad(self, request: Request) -> Response:
        ad = self._ads.get(request.path_params["name"])
        return _gone() if ad is None else FileResponse(self._folder / ad.file, media_type="video/mp4")


class _Counting:
    """Counts what passes on its way to an application, and says so at /_requests."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application
        self._counts: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/_requests":
            await JSONResponse(dict(sorted(self._counts.items())))(scope, receive, send)
            return
        self._counts[f"{scope['method']} {scope['path']}"] += 1
        await self._application(scope, receive, send)


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _gone() -> Response:
    return PlainTextResponse("Not found\n", status_code=404)


async def _robots(_: Request) -> Response:
    return PlainTextResponse(pages.ROBOTS)


async def _challenge(_: Request) -> Response:
    return HTMLResponse("<html></html>", status_code=202, headers={"x-amzn-waf-action": "challenge"})


def _wait_until_started(server: uvicorn.Server) -> None:
    deadline = time.monotonic() + 30
    while not server.started:
        if time.monotonic() > deadline:
            raise ChildTimeoutError("the film site did not start within 30 s")
        time.sleep(0.01)


def main(arguments: list[str] | None = None) -> None:
    """Serve until a signal ends the process."""
    parser = argparse.ArgumentParser(
        prog="python -m trailer_ml.demo.site", description="Serve a film world on loopback."
    )
    parser.add_argument("folder", type=Path, help="what make_world made")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--report", type=Path, help="a folder to serve below /report/")
    parser.add_argument("--challenge", action="store_true", help="answer title pages with a firewall's challenge")
    chosen = parser.parse_args(arguments)
    with run_site(chosen.folder, port=chosen.port, report_folder=chosen.report, challenge=chosen.challenge) as url:
        print(f"the film site listens at {url}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
