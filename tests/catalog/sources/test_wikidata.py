import datetime as dt
import re
from collections.abc import Callable
from typing import Any

import pytest

from trailer_ml.catalog.sources import wikidata
from trailer_ml.errors import RateLimitedError, SourceBlockedError, SourceUnavailableError
from trailer_ml.records import Interval, Quarantine, Trailer
from trailer_ml.settings import Settings

ENTITY = "http://www.wikidata.org/entity/"
FILM = {
    "title": ["Safety Last!@en", "Ausgerechnet Wolkenkratzer!@mul"],
    "video": ["aaaaaaaaaaa", "BBBBBBBBBBB"],
    "trailer": ["BBBBBBBBBBB"],
    "genre": ["comedy film@en", "science fiction film@en", "silent film@en"],
    "imdb": ["nm0000001", "tt0014429"],
    "tmdb": ["22596"],
    "published": ["1923-04-01T00:00:00Z", "1922-12-31T00:00:00Z", f"{ENTITY}.well-known/genid/1"],
    "status": ["public domain@en"],
}


class Wikidata:
    """Films by number; answers both kinds of question as the SPARQL service does."""

    def __init__(self, api: Any) -> None:
        self.films: dict[str, dict[str, list[str]]] = {}
        self.queries: list[str] = []
        self.faults: list[tuple[re.Pattern[str], int, bytes]] = []
        answer = api.choose
        api.choose = lambda request: self.choose(request, answer)
        self.answer_of = api.put

    def choose(self, request: Any, otherwise: Callable[..., Any]) -> Any:
        """The answer to a query, or the fault that was put for it."""
        query = request.query["query"]
        self.queries.append(query)
        for pattern, status, body in self.faults:
            if pattern.search(query):
                return type(otherwise(request))(status, {}, body, is_cut=False)
        self.answer_of("/", self.select(query), query=query)
        return otherwise(request)

    def select(self, query: str) -> dict[str, Any]:
        """What the query finds, in the W3C's JSON of query results."""
        if "VALUES" in query:
            numbers = re.findall(r"wd:(Q\d+)", query.split("}", maxsplit=1)[0])
            rows = [
                {"film": uri(number), "what": {"type": "literal", "value": what}, "value": literal(text)}
                for number in sorted(numbers)
                for what, texts in sorted(self.films[number].items())
                for text in sorted(texts)
            ]
            return {"head": {"vars": ["film", "what", "value"]}, "results": {"bindings": rows}}
        limit, offset = (int(re.search(rf"{word} (\d+)", query)[1]) for word in ("LIMIT", "OFFSET"))
        rows = [{"film": uri(number)} for number in sorted(self.films)[offset : offset + limit]]
        return {"head": {"vars": ["film"]}, "results": {"bindings": rows}}


def uri(number: str) -> dict[str, str]:
    return {"type": "uri", "value": f"{ENTITY}{number}"}


def literal(text: str) -> dict[str, str]:
    value, _, language = text.partition("@")
    return {"type": "literal", "value": value} | ({"xml:lang": language} if language else {})


@pytest.fixture
def service(api: Any) -> Wikidata:
    """A Wikidata that knows no film yet."""
    return Wikidata(api)


@pytest.fixture
def crawl(make_settings: Callable[..., Settings], november: Interval) -> Callable[..., Any]:
    """Lists what Wikidata has."""

    def crawl(**settings: Any) -> list[Trailer | Quarantine]:
        return list(wikidata.list_trailers(november, make_settings(**settings)))

    return crawl


def test_a_film_with_all_that_is_known_of_it(service: Wikidata, crawl: Callable[..., Any]) -> None:
    service.films = {"Q836821": FILM}
    trailer, video = crawl()
    assert trailer == Trailer(
        trailer_id="youtube-bbbbbbbbbbb.7ff",
        film_id="imdb-tt0014429",
        title="Safety Last!",
        kind="trailer",
        genres=("Comedy", "Sci-Fi", "silent film"),
        year=1922,
        source="wikidata",
        source_url="https://www.youtube.com/watch?v=BBBBBBBBBBB",
        page_url="https://www.wikidata.org/wiki/Q836821",
        listed_on=dt.date(2026, 11, 22),
        film_aliases=("tmdb-22596",),
        license="public domain",
    )
    assert (video.trailer_id, video.kind) == ("youtube-aaaaaaaaaaa", "video")


