import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from trailer_ml.catalog.sources import archive_org
from trailer_ml.errors import RateLimitedError, SourceBlockedError, SourceUnavailableError
from trailer_ml.records import Interval, Quarantine, Trailer
from trailer_ml.settings import Settings

BY = "https://creativecommons.org/licenses/by/4.0/"


def make_doc(identifier: str, **facts: Any) -> dict[str, Any]:
    """An item as the search shows it; what it does not know is left out."""
    doc = {
        "identifier": identifier, "title": f"Film {identifier} (1951)", "subject": ["trailer", "Sci-Fi;Horror"],
        "licenseurl": BY, "publicdate": "2026-11-05T10:11:12Z", "addeddate": "2026-11-04T10:11:12Z", "year": 1950,
        "description": "<p>Flying &amp; <b>falling</b></p>",
    } | facts  # fmt: skip
    return {name: value for name, value in doc.items() if value is not None}


def make_file(name: str, file_format: str, size: int | str, **facts: Any) -> dict[str, Any]:
    """An entry of the files of an item; numbers are strings there."""
    return {
        "name": name, "source": "derivative", "format": file_format, "original": "film.mpg", "mtime": "1296336977",
        "size": str(size), "md5": "a7750839519c61ba3bb99fc66b32011d", "crc32": "4dbd37c8",
        "sha1": "3929314c192dec006fac2739bcb4730788e8c068", "length": "31.13", "height": "240", "width": "320",
    } | facts  # fmt: skip


FILES = [
    make_file("film.mpg", "MPEG2", 24_000_000, source="original"),
    make_file("film.mp4", "h.264", 3_570_431),
    make_file("film_512kb.mp4", "512Kb MPEG4", 2_476_399),
    make_file("film.ogv", "Ogg Video", 1_000),
    make_file("film.thumbs/film_000001.jpg", "Thumbnail", 2_000),
    {"name": "film_meta.xml", "source": "original", "format": "Metadata", "md5": "0"},
]


@pytest.fixture
def put(api: Any) -> Callable[..., None]:
    """Puts the items that the search finds, in pages, and the files of each."""

    def put(*pages: list[Any], n_found: int | None = None, files: list[Any] | None = None, **metadata: Any) -> None:
        for number, docs in enumerate(pages, 1):
            found = {"numFound": sum(map(len, pages)) if n_found is None else n_found, "start": 0, "docs": docs}
            api.put("/advancedsearch.php", {"responseHeader": {"status": 0}, "response": found}, page=str(number))
            for doc in docs:
                if isinstance(doc, dict) and "identifier" in doc:
                    item = {"files": FILES if files is None else files, "metadata": doc | metadata, "dir": "/1/items"}
                    api.put(f"/metadata/{doc['identifier']}", item)

    return put


@pytest.fixture
def crawl(make_settings: Callable[..., Settings], november: Interval) -> Callable[..., Any]:
    """Lists what archive.org has."""

    def crawl(**settings: Any) -> list[Trailer | Quarantine]:
        return list(archive_org.list_trailers(november, make_settings(**settings)))

    return crawl


def test_an_item_with_all_that_is_known_of_it(api: Any, put: Callable[..., None], crawl: Callable[..., Any]) -> None:
    put([make_doc("one")], **{"external-identifier": ["1234567", "urn:asin:B0", "urn:imdb:tt0043456"]})
    assert crawl() == [
        Trailer(
            trailer_id="archive_org-one",
            film_id="imdb-tt0043456",
            title="Film one",
            genres=("Sci-Fi", "Horror"),
            year=1951,
            plot="Flying & falling",
            source="archive_org",
            source_url=f"{api.url}/download/one/film_512kb.mp4",
            page_url=f"{api.url}/details/one",
            listed_on=dt.date(2026, 11, 5),
            duration_s=31.13,
            video_title="Film one (1951)",
            license=BY,
        )
    ]


def test_what_is_asked_for(api: Any, put: Callable[..., None], crawl: Callable[..., Any]) -> None:
    put([])
    assert crawl() == []
    assert api.asked[0].query == {
        "q": "(collection:movie_trailers AND mediatype:movies) AND publicdate:[2026-11-01 TO 2026-11-23]",
        "fl[]": "identifier,title,subject,licenseurl,publicdate,addeddate,year,description",
        "sort[]": "publicdate asc,identifier asc",
        "rows": "100",
        "page": "1",
        "output": "json",
    }


@pytest.mark.parametrize(
    ("license_url", "is_open"),
    [
        ("http://creativecommons.org/licenses/publicdomain/", True),
        ("https://www.creativecommons.org/publicdomain/mark/1.0/", True),
        (["https://example.org/terms", BY], True),
        (None, False),
        ("", False),
        ("https://example.org/creativecommons.org/licenses/by/4.0/", False),
        ("https://creativecommons.org.example.org/licenses/by/4.0/", False),
        ("https://creativecommons.org/", False),
        ("All rights reserved", False),
    ],
)
def test_only_an_open_licence_is_listed(
    api: Any, put: Callable[..., None], crawl: Callable[..., Any], license_url: Any, is_open: bool
) -> None:
    put([make_doc("one", licenseurl=license_url)])
    (one,) = crawl()
    if is_open:
        assert one.license == (BY if isinstance(license_url, list) else license_url)
    else:
        assert (one.id, one.reason, one.is_permanent) == ("archive_org-one", "not_licensed", True)
        assert "/metadata/one" not in api.paths()


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        ([make_file("a.mp4", "h.264", 5), make_file("b.mp4", "h.264 IA", 4), make_file("c.mp4", "h.264", 6)], "b.mp4"),
        ([make_file("a.mp4", "MPEG4", 4, source="original"), make_file("b.mp4", "h.264", 5)], "b.mp4"),
        ([make_file("my film #1?.mp4", "MPEG4", 4, source="original")], "my%20film%20%231%3F.mp4"),
        ([make_file("disc 1/a.mp4", "h.264", 4)], "disc%201/a.mp4"),
        ([make_file("../../evil.mp4", "h.264", 4), make_file("/etc/a.mp4", "h.264", 4)], None),
        ([make_file("a.mp4", "h.264", 4, private="true")], None),
        ([make_file("a.mp4", "h.264", 0), make_file("b.mp4", "Text", 4), make_file("c.mov", "h.264", 4)], None),
        ([make_file("a.mp4", "h.264", "unknown"), {"name": "b.mp4"}, "c.mp4"], None),
        ([], None),
    ],
)
def test_which_file_is_taken(
    api: Any, put: Callable[..., None], crawl: Callable[..., Any], files: list[Any], chosen: str | None
) -> None:
    put([make_doc("one")], files=files)
    (one,) = crawl()
    if chosen:
        assert one.source_url == f"{api.url}/download/one/{chosen}"
    else:
        assert (one.id, one.reason) == ("archive_org-one", "no_trailer")


