"""Records: frozen, JSON-able, and strict about ids."""

import datetime as dt

import pytest
from pydantic import ValidationError

from trailer_ml.records import BatchRef, DownloadSummary, Interval, Quarantine, Trailer

DAY = dt.date(2026, 11, 22)


def make_trailer(**changes):
    facts = {
        "trailer_id": "imdb-vi1",
        "film_id": "imdb-tt1",
        "title": "One",
        "source": "imdb",
        "source_url": "https://x/",
    }
    return Trailer.model_validate({**facts, "listed_on": DAY, **changes})


def test_a_record_goes_to_json_and_back():
    trailer = make_trailer(genres=("Drama", "Horror"), year=1999)
    assert Trailer.model_validate(trailer.to_json()) == trailer
    summary = DownloadSummary(batch=BatchRef(listed_on=DAY, number=3), n_planned=2, n_downloaded=1, n_reused=1)
    assert DownloadSummary.model_validate(summary.to_json()) == summary


@pytest.mark.parametrize("bad", ["", "../etc", "A", "a/b", "-a", "a" * 129, "a b", "é"])
def test_an_id_that_could_hurt_a_path_is_refused(bad):
    with pytest.raises(ValidationError):
        make_trailer(trailer_id=bad)


def test_an_unknown_field_is_noticed():
    with pytest.raises(ValidationError):
        make_trailer(colour="red")


def test_a_batch_is_named_by_day_and_number():
    batch = BatchRef(listed_on=DAY, number=3)
    assert batch.path == "listed=2026-11-22/0003"
    assert BatchRef.from_path(batch.path + ".tfrecord") == batch


def test_an_interval_is_half_open():
    interval = Interval.of_day(DAY)
    assert interval.days() == (DAY,)
    with pytest.raises(ValidationError, match="ends after it starts"):
        Interval(start=DAY, end=DAY)


def test_what_waits_knows_until_when():
    with pytest.raises(ValidationError, match="retry_at"):
        Quarantine(id="a", stage="download", reason="rate_limited", is_permanent=False)
    with pytest.raises(ValidationError, match="retry_at"):
        Quarantine(id="a", stage="download", reason="gone", is_permanent=True, retry_at=dt.datetime.now(dt.UTC))