def test_how_films_are_named(service: Wikidata, crawl: Callable[..., Any]) -> None:
    bare = {"title": ["Bare@mul"], "video": ["aaaaaaaaaaa"]}
    service.films = {"Q1": bare, "Q2": bare | {"tmdb": ["5"]}, "Q3": bare | {"imdb": ["tt77"]}}
    found = crawl()
    assert [(one.film_id, one.film_aliases) for one in found] == [
        ("wikidata-q1", ()),
        ("tmdb-5", ()),
        ("imdb-tt0000077", ()),
    ]
    assert {(one.title, one.year, one.license, one.genres) for one in found} == {("Bare", None, "", ())}


def test_what_cannot_be_read_ends_nothing(service: Wikidata, crawl: Callable[..., Any]) -> None:
    title = ["Film@en"]
    service.films = {
        "Q1": {"title": title, "video": ["https://youtu.be/aaaaaaaaaaa", "bbbbbbbbbbb"]},
        "Q2": {"video": ["ccccccccccc"]},
        "Q3": {"title": title},
        "Q4": {"title": title, "video": ["ddddddddddd"], "published": ["0044-03-15T00:00:00Z"]},
    }
    found = crawl()
    assert [one.reason if isinstance(one, Quarantine) else one.trailer_id for one in found] == [
        "youtube-bbbbbbbbbbb",
        "unreadable",
        "unreadable",
        "no_trailer",
        "unreadable",
    ]
    assert [one.id for one in found[2:4]] == ["wikidata-q2", "wikidata-q3"]


def test_films_are_counted_in_pages_and_asked_about_in_batches(
    service: Wikidata, crawl: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wikidata, "_PAGE", 3)
    monkeypatch.setattr(wikidata, "_BATCH", 2)
    service.films = {f"Q{number}": {"title": ["F@en"], "video": [f"{number:011d}"]} for number in range(1, 8)}
    assert [one.film_id[-1] for one in crawl()] == list("1234567")
    assert [re.findall(r"wd:(Q\d+)[ }]", query.split("}")[0]) for query in service.queries if "VALUES" in query] == [
        ["Q1", "Q2"], ["Q3"], ["Q4", "Q5"], ["Q6"], ["Q7"],
    ]  # fmt: skip
    assert sum("ORDER BY ?film LIMIT 3" in query for query in service.queries) == 3
    assert [one.film_id[-1] for one in crawl(max_items=4)] == list("1234")


def test_numbers_go_into_the_next_question_only_as_numbers(service: Wikidata, crawl: Callable[..., Any]) -> None:
    film = {"title": ["F@en"], "video": ["aaaaaaaaaaa"]}
    service.films = {"Q1": film, "Q2 } DROP {": film}
    assert len(crawl()) == 1
    assert "DROP" not in service.queries[1]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (500, b"java.util.concurrent.TimeoutException", SourceUnavailableError),
        (200, b'{"head": {"vars": ["film"]}, "results": {"bindings": [ {"film"', SourceUnavailableError),
        (200, b'{"head": {}, "boolean": true}', SourceUnavailableError),
        (403, b"Please set a User-Agent", SourceBlockedError),
        (429, b"", RateLimitedError),
    ],
)
@pytest.mark.parametrize("question", ["OFFSET 0", "VALUES", "OFFSET 3"])
def test_half_a_list_is_none(
    service: Wikidata,
    crawl: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: bytes,
    error: type[Exception],
    question: str,
) -> None:
    monkeypatch.setattr(wikidata, "_PAGE", 3)
    service.films = {f"Q{number}": {"title": ["F@en"], "video": [f"{number:011d}"]} for number in range(1, 5)}
    service.faults = [(re.compile(question), status, body)]
    with pytest.raises(error):
        crawl()


def test_nothing_to_list(service: Wikidata, crawl: Callable[..., Any]) -> None:
    assert crawl() == []


def test_who_asks_is_said(service: Wikidata, api: Any, crawl: Callable[..., Any]) -> None:
    crawl()
    assert "mailto:" in api.asked[0].headers["User-Agent"]
    assert api.asked[0].query["format"] == "json"


def test_no_consent_and_no_dates() -> None:
    assert not wikidata.NEEDS_CONSENT and not wikidata.HAS_DATES
    assert "CC0" in wikidata.TERMS and "YouTube" in wikidata.TERMS
