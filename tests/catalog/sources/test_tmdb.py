import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr

from trailer_ml.catalog.sources import tmdb
from trailer_ml.errors import RateLimitedError, SettingsError, SourceUnavailableError
from trailer_ml.records import Interval, Quarantine, Trailer
from trailer_ml.settings import Settings

TOKEN = "eyJhbGciOiJIUzI1NiJ9.t0ken.0f-nobody"
GENRES = {"genres": [{"id": 28, "name": "Action"}, {"id": 878, "name": "Science Fiction"}]}


def make_video(key: str, **facts: Any) -> dict[str, Any]:
    """An entry of videos.results, as TMDB documents it."""
    return {
        "iso_639_1": "en", "iso_3166_1": "US", "name": f"Video {key}", "key": key, "site": "YouTube", "size": 1080,
        "type": "Trailer", "official": True, "published_at": "2026-11-05T16:00:09.000Z", "id": f"5e38{key}",
    } | facts  # fmt: skip


def make_hit(number: int) -> dict[str, Any]:
    """An entry of discover's results."""
    return {
        "adult": False, "backdrop_path": None, "genre_ids": [28], "id": number, "original_language": "en",
        "original_title": f"Film {number}", "overview": "Things happen.", "popularity": 581.092, "poster_path": None,
        "release_date": "2026-12-18", "title": f"Film {number}", "video": False, "vote_average": 0.0, "vote_count": 0,
    }  # fmt: skip


def make_film(number: int, videos: list[Any], **facts: Any) -> dict[str, Any]:
    """What /movie/{id} answers with videos and external_ids appended."""
    return make_hit(number) | {
        "genres": [{"id": 28, "name": "Azione"}, {"id": 878, "name": "Fantascienza"}], "homepage": "",
        "imdb_id": f"tt{number:07d}", "runtime": 0, "status": "Post Production", "tagline": "",
        "videos": {"results": videos},
        "external_ids": {"imdb_id": f"tt{number:07d}", "wikidata_id": None, "facebook_id": None},
    } | facts  # fmt: skip


@pytest.fixture
def crawl(api: Any, make_settings: Callable[..., Settings], november: Interval) -> Callable[..., Any]:
    """Lists what TMDB has, and puts an answer for each film that discover shows."""

    def crawl(**settings: Any) -> list[Trailer | Quarantine]:
        made = make_settings(tmdb_bearer=SecretStr(TOKEN), **settings)
        return list(tmdb.list_trailers(november, made))

    api.put("/genre/movie/list", GENRES)
    return crawl


def put_pages(api: Any, *pages: list[Any]) -> None:
    """The pages of discover."""
    for number, rows in enumerate(pages, 1):
        page = {"page": number, "results": rows, "total_pages": len(pages), "total_results": 20 * len(pages)}
        api.put("/discover/movie", page, page=str(number))


def test_a_film_with_all_that_is_known_of_it(api: Any, crawl: Callable[..., Any]) -> None:
    videos = [make_video("abcDEF_-123"), make_video("zzzzzzzzzzz", type="Teaser", official=False, iso_639_1="xx")]
    put_pages(api, [make_hit(603)])
    api.put("/movie/603", make_film(603, videos))
    first, second = crawl()
    assert first == Trailer(
        trailer_id="youtube-abcdef_-123.38",
        film_id="imdb-tt0000603",
        title="Film 603",
        kind="trailer",
        genres=("Action", "Sci-Fi"),
        year=2026,
        plot="Things happen.",
        source="tmdb",
        source_url="https://www.youtube.com/watch?v=abcDEF_-123",
        page_url="https://www.themoviedb.org/movie/603",
        listed_on=dt.date(2026, 11, 5),
        film_aliases=("tmdb-603",),
        video_title="Video abcDEF_-123",
        language="en",
        is_official=True,
    )
    assert (second.kind, second.is_official, second.language) == ("teaser", False, "")