@pytest.mark.parametrize("body", [{}, {"is_dark": True}, {"files": None, "metadata": []}])
def test_an_item_that_is_gone(api: Any, put: Callable[..., None], crawl: Callable[..., Any], body: Any) -> None:
    put([make_doc("one"), make_doc("two")])
    api.replace("/metadata/one", body)
    api.replace("/metadata/two", {}, status=404)
    assert [one.reason for one in crawl()] == ["no_trailer"] * 2


def test_ids_differ_where_only_capitals_do(put: Callable[..., None], crawl: Callable[..., Any]) -> None:
    names = ["Film", "FILM", "film", "A" * 100]
    put([make_doc(name) for name in names])
    ids = [one.trailer_id for one in crawl()]
    assert len(set(ids)) == 4 and ids[2] == "archive_org-film"
    assert all(one.startswith("archive_org-film") for one in ids[:3])


def test_what_is_only_half_known(put: Callable[..., None], crawl: Callable[..., Any]) -> None:
    nothing = dict.fromkeys(("subject", "year", "description", "publicdate"))
    put([make_doc("one", title=["Untitled", "Other"], **nothing), make_doc("two", subject="Noir; Western", title=1984)])
    one, two = crawl()
    assert (one.title, one.genres, one.year, one.plot, one.listed_on.day) == ("Untitled", (), None, "", 4)
    assert (two.title, two.genres, two.year) == ("1984", ("Western",), 1950)


def test_a_row_that_cannot_be_read_ends_nothing(put: Callable[..., None], crawl: Callable[..., Any]) -> None:
    bad = [
        make_doc("one", publicdate=None, addeddate=None),
        make_doc("two", title=None),
        make_doc("three", publicdate="long ago"),
        make_doc("../four"),
        {},
        None,
    ]
    put([*bad, make_doc("five")])
    *unreadable, listed = crawl()
    assert {one.reason for one in unreadable} == {"unreadable"} and len(unreadable) == 6
    assert [one.id for one in unreadable][:3] == ["archive_org-one", "archive_org-two", "archive_org-three"]
    assert listed.trailer_id == "archive_org-five"


def test_only_what_became_public_in_the_interval_is_listed(put: Callable[..., None], crawl: Callable[..., Any]) -> None:
    days = ["2026-10-31T23:59:59Z", "2026-11-01T00:00:00Z", "2026-11-22 23:59:59", "2026-11-23T00:00:00Z"]
    put([make_doc(f"item{number}", publicdate=day) for number, day in enumerate(days)])
    assert [one.trailer_id for one in crawl()] == ["archive_org-item1", "archive_org-item2"]


def test_pages_are_read_to_their_end_or_to_the_limit(
    api: Any, put: Callable[..., None], crawl: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_org, "_ROWS", 2)
    put([make_doc("a1"), make_doc("a2")], [make_doc("a3"), make_doc("a4")], [make_doc("a5")])
    assert [one.trailer_id[-1] for one in crawl()] == list("12345")
    assert [one.trailer_id[-1] for one in crawl(max_items=3)] == list("123")
    assert api.paths().count("/advancedsearch.php") == 3 + 2


@pytest.mark.parametrize("fault", ["missing", "failing", "empty", "malformed", "an error in words"])
def test_half_a_list_is_none(
    api: Any, put: Callable[..., None], crawl: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(archive_org, "_ROWS", 1)
    put([make_doc("one")], [], n_found=2)
    if fault != "empty":
        api.answers = [known for known in api.answers if known[1] != {"page": "2"}]
    if fault == "failing":
        api.put("/advancedsearch.php", {}, status=503, page="2")
    if fault == "malformed":
        api.put("/advancedsearch.php", b"<html>", page="2")
    if fault == "an error in words":
        api.put("/advancedsearch.php", {"error": "[RANGE_OUT_OF_BOUNDS]"}, page="2")
    with pytest.raises(SourceUnavailableError):
        crawl()


def test_who_is_refused_and_who_has_to_wait(api: Any, put: Callable[..., None], crawl: Callable[..., Any]) -> None:
    put([make_doc("one")])
    api.replace("/metadata/one", {}, status=403)
    with pytest.raises(SourceBlockedError):
        crawl()
    api.replace("/metadata/one", {}, status=503, headers={"Retry-After": "600"})
    with pytest.raises(RateLimitedError):
        crawl()
    api.replace("/metadata/one", b"not JSON")
    with pytest.raises(SourceUnavailableError):
        crawl()


def test_no_consent_and_dates() -> None:
    assert not archive_org.NEEDS_CONSENT and archive_org.HAS_DATES
    assert "Creative Commons" in archive_org.TERMS
