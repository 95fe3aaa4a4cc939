import contextlib
import datetime as dt
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from trailer_ml.catalog.batches import plan_batches
from trailer_ml.catalog.crawl import _keep_set_aside, _read_set_aside, crawl_catalog
from trailer_ml.catalog.listing import read_batch_ids, read_late, read_trailers
from trailer_ml.errors import (
    ChildTimeoutError,
    RateLimitedError,
    SettingsError,
    SourceBlockedError,
    SourceUnavailableError,
)
from trailer_ml.records import Interval, Quarantine
from trailer_ml.search.status import count_states
from trailer_ml.settings import as_environment
from trailer_ml.storage import Store

DAY = dt.date(2026, 11, 20)
ONE_DAY = Interval.of_day(DAY)
NEXT_DAY = Interval.of_day(dt.date(2026, 11, 21))
CHART = "/chart/moviemeter/"
CHALLENGE = {"status": 202, "headers": {"x-amzn-waf-action": "challenge"}}


def fill(site, n_titles=4, **video):
    """A chart of one page whose titles have one trailer each."""
    ids = [f"tt{number:07d}" for number in range(1, n_titles + 1)]
    site.put_chart(*ids)
    for number, title_id in enumerate(ids, 1):
        site.put_title(title_id, f"Film {number}", [site.video(number, title_id=title_id, **video)])
    return ids


def all_objects(store):
    return {key: store.read_bytes(key) for key in store.list_keys("")}


def test_a_site_with_everything_odd(site, crawl_settings, store):
    site.put("/find", "never asked for")
    site.pages["/robots.txt"] = [(200, {}, "User-agent: *\nDisallow: /title/tt0000009/\n")]
    site.put_chart("tt0000001", "tt0000002", "tt0000003", "tt0000004", next_page=2)
    site.put_chart("tt0000004", "tt0000005", "tt0000006", "tt0000007", "tt0000008", "tt0000009", next_page=3, number=2)
    others = [f"tt{number}" for number in range(101, 112)]  # so many that one unreadable page may be done without
    site.put_chart(*others, number=3)
    for title_id in others:
        site.put_title(title_id, "Another Day", [site.video(int(title_id[2:]), title_id=title_id, date="2026-11-21")])
    three_shapes = {"genres": [{"text": "Sci-Fi"}, {"text": "Action"}]}
    site.put_title(
        "tt0000001",
        "Salt &amp; Ash &#39;26",
        [
            site.video(11, title_id="tt0000001"),
            site.video(12, title_id="tt0000001", kind="Teaser"),
            site.video(13, title_id="tt0000001", kind="Clip"),
            site.video(14, title_id="tt0000001", date="2026-11-21", kind="Recut"),
        ],
        genres=three_shapes,
    )
    site.put_title("tt0000002", "A Series", [site.video(21, title_id="tt0000002")], type_id="tvSeries")
    site.put_title("tt0000003", "Nothing to Show", [])
    # the same video on two titles, first seen on the one that it does not belong to
    site.put_title(
        "tt0000004", "Wrong Owner", [site.video(51, title_id="tt0000005"), site.video(41, title_id="tt0000004")]
    )
    site.put_title("tt0000005", "Right Owner", [site.video(51, title_id="tt0000005")])
    ld = {
        "@type": "Movie",
        "name": "Only Linked Data",
        "genre": "Horror",
        "datePublished": "2025-03-01",
        "trailer": {
            "@type": "VideoObject",
            "name": "Official Trailer",
            "url": "https://www.imdb.com/video/vi61/",
            "thumbnail": {"contentUrl": "http://example.invalid/p.jpg"},
            "uploadDate": "2026-11-20T01:02:03Z",
            "duration": "PT1M5S",
        },
    }
    site.put("/title/tt0000006/", site.page('{"props": {broken', ld))
    site.put("/title/tt0000007/", site.page('{"props": {broken'))
    site.put("/title/tt0000008/", "gone", status=404)

    summary = crawl_catalog(ONE_DAY, crawl_settings, store)

    trailers = {trailer.trailer_id: trailer for trailer in read_trailers(store)}
    assert sorted(trailers) == ["imdb-vi11", "imdb-vi12", "imdb-vi41", "imdb-vi51", "imdb-vi61"]
    first = trailers["imdb-vi11"]
    assert (first.title, first.genres, first.kind) == ("Salt & Ash '26", ("Sci-Fi", "Action"), "trailer")
    assert (first.source_url, first.page_url) == (f"{site.url}/video/vi11/", f"{site.url}/title/tt0000001/")
    assert (first.year, first.listed_on, first.duration_s) == (2026, DAY, 31)
    assert trailers["imdb-vi12"].kind == "teaser"
    assert trailers["imdb-vi51"].film_id == "imdb-tt0000005"
    linked = trailers["imdb-vi61"]
    assert (linked.genres, linked.year, linked.duration_s) == (("Horror",), 2025, 65)
    assert summary.n_listed == 5
    assert summary.is_new
    assert summary.n_titles_seen == 20
    assert summary.set_aside == {
        "forbidden_by_robots": 1, "gone": 1, "no_trailer": 1, "not_a_movie": 1, "unreadable": 1,
    }  # fmt: skip
    aside = {key: store.read_json(key)["reason"] for key in store.list_keys("quarantine/")}
    assert aside["quarantine/catalog/imdb-tt0000002.json"] == "not_a_movie"
    assert aside["quarantine/catalog/imdb-tt0000003.json"] == "no_trailer"
    assert len(aside) == 5
    assert site.seen["/title/tt0000009/"] == 0
    assert site.seen["/title/tt0000004/"] == 1
    assert site.agents == {"test-crawler/1 (+mailto:tests@example.invalid)"}