def test_which_films_are_asked_for(api: Any, crawl: Callable[..., Any]) -> None:
    put_pages(api, [make_hit(1)])
    api.put("/movie/1", make_film(1, []))
    crawl(language="fr")
    genres, discover, film = api.asked
    assert genres.query == {"language": "en"}
    assert discover.query == {
        "primary_release_date.gte": "2026-08-03",
        "primary_release_date.lte": "2027-11-23",
        "sort_by": "popularity.desc",
        "include_adult": "false",
        "include_video": "false",
        "language": "fr",
        "page": "1",
    }
    assert film.query == {
        "append_to_response": "videos,external_ids",
        "language": "fr",
        "include_video_language": "fr",
    }
    assert {request.headers["Authorization"] for request in api.asked} == {f"Bearer {TOKEN}"}
    assert not any(TOKEN in str(request.query) for request in api.asked)


def test_only_what_was_published_in_the_interval_is_listed(api: Any, crawl: Callable[..., Any]) -> None:
    moments = {
        "aaaaaaaaaaa": "2026-10-31T23:59:59.000Z",
        "bbbbbbbbbbb": "2026-11-01T00:00:00.000Z",
        "ccccccccccc": "2026-11-22T23:59:59.000Z",
        "ddddddddddd": "2026-11-23T00:00:00.000Z",
        "eeeeeeeeeee": "2026-11-01T01:00:00.000+02:00",
    }
    put_pages(api, [make_hit(1), make_hit(2)])
    api.put("/movie/1", make_film(1, [make_video(key, published_at=moment) for key, moment in moments.items()]))
    api.put("/movie/2", make_film(2, [make_video("fffffffffff", published_at="2018-01-01T00:00:00.000Z")]))
    assert [trailer.trailer_id for trailer in crawl()] == ["youtube-bbbbbbbbbbb", "youtube-ccccccccccc"]


def test_what_is_no_trailer_on_youtube_is_not_listed(api: Any, crawl: Callable[..., Any]) -> None:
    others = [make_video("12345678", site="Vimeo"), make_video("aaaaaaaaaaa", type="Featurette")]
    put_pages(api, [make_hit(1), make_hit(2), make_hit(3)])
    api.put("/movie/1", make_film(1, others))
    api.put("/movie/2", make_film(2, [], external_ids={"imdb_id": None}))  # and 3 is gone by now
    found = crawl()
    assert [(one.id, one.reason) for one in found] == [
        ("imdb-tt0000001", "no_trailer"),
        ("tmdb-2", "no_trailer"),
        ("tmdb-3", "gone"),
    ]
    assert all(one.is_permanent and one.stage == "catalog" for one in found)


def test_a_row_that_cannot_be_read_ends_nothing(api: Any, crawl: Callable[..., Any]) -> None:
    put_pages(api, [make_hit(1), {"title": "no id"}, "no row", make_hit(2), make_hit(3)])
    api.put("/movie/1", make_film(1, [make_video("aaaaaaaaaaa")], title=""))
    api.put("/movie/2", make_film(2, [make_video("bbbbbbbbbbb", published_at=None), make_video("too short")]))
    api.put("/movie/3", make_film(3, [make_video("ccccccccccc", published_at="2026-11-09"), make_video("ddddddddddd")]))
    first, no_id, no_row, undated, no_video, *listed = crawl()
    assert {one.reason for one in (first, no_id, no_row, undated, no_video)} == {"unreadable"}
    assert [one.id for one in (first, undated, no_video)] == ["tmdb-1", "tmdb-5e38bbbbbbbbbbb", no_video.id]
    assert no_id.id.startswith("tmdb-row-") and no_id.id != no_row.id
    assert "title" in first.detail and "published_at" in undated.detail
    assert [one.listed_on.day for one in listed] == [9, 5]
    assert crawl()[:5] == [first, no_id, no_row, undated, no_video]


