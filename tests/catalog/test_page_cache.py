"""A second crawl asks about what it has read before, and notices all that it noticed without."""

import datetime as dt

import pytest

from trailer_ml.catalog.crawl import crawl_catalog
from trailer_ml.catalog.listing import read_trailers
from trailer_ml.errors import LocalFaultError, SourceBlockedError, SourceUnavailableError
from trailer_ml.records import Interval

FIRST, SECOND = (Interval.of_day(dt.date(2026, 11, day)) for day in (20, 21))
IDS = [f"tt{number:07d}" for number in range(1, 5)]
LONG_AGO = {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}


def fill(site, **headers):
    """A chart and four titles, every page with a tag of its own."""
    site.put_chart(*IDS)
    for number, title_id in enumerate(IDS, 1):
        site.put_title(title_id, f"Film {number}", [site.video(number, title_id=title_id)])
    for path in pages(site):
        tag(site, path, "1", **headers)


def pages(site):
    return [site.chart, *(f"/title/{title_id}/" for title_id in IDS)]


def tag(site, path, version, **headers):
    ((status, _, body),) = site.pages[path]
    site.pages[path] = [(status, {"ETag": f'"{path}-{version}"', **headers}, body)]


@pytest.mark.parametrize("headers", [{}, {"Content-Encoding": "gzip"}, {"Cache-Control": "no-cache"}, LONG_AGO])
def test_what_has_not_changed_is_not_sent_again(site, crawl_settings, store, headers):
    fill(site, **headers)
    assert crawl_catalog(FIRST, crawl_settings, store).n_listed == 4
    assert site.unchanged.total() == 0

    path = f"/title/{IDS[0]}/"
    site.pages.pop(path)
    videos = [site.video(1, title_id=IDS[0]), site.video(9, title_id=IDS[0], date="2026-11-21")]
    site.put_title(IDS[0], "Film 1", videos)
    tag(site, path, "2", **headers)
    summary = crawl_catalog(SECOND, crawl_settings, store)
    assert (summary.n_listed, summary.n_titles_seen, summary.set_aside) == (1, 4, {})
    assert sorted(site.unchanged) == sorted(set(pages(site)) - {path})
    assert all(site.seen[each] == 2 for each in [*pages(site), "/robots.txt"])
    assert len(list(read_trailers(store))) == 5


def test_what_holds_for_longer_is_not_asked_about(site, crawl_settings, store):
    fill(site, **{"Cache-Control": "max-age=3600"})
    crawl_catalog(FIRST, crawl_settings, store)
    assert crawl_catalog(SECOND, crawl_settings, store).n_titles_seen == 4
    assert all(site.seen[path] == 1 for path in pages(site))
    assert site.seen["/robots.txt"] == 2


@pytest.mark.parametrize(("status", "body"), [(202, ""), (200, "<script>window.gokuProps = {}</script>")])
def test_a_challenge_is_noticed_and_not_kept(site, crawl_settings, store, status, body):
    fill(site)
    crawl_catalog(FIRST, crawl_settings, store)
    good = site.pages[site.chart]
    says = {"ETag": '"challenge"', "Cache-Control": "max-age=3600", "Content-Encoding": "gzip"}
    site.pages[site.chart] = [(status, says, body or site.page())]
    for _ in range(2):
        with pytest.raises(SourceBlockedError, match="challenge"):
            crawl_catalog(SECOND, crawl_settings, store)
    assert site.seen[site.chart] == 3
    site.pages[site.chart] = good
    assert crawl_catalog(SECOND, crawl_settings, store).n_titles_seen == 4


@pytest.mark.parametrize("status", [503, 404, 0])
def test_an_old_page_is_no_answer(site, crawl_settings, store, status):
    fill(site)
    crawl_catalog(FIRST, crawl_settings, store)
    site.pages[site.chart] = [(status, {}, "")]
    with pytest.raises(SourceUnavailableError, match="to its end"):
        crawl_catalog(SECOND, crawl_settings, store)


def test_a_page_that_opts_out_since_is_noticed(site, crawl_settings, store):
    fill(site)
    crawl_catalog(FIRST, crawl_settings, store)
    tag(site, f"/title/{IDS[0]}/", "1", **{"X-Robots-Tag": "noai"})
    assert crawl_catalog(SECOND, crawl_settings, store).set_aside == {"opted_out": 1}
    assert site.unchanged[f"/title/{IDS[0]}/"] == 1


def test_a_page_that_was_kept_badly_is_read_again(site, crawl_settings, store):
    fill(site)
    crawl_catalog(FIRST, crawl_settings, store)
    kept = sorted((crawl_settings.sources.cache_folder / "imdb_html").iterdir())
    assert len(kept) == 5
    for number, path in enumerate(kept):
        path.write_bytes(path.read_bytes()[: number * 100] if number % 2 else b'{"headers": {}, "body": "AAAA"}')
    assert crawl_catalog(SECOND, crawl_settings, store).n_titles_seen == 4
    assert site.unchanged.total() == 0


def test_a_folder_that_cannot_be_is_said(site, crawl_settings, store, tmp_path):
    fill(site)
    (tmp_path / "file").write_text("in the way")
    sources = crawl_settings.sources.model_copy(update={"cache_folder": tmp_path / "file"})
    with pytest.raises(LocalFaultError, match="cache in"):
        crawl_catalog(FIRST, crawl_settings.model_copy(update={"sources": sources}), store)
    assert site.seen.total() == 0