def test_a_second_run_changes_nothing_and_reads_nothing(site, crawl_settings, store):
    fill(site)
    crawl_catalog(ONE_DAY, crawl_settings, store)
    before, n_requests = all_objects(store), site.seen.total()
    again = crawl_catalog(ONE_DAY, crawl_settings, store)
    assert not again.is_new
    assert again.n_listed == 4
    assert site.seen.total() == n_requests
    assert all_objects(store) == before


def test_the_bytes_depend_on_what_the_site_says_only(site, crawl_settings, store):
    ids = fill(site)
    crawl_catalog(ONE_DAY, crawl_settings, store)
    key = "catalog/listed=2026-11-20/trailers.jsonl"
    before = store.read_bytes(key)
    store.delete(key)
    site.pages.pop(site.chart)
    site.put_chart(*reversed(ids))
    crawl_catalog(ONE_DAY, crawl_settings, store)
    assert store.read_bytes(key) == before


def test_an_interval_of_days_makes_a_file_a_day(site, crawl_settings, store):
    site.put_chart("tt1")
    site.put_title("tt1", "One", [site.video(n, title_id="tt1", date=f"2026-11-{n}") for n in (20, 22, 23)])
    summary = crawl_catalog(Interval(start=DAY, end=dt.date(2026, 11, 23)), crawl_settings, store)
    assert summary.n_listed == 2
    assert [len(list(read_trailers(store, dt.date(2026, 11, day)))) for day in (20, 21, 22)] == [1, 0, 1]
    assert not store.exists("catalog/listed=2026-11-23/trailers.jsonl")


def test_a_title_that_gets_a_trailer_is_no_longer_set_aside(site, crawl_settings, store):
    site.put_chart("tt1")
    site.put_title("tt1", "Late", [])
    site.put_title("tt1", "Late", [site.video(1, title_id="tt1", date="2026-11-21")])
    crawl_catalog(ONE_DAY, crawl_settings, store)
    assert list(store.list_keys("quarantine/")) == ["quarantine/catalog/imdb-tt1.json"]
    crawl_catalog(Interval.of_day(dt.date(2026, 11, 21)), crawl_settings, store)
    assert list(store.list_keys("quarantine/")) == []


def test_a_trailer_whose_date_moves_is_listed_once(site, crawl_settings, store):
    site.put_chart("tt1")
    site.put_title("tt1", "Moved", [site.video(1, title_id="tt1")])
    moved = [site.video(1, title_id="tt1", date="2026-11-21"), site.video(2, title_id="tt1", date="2026-11-21")]
    site.put_title("tt1", "Moved", moved)
    assert crawl_catalog(ONE_DAY, crawl_settings, store).n_listed == 1
    next_day = Interval.of_day(dt.date(2026, 11, 21))
    assert crawl_catalog(next_day, crawl_settings, store).n_listed == 1
    batches = plan_batches(Interval(start=DAY, end=next_day.end), crawl_settings, store)
    assert [read_batch_ids(store, batch) for batch in batches] == [("imdb-vi1",), ("imdb-vi2",)]


