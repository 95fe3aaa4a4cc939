import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr

from trailer_ml.catalog.sources import kinocheck
from trailer_ml.errors import RateLimitedError, SettingsError, SourceBlockedError, SourceUnavailableError
from trailer_ml.records import Interval, Quarantine, Trailer
from trailer_ml.settings import Settings


def make_row(number: int, **facts: Any) -> dict[str, Any]:
    """A trailer as KinoCheck lists it."""
    youtube_id = f"{number:011d}"
    return {
        "id": f"k{number}", "youtube_video_id": youtube_id, "youtube_channel_id": "UCOL10n-as9dXO2qtjjFUQbQ",
        "youtube_thumbnail": f"https://img.youtube.com/vi/{youtube_id}/maxresdefault.jpg",
        "title": f"FILM {number} Official Trailer (2026)", "url": f"https://kinocheck.com/trailer/k{number}/film",
        "thumbnail": "https://cdn.kinocheck.com/i/none.jpg", "language": "en", "categories": ["Trailer"],
        "genres": ["Action", "Science Fiction"], "published": "2026-11-10T18:00:00+01:00", "views": "12345",
        "resource": {"type": "movie", "id": f"m{number}", "imdb_id": f"tt{number:07d}", "tmdb_id": 1000 + number},
    } | facts  # fmt: skip


def put_pages(api: Any, *pages: list[Any]) -> None:
    """The pages of the newest trailers: rows by number, and what is known of all of them."""
    for number, rows in enumerate(pages, 1):
        metadata = {"limit": 25, "page": number, "total_pages": len(pages), "total_count": 25 * len(pages)}
        page = {str(place): row for place, row in enumerate(rows)} | {"_metadata": metadata}
        api.put("/trailers/latest", page, page=str(number))


@pytest.fixture
def crawl(make_settings: Callable[..., Settings], november: Interval) -> Callable[..., Any]:
    """Lists what KinoCheck has."""

    def crawl(**settings: Any) -> list[Trailer | Quarantine]:
        return list(kinocheck.list_trailers(november, make_settings(**settings)))

    return crawl


def test_a_trailer_with_all_that_is_known_of_it(api: Any, crawl: Callable[..., Any]) -> None:
    put_pages(api, [make_row(7)])
    assert crawl() == [
        Trailer(
            trailer_id="youtube-00000000007",
            film_id="imdb-tt0000007",
            title="FILM 7",
            kind="trailer",
            genres=("Action", "Sci-Fi"),
            year=2026,
            source="kinocheck",
            source_url="https://www.youtube.com/watch?v=00000000007",
            page_url="https://kinocheck.com/trailer/k7/film",
            listed_on=dt.date(2026, 11, 10),
            film_aliases=("tmdb-1007",),
            video_title="FILM 7 Official Trailer (2026)",
            language="en",
        )
    ]
    assert api.asked[0].query == {"language": "en", "categories": "Trailer,Teaser", "page": "1"}


@pytest.mark.parametrize(
    ("title", "film", "year"),
    [
        ("AVENGERS 4: Endgame Super Bowl Trailer (2019)", "AVENGERS 4: Endgame Super Bowl", 2019),
        ("Dune: Part Three - New Final Trailer German Deutsch", "Dune: Part Three -", None),
        ("Teaser", "Teaser", None),
        ("Trailer Park Boys Trailer (1985)", "Trailer Park Boys", 1985),
    ],
)
def test_the_film_is_what_stands_before_the_trailer(
    api: Any, crawl: Callable[..., Any], title: str, film: str, year: int | None
) -> None:
    put_pages(api, [make_row(1, title=title)])
    assert [(one.title, one.year, one.video_title) for one in crawl()] == [(film, year, title)]


def test_what_is_known_of_the_film_goes_before(api: Any, crawl: Callable[..., Any]) -> None:
    put_pages(
        api,
        [
            make_row(1, resource={"type": "movie", "imdb_id": None, "tmdb_id": 5, "title": "The Film"}),
            make_row(2, resource=None, genres=None, url="javascript:alert(1)"),
        ],
    )
    first, second = crawl()
    assert (first.title, first.film_id, first.film_aliases) == ("The Film", "tmdb-5", ())
    assert (second.film_id, second.film_aliases, second.genres, second.page_url) == ("kinocheck-k2", (), (), "")


