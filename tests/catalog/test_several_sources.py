"""Several sources in one crawl: one film, the best trailers, doubtful ones for a person, and the past left alone."""

import datetime as dt
import json
from pathlib import Path

import pytest

from trailer_ml.catalog.crawl import crawl_catalog
from trailer_ml.catalog.listing import read_trailers
from trailer_ml.catalog.review import accept_trailer, list_doubtful
from trailer_ml.errors import SettingsError, UnknownTrailerError
from trailer_ml.records import Interval
from trailer_ml.settings import CatalogSettings, Settings, SourcesSettings
from trailer_ml.storage import Store

TODAY = dt.datetime.now(dt.UTC).date()
YESTERDAY = Interval.of_day(TODAY - dt.timedelta(days=1))
LONG_AGO = Interval.of_day(dt.date(2026, 1, 5))


@pytest.fixture
def both(settings: Settings, tmp_path: Path) -> Settings:
    """MovieLens with two films, and a manifest with trailers of the same two."""
    (tmp_path / "ml-youtube.csv").write_text("youtubeId,movieId,title\nK26_sDKnvMU,1,Toy Story (1995)\n")
    (tmp_path / "links.csv").write_text("movieId,imdbId,tmdbId\n1,0114709,862\n")
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,Toy Story (1995),Animation|Children\n")
    sources = SourcesSettings(movielens_folder=str(tmp_path), manifest_path=str(tmp_path / "mine.jsonl"))
    catalog = CatalogSettings(sources=("manifest", "movielens"), accept_terms=("movielens",))
    _write(tmp_path, {"id": "a", "title": "Toy Story", "year": 1995, "kind": "teaser"}, {"id": "b", "title": "Other"})
    return settings.model_copy(update={"catalog": catalog, "sources": sources})


def _write(folder: Path, *rows: dict[str, object]) -> None:
    lines = [json.dumps({"url": f"http://127.0.0.1/{row['id']}.mp4", **row}) for row in rows]
    (folder / "mine.jsonl").write_text("\n".join(lines))


def test_what_two_sources_list_is_one_film_and_the_same_interval_gives_the_same_file(
    both: Settings, store: Store
) -> None:
    summary = crawl_catalog(YESTERDAY, both, store)
    assert (summary.n_listed, summary.n_titles_seen) == (3, 3)
    films = {trailer.trailer_id: trailer.film_id for trailer in read_trailers(store)}
    assert films["manifest-a"] == films["youtube-k26_sdknvmu.661"] == "imdb-tt0114709"
    assert films["manifest-b"] == "manifest-b"
    assert all(trailer.chosen_for for trailer in read_trailers(store))
    before = [(key, store.tag_of(key)) for key in store.list_keys("")]
    assert crawl_catalog(YESTERDAY, both, store).is_new is False
    assert [(key, store.tag_of(key)) for key in store.list_keys("")] == before


def test_what_has_no_date_is_not_listed_in_the_past(
    both: Settings, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _write(tmp_path, {"id": "a", "listed_on": str(LONG_AGO.start)}, {"id": "b"})
    assert crawl_catalog(LONG_AGO, both, store).n_listed == 1
    assert "movielens cannot go back in time" in caplog.text
    assert crawl_catalog(YESTERDAY, both, store).n_listed == 2  # b, and MovieLens


def test_terms_are_shown_before_anything_is_asked(both: Settings, store: Store) -> None:
    refused = both.model_copy(update={"catalog": both.catalog.model_copy(update={"accept_terms": ()})})
    with pytest.raises(SettingsError, match=r"research: no commercial use.*ACCEPT_TERMS='\[\"movielens\"\]'"):
        crawl_catalog(YESTERDAY, refused, store)
    assert list(store.list_keys("")) == []


def test_a_doubtful_trailer_waits_for_a_person_and_is_listed_by_the_next_crawl(
    both: Settings, store: Store, tmp_path: Path
) -> None:
    day = YESTERDAY.start - dt.timedelta(days=1)
    doubtful = {"id": "c", "title": "Toy Story", "video_title": "Toy Story - Interview", "listed_on": str(day)}
    _write(tmp_path, doubtful)
    assert crawl_catalog(Interval.of_day(day), both, store).set_aside == {"review": 1}
    [shown] = list_doubtful(store)
    assert (shown.trailer_id, shown.is_accepted) == ("manifest-c", False)
    assert shown.doubt.startswith("its title says interview")
    with pytest.raises(UnknownTrailerError, match="trailer-ml review"):
        accept_trailer("manifest-z", store)
    assert accept_trailer("manifest-c", store).is_accepted
    _write(tmp_path)  # its source does not say it again
    assert crawl_catalog(YESTERDAY, both, store).n_late == 1
    assert [trailer.trailer_id for trailer in read_trailers(store, day)] == ["manifest-c"]
    assert list_doubtful(store) == []