@pytest.mark.parametrize("n_days", [1, 3])
def test_a_day_that_is_not_over_is_not_crawled(site, crawl_settings, store, n_days):
    fill(site)
    today = dt.datetime.now(dt.UTC).date()
    interval = Interval(start=today - dt.timedelta(days=n_days - 1), end=today + dt.timedelta(days=1))
    with pytest.raises(SettingsError, match=f"{today} is not over"):
        crawl_catalog(interval, crawl_settings, store)
    assert site.seen.total() == 0
    assert all_objects(store) == {}


def test_without_a_bucket_nothing_is_asked_for(site, crawl_settings):
    fill(site)
    nowhere = Store(crawl_settings.store.model_copy(update={"bucket": "nobody"}))
    with pytest.raises(SettingsError, match="no bucket 'nobody'"):
        crawl_catalog(ONE_DAY, crawl_settings, nowhere)
    assert site.seen.total() == 0


def test_malformed_pages_cost_no_other_title(site, crawl_settings, store):
    ids = fill(site, 20)
    site.pages.pop(site.chart)
    site.put_chart("tt\u0661\u0662\u0663", f"tt{'7' * 200}", *ids)
    for title_id, (year, title) in zip(
        ids, [(10**30, "Far"), (float("inf"), "Endless"), (2026, "\ud800")], strict=False
    ):
        data = site.title_data(title, [site.video(int(title_id[2:]), title_id=title_id)])
        data["props"]["pageProps"]["aboveTheFoldData"]["releaseYear"]["year"] = year
        site.pages[f"/title/{title_id}/"] = [(200, {}, site.page(data))]
    summary = crawl_catalog(ONE_DAY, crawl_settings, store)
    assert (summary.n_listed, summary.n_titles_seen, summary.set_aside) == (19, 20, {"unreadable": 1})
    assert store.read_json(f"quarantine/catalog/imdb-{ids[0]}.json")["detail"].startswith("Far: year")
    trailers = {trailer.film_id: trailer for trailer in read_trailers(store)}
    assert trailers[f"imdb-{ids[1]}"].year is None
    assert trailers[f"imdb-{ids[2]}"].title == "?"


def test_without_permission_nothing_is_asked_for(site, crawl_settings, store):
    fill(site)
    catalog = crawl_settings.catalog.model_copy(update={"accept_terms": ()})
    with pytest.raises(SettingsError, match=r"written consent.*TRAILER_CATALOG_ACCEPT_TERMS"):
        crawl_catalog(ONE_DAY, crawl_settings.model_copy(update={"catalog": catalog}), store)
    assert site.seen.total() == 0


def test_a_challenge_on_the_chart_ends_the_crawl(site, crawl_settings, store):
    site.put(site.chart, "", **CHALLENGE)
    with pytest.raises(SourceBlockedError, match=r"challenge.*moviemeter"):
        crawl_catalog(ONE_DAY, crawl_settings, store)
    assert site.seen[site.chart] == 1
    assert list(all_objects(store)) == ["catalog/blocked/imdb_html.json"]


def test_a_challenge_on_a_later_page_of_the_chart_is_no_whole_crawl(site, crawl_settings, store):
    site.put_chart("tt1", next_page=2)
    site.put_title("tt1", "One", [site.video(1, title_id="tt1")])
    site.put(f"{site.chart}?page=2", "", **CHALLENGE)
    with pytest.raises(SourceUnavailableError, match="to its end"):
        crawl_catalog(ONE_DAY, crawl_settings, store)
    assert all_objects(store) == {}


def test_a_source_that_blocks_us_is_written_down_until_it_works(site, crawl_settings, store):
    fill(site)
    chart = site.pages[site.chart]
    site.pages[site.chart] = [(202, CHALLENGE["headers"], "")]
    seen = []
    for _ in range(2):
        with pytest.raises(SourceBlockedError) as caught:
            crawl_catalog(ONE_DAY, crawl_settings, store)
        seen.append(store.read_json("catalog/blocked/imdb_html.json"))
        store.put_json("catalog/blocked/imdb_html.json", {**seen[0], "since": "2026-01-02T03:04:05Z", "detail": "old"})
    assert seen[1]["since"] == "2026-01-02T03:04:05Z"  # it began then, and goes on
    assert seen[0]["since"] > "2026-01-02"
    assert seen[0]["source"] == "imdb_html"
    assert seen[0]["detail"] == seen[1]["detail"] == str(caught.value)
    assert count_states(store).blocked == {"imdb_html": "since 2026-01-02: old"}

    site.pages[site.chart] = [(503, {}, "")]  # this says neither yes nor no
    with pytest.raises(SourceUnavailableError):
        crawl_catalog(ONE_DAY, crawl_settings, store)
    assert count_states(store).blocked
    site.pages[site.chart] = chart
    assert crawl_catalog(ONE_DAY, crawl_settings, store).n_listed == 4
    assert count_states(store).blocked == {}