def test_a_film_imdb_does_not_know_is_named_by_tmdb(api: Any, crawl: Callable[..., Any]) -> None:
    put_pages(api, [make_hit(7)])
    genres = [{"id": 99, "name": "Slasher"}]
    api.put("/movie/7", make_film(7, [make_video("aaaaaaaaaaa")], external_ids={"imdb_id": ""}, genres=genres))
    (trailer,) = crawl()
    assert (trailer.film_id, trailer.film_aliases, trailer.genres) == ("tmdb-7", (), ("Slasher",))


def test_pages_are_read_to_their_end_or_to_the_limit(api: Any, crawl: Callable[..., Any]) -> None:
    put_pages(api, [make_hit(1), make_hit(2)], [make_hit(3), make_hit(4)], [make_hit(5)])
    for number in range(1, 6):
        api.put(f"/movie/{number}", make_film(number, [make_video(f"{number:011d}")]))
    assert [trailer.film_id[-1] for trailer in crawl()] == ["1", "2", "3", "4", "5"]
    api.asked.clear()
    assert [trailer.film_id[-1] for trailer in crawl(max_items=3)] == ["1", "2", "3"]
    assert api.paths().count("/discover/movie") == 2 and "/movie/4" not in api.paths()


@pytest.mark.parametrize("fault", ["missing", "failing", "empty", "malformed"])
def test_half_a_list_is_none(api: Any, crawl: Callable[..., Any], fault: str) -> None:
    put_pages(api, [make_hit(1)], [])
    api.put("/movie/1", make_film(1, [make_video("aaaaaaaaaaa")]))
    if fault != "empty":
        api.answers = [known for known in api.answers if known[1] != {"page": "2"}]
    if fault == "failing":
        api.put("/discover/movie", {}, status=500, page="2")
    if fault == "malformed":
        api.put("/discover/movie", b'{"page": 2, "results": [', page="2")
    with pytest.raises(SourceUnavailableError):
        crawl()


def test_nothing_to_list(api: Any, crawl: Callable[..., Any]) -> None:
    api.put("/discover/movie", {"page": 1, "results": [], "total_pages": 1, "total_results": 0})
    assert crawl() == []


def test_a_refused_token_in_the_middle_of_a_crawl_is_no_matter_of_a_row(api: Any, crawl: Callable[..., Any]) -> None:
    put_pages(api, [make_hit(1)])
    api.put("/movie/1", {"status_code": 7, "status_message": "Invalid API key", "success": False}, status=401)
    with pytest.raises(SettingsError, match="TRAILER_SOURCES_TMDB_BEARER"):
        crawl()
    api.replace("/movie/1", {"status_code": 25}, status=429, headers={"Retry-After": "10"})
    with pytest.raises(RateLimitedError):
        crawl()


@pytest.mark.parametrize("token", [None, SecretStr("")])
def test_without_a_token_nobody_is_asked(
    api: Any, make_settings: Callable[..., Settings], november: Interval, token: SecretStr | None
) -> None:
    with pytest.raises(SettingsError, match="TRAILER_SOURCES_TMDB_BEARER"):
        list(tmdb.list_trailers(november, make_settings(tmdb_bearer=token)))
    assert api.asked == []


def test_a_second_crawl_is_answered_not_changed(api: Any, crawl: Callable[..., Any]) -> None:
    put_pages(api, [make_hit(1)])
    api.put("/movie/1", make_film(1, [make_video("aaaaaaaaaaa")]), headers={"ETag": 'W/"1"'})
    assert crawl() == crawl()
    asked = [request.headers.get("If-None-Match") for request in api.asked if request.path == "/movie/1"]
    assert asked == [None, 'W/"1"']


def test_a_source_that_has_changed_its_shape_is_noticed(api: Any, crawl: Callable[..., Any]) -> None:
    put_pages(api, [{"movie": {"id": number}} for number in range(20)])
    with pytest.raises(SourceUnavailableError, match="20 of 20"):
        crawl()


def test_terms_name_the_agreement() -> None:
    assert tmdb.NEEDS_CONSENT and tmdb.HAS_DATES
    assert "AI/ML" in tmdb.TERMS and "written agreement" in tmdb.TERMS
