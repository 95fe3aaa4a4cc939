import datetime as dt
import logging
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from trailer_ml.catalog.findings import check_found, describe, read_rows, set_aside, utc_date
from trailer_ml.catalog.genres import read_genre_table
from trailer_ml.catalog.source import list_sources, load_source
from trailer_ml.errors import SettingsError, SourceUnavailableError
from trailer_ml.records import Interval
from trailer_ml.settings import Settings, SourceName
from trailer_ml.storage import Store

OURS = ("tmdb", "wikidata", "kinocheck", "archive_org")
BAD, GOOD = set_aside("a-1", "unreadable", ""), set_aside("a-2", "no_trailer", "")


@pytest.mark.parametrize(
    ("n_bad", "n_good", "is_read"), [(19, 0, True), (10, 10, True), (20, 0, False), (11, 10, False)]
)
def test_most_rows_unreadable_is_a_changed_source(n_bad: int, n_good: int, is_read: bool) -> None:
    found = [BAD] * n_bad + [GOOD] * n_good
    if is_read:
        assert list(check_found("a", found, {})) == found
    else:
        with pytest.raises(SourceUnavailableError, match=f"{n_bad} of {len(found)} rows"):
            list(check_found("a", found, {}))


def test_genres_of_its_own_are_named(make_trailer: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found = [make_trailer(1, genres=("Sci-Fi", "Slasher")), make_trailer(2, genres=("Giallo", "Slasher"))]
    assert list(check_found("a", found, read_genre_table())) == found
    assert "a has 2 genres of its own, kept as they are: Giallo, Slasher" in caplog.text


def test_what_is_wrong_is_said_without_the_value() -> None:
    class Row(BaseModel):
        numbers: list[int]

    with pytest.raises(ValidationError) as caught:
        Row.model_validate({"numbers": [1, "s3cr3t"]})
    assert describe(caught.value).startswith("numbers.1: Input should be a valid integer")
    assert "s3cr3t" not in describe(caught.value)


def test_only_a_row_s_own_fault_is_a_matter_of_the_row() -> None:
    def read(row: Any) -> Iterator[Any]:
        yield GOOD
        raise SettingsError("the key is wrong") if row else ValueError("no row")

    assert [one.reason for one in read_rows("a", [0, None], read)] == ["unreadable"] * 2
    with pytest.raises(SettingsError, match="the key is wrong"):
        list(read_rows("a", [0, 1], read))


def test_a_day_is_that_of_utc() -> None:
    assert utc_date(dt.datetime(2026, 11, 1, 23, 30)).day == 1  # noqa: DTZ001
    assert utc_date(dt.datetime.fromisoformat("2026-11-01T23:30:00-02:00")).day == 2


@pytest.mark.parametrize("name", OURS)
def test_each_is_a_source(name: SourceName) -> None:
    source = load_source(name)
    assert name in get_args(SourceName)
    assert source.TERMS.endswith(".") and len(source.TERMS) > 80
    assert source.NEEDS_CONSENT is (name in {"tmdb", "kinocheck"})
    assert source.HAS_DATES is (name != "wikidata")


def test_they_are_asked_as_every_source_is(
    api: Any, make_settings: Callable[..., Settings], november: Interval, store: Store
) -> None:
    doc = {"identifier": "x", "title": "X", "publicdate": "2026-11-05T00:00:00Z"}
    api.put("/advancedsearch.php", {"response": {"numFound": 1, "start": 0, "docs": [doc]}})

    def list_from(*names: SourceName) -> Any:
        settings = make_settings()
        catalog = settings.catalog.model_copy(update={"sources": names})
        return list_sources(november, settings.model_copy(update={"catalog": catalog}), store)

    listing = list_from("archive_org")
    assert [one.reason for one in listing.set_aside] == ["not_licensed"] and listing.n_titles_seen == 1
    with pytest.raises(SettingsError, match="KinoCheck"):
        list_from("archive_org", "kinocheck")