def test_challenges_in_a_row_end_the_crawl(site, crawl_settings, store):
    ids = fill(site, 12)
    for title_id in ids[2:]:
        site.pages[f"/title/{title_id}/"] = [(202, CHALLENGE["headers"], "")]
    with pytest.raises(SourceBlockedError, match="challenge"):
        crawl_catalog(ONE_DAY, crawl_settings, store)
    n_asked = sum(site.seen[f"/title/{title_id}/"] for title_id in ids)
    assert 3 <= n_asked <= 2 + crawl_settings.catalog.max_challenges + 1  # one more may be on its way
    assert list(all_objects(store)) == ["catalog/blocked/imdb_html.json"]


def test_robots_that_forbid_the_chart_are_obeyed(site, crawl_settings, store):
    fill(site)
    site.pages["/robots.txt"] = [(200, {}, "User-agent: *\nDisallow: /chart/\n")]
    with pytest.raises(SourceBlockedError, match=r"robots\.txt.*forbids /chart/moviemeter/"):
        crawl_catalog(ONE_DAY, crawl_settings, store)
    assert site.seen[site.chart] == 0


def test_a_title_that_opts_out_is_set_aside(site, crawl_settings, store):
    ids = fill(site, 4)
    says = {"X-Robots-Tag": "test-crawler: noai"}
    site.pages[f"/title/{ids[0]}/"] = [(200, says, site.pages[f"/title/{ids[0]}/"][0][2])]
    data = site.title_data("Film 2", [site.video(2, title_id=ids[1])])
    site.pages[f"/title/{ids[1]}/"] = [(200, {}, site.page(data, head='<meta name="robots" content="noai">'))]
    summary = crawl_catalog(ONE_DAY, crawl_settings, store)
    assert (summary.n_listed, summary.set_aside) == (2, {"opted_out": 2})
    entry = Quarantine.model_validate(store.read_json(f"quarantine/catalog/imdb-{ids[0]}.json"))
    assert (entry.reason, entry.detail, entry.is_permanent) == ("opted_out", "X-Robots-Tag: noai", True)


@pytest.mark.parametrize("number", [1, 2])
def test_a_chart_that_opts_out_ends_the_crawl(site, crawl_settings, store, number):
    ids = fill(site)
    site.pages.pop(site.chart)
    site.put_chart(*ids, next_page=2)
    site.put_chart(*ids, number=2)
    path = site.chart if number == 1 else f"{site.chart}?page=2"
    site.pages[path] = [(200, {"X-Robots-Tag": "noai"}, site.pages[path][0][2])]
    with pytest.raises(SourceBlockedError, match=r"moviemeter/ says that it is not for .*X-Robots-Tag: noai"):
        crawl_catalog(ONE_DAY, crawl_settings, store)
    assert number == 2 or sum(site.seen[f"/title/{title_id}/"] for title_id in ids) == 0
    assert list(read_trailers(store)) == []


def test_retry_after_is_waited_for(site, crawl_settings, store):
    fill(site, 3)
    title = site.pages.pop("/title/tt0000002/")
    site.put("/title/tt0000002/", "slow down", status=429, headers={"Retry-After": "1"})
    site.pages["/title/tt0000002/"] += title
    began = time.monotonic()
    assert crawl_catalog(ONE_DAY, crawl_settings, store).n_listed == 3
    assert time.monotonic() - began >= 1
    assert site.seen["/title/tt0000002/"] == 2