def test_what_is_no_trailer_of_a_film_is_not_listed(api: Any, crawl: Callable[..., Any]) -> None:
    show = {"type": "show", "imdb_id": "tt0000099", "tmdb_id": None}
    rows = [
        make_row(1, categories=["Clip"]),
        make_row(2, resource=show),
        make_row(3, youtube_video_id=None),
        make_row(4, categories=["Teaser"]),
        make_row(5, published="2026-11-23T00:30:00+01:00"),
        make_row(6, published="2026-11-01T00:30:00+01:00"),
    ]
    put_pages(api, rows)
    show_row, no_video, teaser, last = crawl()
    assert (show_row.id, show_row.reason) == ("imdb-tt0000099", "not_a_movie")
    assert (no_video.id, no_video.reason) == ("imdb-tt0000003", "no_trailer")
    assert (teaser.kind, teaser.film_id) == ("teaser", "imdb-tt0000004")
    assert last.listed_on == dt.date(2026, 11, 22)


def test_a_row_that_cannot_be_read_ends_nothing(api: Any, crawl: Callable[..., Any]) -> None:
    bad = [make_row(1, published=None), make_row(2, youtube_video_id="https://youtu.be/x"), {}, None, make_row(3, id=3)]
    put_pages(api, [*bad, make_row(4)])
    *unreadable, listed = crawl()
    assert {one.reason for one in unreadable} == {"unreadable"} and len(unreadable) == 5
    assert [one.id for one in unreadable][:2] == ["kinocheck-k1", "kinocheck-k2"]
    assert listed.film_id == "imdb-tt0000004"


def test_rows_keep_their_order_and_pages_are_read_to_their_end(api: Any, crawl: Callable[..., Any]) -> None:
    put_pages(api, [make_row(number) for number in range(1, 13)], [make_row(13)], [make_row(14)])
    assert [int(one.film_id[-2:]) for one in crawl()] == list(range(1, 15))
    assert len(crawl(max_items=12)) == 12
    assert len(api.asked) == 4


def test_reading_ends_where_the_interval_begins(api: Any, crawl: Callable[..., Any]) -> None:
    old = "2026-10-20T12:00:00+00:00"
    put_pages(api, [make_row(1), make_row(2, published=old)], [make_row(3, published=old)], [make_row(4)])
    assert [one.film_id for one in crawl()] == ["imdb-tt0000001"]
    assert len(api.asked) == 2


@pytest.mark.parametrize("fault", ["missing", "failing", "empty", "malformed", "an error in words"])
def test_half_a_list_is_none(api: Any, crawl: Callable[..., Any], fault: str) -> None:
    put_pages(api, [make_row(1)], [])
    if fault != "empty":
        api.answers = [known for known in api.answers if known[1] != {"page": "2"}]
    if fault == "failing":
        api.put("/trailers/latest", {}, status=502, page="2")
    if fault == "malformed":
        api.put("/trailers/latest", b"<html>", page="2")
    if fault == "an error in words":
        api.put("/trailers/latest", {"error": 404, "message": "Not Found"}, page="2")
    with pytest.raises(SourceUnavailableError):
        crawl()


def test_nothing_to_list(api: Any, crawl: Callable[..., Any]) -> None:
    put_pages(api, [])
    assert crawl() == []


def test_the_key_is_sent_where_there_is_one(api: Any, crawl: Callable[..., Any]) -> None:
    put_pages(api, [])
    crawl()
    crawl(kinocheck_api_key=SecretStr("k3y"))
    assert "X-Api-Key" not in api.asked[0].headers
    assert api.asked[1].headers["X-Api-Key"] == "k3y"
    assert api.asked[1].headers["X-Api-Host"] == api.url.removeprefix("http://")


def test_who_is_refused_and_who_has_to_wait(api: Any, crawl: Callable[..., Any]) -> None:
    api.put("/trailers/latest", {}, status=403)
    with pytest.raises(SettingsError, match="TRAILER_SOURCES_KINOCHECK_API_KEY"):
        crawl(kinocheck_api_key=SecretStr("k3y"))
    with pytest.raises(SourceBlockedError):
        crawl()
    api.replace("/trailers/latest", {}, status=429, headers={"Retry-After": "86400"})
    with pytest.raises(RateLimitedError):
        crawl()


def test_terms_have_to_be_read() -> None:
    assert kinocheck.NEEDS_CONSENT and kinocheck.HAS_DATES
