"""The film site: every path over real HTTP, its moods, and a download by yt-dlp's own generic extractor."""

import json
import re
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from http.client import HTTPMessage
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from trailer_ml.demo.site import run_site
from trailer_ml.demo.world import World, read_world
from trailer_ml.errors import MissingObjectError
from trailer_ml.processes import start_child


class Answer(NamedTuple):
    status: int
    headers: HTTPMessage
    body: bytes


def ask(url: str, *, method: str = "GET", **headers: str) -> Answer:
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


class _Scripts(HTMLParser):
    """The JSON of a page's scripts, by what marks them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, Any] = {}
        self._mark: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._mark = dict(attrs).get("id") or dict(attrs).get("type") if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._mark:
            self.found[self._mark] = json.loads(data)

    def handle_endtag(self, _tag: str) -> None:
        self._mark = None


def scripts(answer: Answer) -> dict[str, Any]:
    parser = _Scripts()
    parser.feed(answer.body.decode())
    return parser.found


def page_props(answer: Answer) -> dict[str, Any]:
    return scripts(answer)["__NEXT_DATA__"]["props"]["pageProps"]


@pytest.fixture(scope="module")
def world(world_folder: Path) -> World:
    return read_world(world_folder)


@pytest.fixture
def site(world_folder: Path) -> Iterator[str]:
    with run_site(world_folder) as url:
        yield url


def test_it_listens_on_loopback_and_stops_with_the_block(world_folder: Path) -> None:
    with run_site(world_folder) as url:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        assert ask(f"{url}/robots.txt").status == 200
    with pytest.raises(urllib.error.URLError, match="refused"):
        ask(f"{url}/robots.txt")


def test_a_taken_port_and_a_missing_world_are_said(world_folder: Path, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OSError, match="in use"), run_site(world_folder, port=other.getsockname()[1]):
            pass
    with pytest.raises(MissingObjectError, match="no finished film world"), run_site(tmp_path):
        pass


def test_robots_are_kept_out_of_the_search(site: str) -> None:
    answer = ask(f"{site}/robots.txt")

    assert answer.headers.get_content_type() == "text/plain"
    assert b"Disallow: /search/" in answer.body.splitlines()


def test_the_chart_lists_every_title_once(site: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trailer_ml.demo.pages.PAGE_SIZE", 8)
    address: str | None = f"{site}/chart/moviemeter/"
    nodes, n_pages = [], 0
    while address:
        answer = ask(address)
        nodes += [edge["node"] for edge in page_props(answer)["pageData"]["chartTitles"]["edges"]]
        more = re.search(r'<a rel="next" href="([^"]+)">', answer.body.decode())
        address = f"{site}/chart/moviemeter/{more[1]}" if more else None
        n_pages += 1

    assert n_pages == 3
    assert sorted(node["id"] for node in nodes) == sorted(film.film_id for film in world.films)
    first = world.film(nodes[0]["id"])
    assert nodes[0]["titleText"]["text"] == first.title
    assert [genre["genre"]["text"] for genre in nodes[0]["titleGenres"]["genres"]] == list(first.genres)


@pytest.mark.parametrize("page", ["0", "99", "x", "-1", ""])
def test_there_is_no_such_page_of_the_chart(site: str, page: str) -> None:
    assert ask(f"{site}/chart/moviemeter/?page={page}").status == 404


def test_a_title_page_has_the_shape_of_imdb(site: str, world: World) -> None:
    clip = world.odd("recut")
    film = world.film(clip.film_id)
    found = scripts(ask(f"{site}/title/{film.film_id}/"))
    above = found["__NEXT_DATA__"]["props"]["pageProps"]["aboveTheFoldData"]
    nodes = [edge["node"] for edge in above["primaryVideos"]["edges"]]

    assert above["id"] == film.film_id
    assert above["titleText"]["text"] == film.title
    assert above["titleType"]["id"] == "movie"
    assert above["releaseYear"]["year"] == film.year
    assert [genre["text"] for genre in above["genres"]["genres"]] == list(film.genres)
    assert above["plot"]["plotText"]["plainText"] == film.plot
    assert above["runtime"]["seconds"] == film.runtime_s
    assert [node["contentType"]["displayName"]["value"] for node in nodes] == ["Trailer", "Teaser", "Recut"]
    assert nodes[2]["id"] == clip.video_id
    assert nodes[2]["createdDate"].startswith(clip.listed_on.isoformat())
    assert nodes[2]["runtime"]["value"] == clip.duration_s
    assert ask(nodes[2]["playbackURLs"][0]["url"], method="HEAD").status == 200
    assert ask(nodes[2]["thumbnail"]["url"]).headers.get_content_type() == "image/svg+xml"
    linked = found["application/ld+json"]
    assert (linked["@type"], linked["genre"]) == ("Movie", list(film.genres))
    assert linked["trailer"]["embedUrl"].endswith(f"/video/imdb/{nodes[0]['id']}")
    assert "contentUrl" not in linked["trailer"]


def test_json_ld_carries_html_entities_and_next_data_does_not(site: str, world: World) -> None:
    film = next(film for film in world.films if "&" in film.plot)
    found = scripts(ask(f"{site}/title/{film.film_id}/"))

    assert "&amp;" in found["application/ld+json"]["description"]
    above = found["__NEXT_DATA__"]["props"]["pageProps"]["aboveTheFoldData"]
    assert "&amp;" not in above["plot"]["plotText"]["plainText"]


def test_a_series_and_a_title_without_trailer_say_so(site: str, world: World) -> None:
    series = page_props(ask(f"{site}/title/{world.odd('series').film_id}/"))["aboveTheFoldData"]
    without = page_props(ask(f"{site}/title/{world.titles_without_trailer[0]}/"))["aboveTheFoldData"]

    assert (series["titleType"]["id"], len(series["primaryVideos"]["edges"])) == ("tvSeries", 1)
    assert (without["titleType"]["id"], without["primaryVideos"]["edges"]) == ("movie", [])


def test_a_two_genre_film_names_both(site: str, world: World) -> None:
    film_id = world.odd("two_genres").film_id
    above = page_props(ask(f"{site}/title/{film_id}/"))["aboveTheFoldData"]

    assert tuple(genre["text"] for genre in above["genres"]["genres"]) == world.film(film_id).genres


def test_a_video_page_has_a_player_and_its_data(site: str, world: World) -> None:
    clip = world.clips[0]
    answer = ask(f"{site}/video/{clip.video_id}/")
    video = page_props(answer)["videoPlaybackData"]["video"]

    assert f'<video controls src="/media/{clip.video_id}.mp4">' in answer.body.decode()
    assert (video["id"], video["name"]["value"]) == (clip.video_id, clip.name)
    assert video["playbackURLs"][0]["url"] == f"{site}/media/{clip.video_id}.mp4"


@pytest.mark.parametrize(
    "path", ["/title/tt1/", "/video/vi1/", "/media/vi1.mp4", "/ads/x.mp4", "/poster/tt1.svg", "/find"]
)
def test_what_is_not_there_is_404(site: str, path: str) -> None:
    assert ask(site + path).status == 404


def test_media_can_be_had_in_parts(site: str, world: World, world_folder: Path) -> None:
    clip = world.clips[0]
    address = f"{site}/media/{clip.video_id}.mp4"
    content = (world_folder / clip.file).read_bytes()
    whole, head = ask(address), ask(address, method="HEAD")
    part, tail = ask(address, Range="bytes=100-199"), ask(address, Range=f"bytes={len(content) - 7}-")
    beyond = ask(address, Range=f"bytes={len(content)}-")

    assert (whole.status, whole.body) == (200, content)
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(content)))
    assert whole.headers["Accept-Ranges"] == head.headers["Accept-Ranges"] == "bytes"
    assert whole.headers["Content-Type"] == "video/mp4"
    assert whole.headers["ETag"] == head.headers["ETag"]
    assert (part.status, part.body) == (206, content[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(content)}"
    assert (tail.status, tail.body) == (206, content[-7:])
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{len(content)}")


def test_one_video_is_gone_but_its_pages_are_not(site: str, world: World) -> None:
    clip = world.odd("gone")

    assert ask(f"{site}/title/{clip.film_id}/").status == 200
    assert ask(f"{site}/video/{clip.video_id}/").status == 200
    assert ask(f"{site}/media/{clip.video_id}.mp4").status == 404


def test_one_video_is_refused_twice_and_then_given(site: str, world: World) -> None:
    clip = world.odd("rate_limited")
    answers = [ask(f"{site}/media/{clip.video_id}.mp4") for _ in range(4)]

    assert [answer.status for answer in answers] == [429, 429, 200, 200]
    assert answers[0].headers["Retry-After"] == "1"
    assert ask(f"{site}/video/{clip.video_id}/").status == 200


def test_the_commercials_are_listed_and_there(site: str, world: World, world_folder: Path) -> None:
    listed = json.loads(ask(f"{site}/ads/ads.json").body)

    assert [ad["genre"] for ad in listed] == [ad.genre for ad in world.ads]
    for entry, ad in zip(listed, world.ads, strict=True):
        assert entry["url"] == f"{site}/ads/{ad.name}.mp4"
        assert ask(entry["url"]).body == (world_folder / ad.file).read_bytes()


def test_robots_can_be_challenged(site: str, world: World, world_folder: Path) -> None:
    path = f"/title/{world.films[0].film_id}/"
    here = ask(f"{site}/challenge{path}")
    with run_site(world_folder, challenge=True) as url:
        everywhere = ask(url + path)
        chart = ask(f"{url}/chart/moviemeter/")

    for answer in (here, everywhere):
        assert (answer.status, answer.headers["x-amzn-waf-action"]) == (202, "challenge")
        assert b"__NEXT_DATA__" not in answer.body
    assert chart.status == 200


def test_requests_are_counted(site: str, world: World) -> None:
    path = f"/media/{world.clips[0].video_id}.mp4"
    for _ in range(3):
        ask(site + path)
    ask(site + path, method="HEAD")

    counts = json.loads(ask(f"{site}/_requests").body)
    assert counts == {f"GET {path}": 3, f"HEAD {path}": 1}


def test_a_report_is_served_and_nothing_beside_it(world_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("no")
    with run_site(world_folder, report_folder=tmp_path / "report") as url:
        (tmp_path / "report" / "index.html").write_text("the report")
        assert ask(f"{url}/report/").body == b"the report"
        assert ask(f"{url}/report/%2e%2e/secret").status == 404
        assert ask(f"{url}/report/..%2fsecret").status == 404


def test_yt_dlp_takes_a_video_page(site: str, world: World, world_folder: Path, tmp_path: Path) -> None:
    import yt_dlp

    clip = world.clips[0]
    options = {"outtmpl": str(tmp_path / "got.%(ext)s"), "quiet": True, "noprogress": True, "cachedir": False}
    with yt_dlp.YoutubeDL({**options, "allowed_extractors": ["generic", "html5"]}) as downloader:
        downloader.download([f"{site}/video/{clip.video_id}/"])

    assert (tmp_path / "got.mp4").read_bytes() == (world_folder / clip.file).read_bytes()


def test_it_runs_as_a_process_of_its_own(world_folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        log.open("wb") as stdout,
        start_child([sys.executable, "-m", "trailer_ml.demo.site", str(world_folder)], stdout=stdout) as child,
    ):
        while not log.read_text().endswith("\n"):
            assert child.process.poll() is None, child.stderr_tail()
        url = log.read_text().split()[-1]
        assert ask(f"{url}/robots.txt").status == 200