@pytest.mark.parametrize(("page", "n_more"), [("title", 2), ("chart", 1), ("robots", 0)])
def test_a_longer_retry_after_ends_the_crawl_at_once(site, crawl_settings, store, page, n_more):
    ids = fill(site)
    paths = {"title": [f"/title/{i}/" for i in ids], "chart": [site.chart], "robots": ["/robots.txt"]}
    for path in paths[page]:
        site.pages[path] = [(429, {"Retry-After": "3600"}, "slow down")]
    with pytest.raises(RateLimitedError, match="3600 s") as caught:
        crawl_catalog(ONE_DAY, crawl_settings, store)
    assert caught.value.retry_after_s == 3600
    assert site.seen.total() == 1 + n_more
    assert all_objects(store) == {}


@pytest.mark.parametrize("status", [503, 429, 0])
def test_without_a_robots_txt_that_should_be_there_nothing_is_read(site, crawl_settings, store, status):
    fill(site)
    site.pages["/robots.txt"] = [(status, {}, "")]
    with pytest.raises(SourceUnavailableError, match=r"robots\.txt of .* does not come"):
        crawl_catalog(ONE_DAY, crawl_settings, store)
    assert set(site.seen) == {"/robots.txt"}


def test_a_site_that_has_no_robots_txt_may_be_read(site, crawl_settings, store):
    fill(site)
    site.pages.pop("/robots.txt")
    assert crawl_catalog(ONE_DAY, crawl_settings, store).n_listed == 4


def test_a_site_that_fails_writes_nothing(site, crawl_settings, store):
    ids = fill(site, 8)
    for title_id in ids[4:]:
        site.pages[f"/title/{title_id}/"] = [(503, {}, "")]
    with pytest.raises(SourceUnavailableError, match="4 of 8 titles"):
        crawl_catalog(ONE_DAY, crawl_settings, store)
    assert all_objects(store) == {}


def unreadable(site):
    for title_id in fill(site):
        site.pages[f"/title/{title_id}/"] = [(200, {}, site.page('{"props": {broken'))]


def undated(site):
    fill(site, date="soon, ")


def untyped(site):
    for number, title_id in enumerate(fill(site)):
        data = site.title_data("Film", [site.video(number, title_id=title_id)], type_id="")
        site.pages[f"/title/{title_id}/"] = [(200, {}, site.page(data))]


@pytest.mark.parametrize("change", [unreadable, undated, untyped])
def test_pages_of_another_layout_are_no_empty_day(site, crawl_settings, store, change):
    change(site)
    with pytest.raises(SourceUnavailableError, match=r"4 of 4 titles .*4 are not in a shape that is known"):
        crawl_catalog(ONE_DAY, crawl_settings, store)
    assert all_objects(store) == {}


def test_one_page_in_many_that_fails_is_done_without(site, crawl_settings, store):
    ids = fill(site, 20)
    site.pages[f"/title/{ids[0]}/"] = [(503, {}, "")]
    summary = crawl_catalog(ONE_DAY, crawl_settings, store)
    assert (summary.n_listed, summary.set_aside) == (19, {"unreachable": 1})


@pytest.mark.parametrize("status", [404, 500])
def test_a_chart_that_does_not_come_is_an_error(site, crawl_settings, store, status):
    site.put(site.chart, "", status=status)
    with pytest.raises(SourceUnavailableError, match="could not be read"):
        crawl_catalog(ONE_DAY, crawl_settings, store)


def test_a_second_chart_page_that_is_missing_is_an_error(site, crawl_settings, store):
    site.put_chart("tt1", next_page=2)
    site.put_title("tt1", "One", [site.video(1, title_id="tt1")])
    with pytest.raises(SourceUnavailableError, match="to its end"):
        crawl_catalog(ONE_DAY, crawl_settings, store)
    assert all_objects(store) == {}


def test_a_chart_of_nothing_is_an_error(site, crawl_settings, store):
    site.put_chart()
    with pytest.raises(SourceUnavailableError, match="lists no title"):
        crawl_catalog(ONE_DAY, crawl_settings, store)


def redirect(site, title_id, *, to):
    site.pages[f"/title/{title_id}/"] = [(302, {"Location": to.replace("127.0.0.1", "localhost")}, "")]


def test_titles_that_are_redirected_away_are_missed(site, crawl_settings, store):
    ids = fill(site, 40)
    for title_id in ids[20:]:
        redirect(site, title_id, to=f"{site.url}/title/tt0000099/")
    with pytest.raises(SourceUnavailableError, match=r"20 of 40 titles .*20 did not come"):
        crawl_catalog(ONE_DAY, crawl_settings, store)
    assert site.seen["/title/tt0000099/"] == 0
    assert all_objects(store) == {}


def test_a_title_that_did_not_come_is_listed_when_it_does(site, crawl_settings, store):
    ids = fill(site, 40)
    page = site.pages[f"/title/{ids[0]}/"]
    redirect(site, ids[0], to=f"{site.url}/title/tt0000099/")
    redirect(site, ids[1], to=f"/title/{ids[2]}/")  # read before or after; it is another title's page
    summary = crawl_catalog(ONE_DAY, crawl_settings, store)
    assert (summary.n_listed, summary.n_titles_seen, summary.set_aside) == (38, 40, {"unreachable": 2})
    before = all_objects(store)
    key = f"quarantine/catalog/imdb-{ids[0]}.json"
    entry = Quarantine.model_validate(store.read_json(key))
    assert (entry.is_permanent, entry.attempts, entry.detail[:10]) == (False, 1, "a redirect")
    store.put_json(key, entry.model_copy(update={"retry_at": entry.retry_at - dt.timedelta(days=1)}).to_json())

    site.pages[f"/title/{ids[0]}/"] = page
    site.pages.pop(site.chart)
    site.put_chart(*ids[1:])  # it is not on the chart any longer
    summary = crawl_catalog(NEXT_DAY, crawl_settings, store)
    assert (summary.n_listed, summary.n_late, summary.set_aside) == (0, 1, {"unreachable": 1})
    assert {trailer.film_id for trailer in read_trailers(store, DAY)} == {f"imdb-{i}" for i in ids if i != ids[1]}
    late = "catalog/listed=2026-11-20/late=2026-11-21.jsonl"
    after = all_objects(store)
    assert after.keys() - before.keys() == {late, "catalog/listed=2026-11-21/trailers.jsonl"}
    assert before.keys() - after.keys() == {key}
    assert all(after[each] == before[each] for each in before if each != key)  # the other waits, its time has not come
    assert b"imdb-vi1" in after[late]
    assert not crawl_catalog(NEXT_DAY, crawl_settings, store).is_new
    assert all_objects(store) == after

    # The crawl was cut off before its last file, and when it is done again the other one has come, too.
    store.delete("catalog/listed=2026-11-21/trailers.jsonl")
    key = f"quarantine/catalog/imdb-{ids[1]}.json"
    entry = Quarantine.model_validate(store.read_json(key))
    store.put_json(key, entry.model_copy(update={"retry_at": entry.retry_at - dt.timedelta(days=1)}).to_json())
    site.put_title(ids[1], "Film 2", [site.video(2, title_id=ids[1])])
    assert crawl_catalog(NEXT_DAY, crawl_settings, store).n_late == 1
    again = all_objects(store)
    assert again.keys() - after.keys() == {late.replace(".jsonl", ".1.jsonl")}
    assert again[late] == after[late]
    assert read_late(store, NEXT_DAY) == {DAY: {"imdb-vi1", "imdb-vi2"}}


def test_a_title_that_never_comes_is_given_up(store):
    past = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    entry = Quarantine(id="imdb-tt1", stage="catalog", reason="unreachable", is_permanent=False, retry_at=past)
    key, attempts = "quarantine/catalog/imdb-tt1.json", []
    for _ in range(12):
        _keep_set_aside([entry], _read_set_aside(store), store)
        kept = Quarantine.model_validate(store.read_json(key))
        attempts.append((kept.attempts, kept.is_permanent))
    assert attempts == [*((n, False) for n in range(1, 10)), (10, True), (10, True), (10, True)]
    gone = Quarantine(id="imdb-tt1", stage="catalog", reason="gone", is_permanent=True)
    _keep_set_aside([gone], _read_set_aside(store), store)
    assert store.read_json(key) == gone.to_json()


@pytest.mark.parametrize("to", ["http://localhost:9/chart/", CHART])
def test_a_chart_page_that_is_redirected_away_is_missed(site, crawl_settings, store, to):
    site.put_chart("tt1", next_page=2)
    site.put_title("tt1", "One", [site.video(1, title_id="tt1")])
    site.put(f"{site.chart}?page=2", "", status=302, headers={"Location": to})
    with pytest.raises(SourceUnavailableError, match="to its end"):
        crawl_catalog(ONE_DAY, crawl_settings, store)


def test_a_chart_page_that_comes_after_itself_is_the_last(site, crawl_settings, store):
    site.put_chart("tt1", next_page=2)
    site.put_chart("tt1", next_page=2, number=2)
    site.put_title("tt1", "One", [site.video(1, title_id="tt1")])
    assert crawl_catalog(ONE_DAY, crawl_settings, store).n_listed == 1


def test_an_answer_that_is_no_page_costs_no_other_title(site, crawl_settings, store):
    ids = fill(site, 40)
    site.pages[f"/title/{ids[0]}/"] = [(200, {"Content-Type": "application/json"}, '{"a": 1}')]
    site.pages[f"/title/{ids[1]}/"] = [(200, {"Content-Type": "application/octet-stream"}, "\x00\x01")]
    summary = crawl_catalog(ONE_DAY, crawl_settings, store)
    assert (summary.n_listed, summary.set_aside) == (38, {"unreadable": 2})


def test_a_crawl_that_hangs_is_killed(site, crawl_settings, store):
    fill(site)
    site.pages["/title/tt0000001/"] = [(429, {"Retry-After": "100"}, "")]
    catalog = crawl_settings.catalog.model_copy(update={"timeout_s": 5.0})
    with pytest.raises(ChildTimeoutError, match="5 s"):
        crawl_catalog(ONE_DAY, crawl_settings.model_copy(update={"catalog": catalog}), store)


@pytest.mark.parametrize("victim", ["the crawl", "its child"])
def test_kill_9_in_the_middle_leaves_nothing_and_the_next_try_has_each_title_once(
    site, crawl_settings, store, tmp_path, victim
):
    ids = fill(site, 300)
    middle = f"/title/{ids[150]}/"
    site.pages[middle].insert(0, (429, {"Retry-After": "100"}, ""))
    code = (
        "import datetime as dt\nfrom trailer_ml.catalog.crawl import crawl_catalog\n"
        "from trailer_ml.records import Interval\nfrom trailer_ml.settings import load_settings\n"
        "from trailer_ml.storage import Store\nsettings = load_settings()\n"
        "crawl_catalog(Interval.of_day(dt.date(2026, 11, 20)), settings, Store(settings.store))\n"
    )
    keys = {
        "AWS_ACCESS_KEY_ID": crawl_settings.store.access_key_id.get_secret_value(),
        "AWS_SECRET_ACCESS_KEY": crawl_settings.store.secret_access_key.get_secret_value(),
    }
    environment = {**os.environ, **as_environment(crawl_settings), **keys, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not site.seen[middle]:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (job_path,) = tmp_path.glob("trailer-ml-crawl-*/job.json")
    (child,) = find_processes(job_path)
    os.kill(process.pid if victim == "the crawl" else child, signal.SIGKILL)
    _, said = process.communicate()
    assert victim == "the crawl" or b"ChildKilledError" in said  # which Airflow tries again
    assert all_objects(store) == {}
    while find_processes(job_path):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert 1 < sum(site.seen[f"/title/{title_id}/"] for title_id in ids) < 300
    assert crawl_catalog(ONE_DAY, crawl_settings, store).n_listed == 300
    assert sorted(trailer.film_id for trailer in read_trailers(store)) == [f"imdb-{title_id}" for title_id in ids]


def find_processes(mentioned):
    """Ids of the processes that have something among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(mentioned).encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def test_the_process_that_reads_the_site_has_no_secret(site, crawl_settings, store, monkeypatch, tmp_path):
    fill(site)
    for name in ("AWS_SECRET_ACCESS_KEY", "POSTGRES_PASSWORD", "HF_TOKEN", "TRAILER_STORE_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "hidden")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    answer, seen = site.answer, []

    def look_and_answer(path):
        for process in find_processes(tmp_path):
            seen.append(Path(f"/proc/{process}/environ").read_bytes())
            seen.append(Path(f"/proc/{process}/cmdline").read_bytes())
            seen.extend(file.read_bytes() for file in tmp_path.glob("*/job.json"))
        return answer(path)

    site.answer = look_and_answer
    crawl_catalog(ONE_DAY, crawl_settings, store)
    assert any(b"PATH=" in each for each in seen)
    secret = crawl_settings.store.secret_access_key.get_secret_value().encode()
    assert not any(b"hidden" in each or secret in each for each in seen)
