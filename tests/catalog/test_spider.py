"""What counts as a challenge, and what pages of odd shapes say; no network."""

import datetime as dt

import pytest
from scrapy.exceptions import CloseSpider
from scrapy.http import HtmlResponse, Request, Response
from scrapy.utils.test import get_crawler

from trailer_ml.catalog.retry_after import parse_retry_after
from trailer_ml.catalog.spiders import pages
from trailer_ml.catalog.spiders.imdb import ImdbSpider
from trailer_ml.catalog.spiders.opt_out import find_opt_out
from trailer_ml.settings import CatalogSettings

URL = "https://www.imdb.com/title/tt0000001/"
GOOD = '<script type="application/ld+json">{"@type": "Movie", "name": "Fine"}</script>'


def spider_of(**catalog):
    return ImdbSpider.from_crawler(get_crawler(ImdbSpider), catalog=CatalogSettings(**catalog))


def response_of(body, status=200, headers=None):
    return HtmlResponse(URL, status=status, headers=headers, body=body, encoding="utf-8", request=Request(URL))


@pytest.mark.parametrize(
    ("body", "status", "headers"),
    [
        ("", 202, {}),
        (GOOD, 202, {"x-amzn-waf-action": "challenge"}),
        ("", 403, {"x-amzn-waf-action": "captcha"}),
        ("<script>window.gokuProps = {}</script>" + GOOD, 200, {}),
        ("<script>awsWafCookieDomainList = []</script>", 405, {}),
        ("<html>Please enable JavaScript</html>", 200, {}),
    ],
)
def test_challenges_are_known(body, status, headers):
    spider = spider_of(max_challenges=2)
    response = response_of(body, status, headers)
    assert list(spider.parse_title(response, "tt0000001")) == []
    assert spider.first_blocked_url == URL
    with pytest.raises(CloseSpider) as caught:
        list(spider.parse_chart(response))
    assert caught.value.reason == "blocked"


def test_a_good_page_between_two_challenges_starts_the_count_again():
    spider = spider_of(max_challenges=2)
    challenge, good = response_of("", 202), response_of(GOOD)
    for response in (challenge, good, challenge, good):
        list(spider.parse_title(response, "tt0000001"))
    assert spider.crawler.stats.get_value("trailer_ml/challenges") == 2


@pytest.mark.parametrize(
    "genres",
    [
        {"genres": {"genres": [{"text": "Action"}, {"text": "Sci-Fi"}]}},
        {"titleGenres": {"genres": [{"genre": {"text": "Action"}}, {"genre": {"text": "Sci-Fi"}}]}},
        {"genres": {"genres": [{"text": "Action"}, {"text": "Sci-Fi"}, {"text": "Action"}, {"text": None}]}},
    ],
)
@pytest.mark.parametrize("part", ["aboveTheFoldData", "mainColumnData"])
def test_genres_in_all_their_shapes(genres, part):
    data = {"aboveTheFoldData": {"titleText": {"text": "T"}}, "mainColumnData": {}}
    data[part] = {**data[part], **genres}
    assert pages.read_title({"props": {"pageProps": data}}, []).genres == ("Action", "Sci-Fi")


def test_a_chart_lists_titles_only():
    edges = [{"node": {"id": "tt12"}}, {"node": {"id": "nm1"}}, {"node": None}, "odd", {"node": {"id": "tt13"}}]
    data = {"props": {"pageProps": {"pageData": {"chartTitles": {"edges": edges}}}}}
    assert pages.read_chart(data) == ["tt12", "tt13"]


@pytest.mark.parametrize(
    "data", [None, [], "text", 7, {"props": []}, {"props": {"pageProps": {"aboveTheFoldData": [1]}}}]
)
def test_data_of_another_shape_says_nothing(data):
    assert pages.read_chart(data) == []
    assert pages.read_title(data, [data]) is None


@pytest.mark.parametrize("kind", ["VideoObject", "TVSeries"])
def test_linked_data_of_something_else_is_no_movie(kind):
    assert pages.read_title(None, [{"@type": kind, "name": "N", "genre": ["A", "B"]}]).title_type == kind


def test_json_nested_without_end_is_none():
    assert pages.parse_json("[" * 100_000) is None


@pytest.mark.parametrize("url", [f"https://www.imdb.com/video/vi{'7' * 13}", "https://www.imdb.com/video/vi\u0661"])
def test_an_id_that_is_none_is_no_video(url):
    trailer = {"@type": "VideoObject", "url": url, "uploadDate": "2026-01-02"}
    assert pages.read_title(None, [{"@type": "Movie", "name": "N", "trailer": trailer}]).videos == ()


@pytest.mark.parametrize("runtime", [float("inf"), float("nan"), 10**400, "long"], ids=["inf", "nan", "huge", "text"])
def test_a_length_that_is_none_is_not_announced(runtime):
    node = {"id": "vi7", "contentType": {"id": "trailer"}, "createdDate": "2026-01-02", "runtime": {"value": runtime}}
    main = {"titleText": {"text": "T"}, "primaryVideos": {"edges": [{"node": node}]}}
    (video,) = pages.read_title({"props": {"pageProps": {"aboveTheFoldData": main}}}, []).videos
    assert video.duration_s is None


def test_a_trailer_without_a_date_is_not_listed():
    trailer = {"@type": "VideoObject", "embedUrl": "https://www.imdb.com/video/imdb/vi7"}
    page = pages.read_title(None, [{"@type": "Movie", "name": "N", "trailer": trailer}])
    assert page.videos == ()
    assert page.is_undated
    dated = pages.read_title(
        None, [{"@type": "Movie", "name": "N", "trailer": [{**trailer, "uploadDate": "2026-01-02"}]}]
    )
    assert dated.videos == (pages.Video("vi7", "trailer", dt.date(2026, 1, 2), None, None),)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", None),
        ("soon", None),
        ("inf", None),
        ("7", 7.0),
        ("-3", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("99999999999999", 604800.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 604800.0),
        (f"Wed, 21 Oct 2015 07:28:00 +{'9' * 30}", None),
    ],
)
def test_retry_after(text, seconds):
    assert parse_retry_after(text) == seconds


OURS = "trailer-ml/1 (+mailto:us@example.invalid)"


@pytest.mark.parametrize(
    ("tags", "head", "found"),
    [
        ([], "", ""),
        (["noindex, nofollow"], "", ""),
        (["NoAI"], "", "X-Robots-Tag: noai"),
        (["noindex", "nofollow, noimageai"], "", "X-Robots-Tag: noimageai"),
        (["none"], "", "X-Robots-Tag: none"),
        (["trailer-ml: noai"], "", "X-Robots-Tag: noai"),
        (["Trailer-ML: noindex, noai"], "", "X-Robots-Tag: noai"),
        (["*: noai"], "", "X-Robots-Tag: noai"),
        (["other-bot: noai, none"], "", ""),
        (["other-bot: none, trailer-ml: noai"], "", "X-Robots-Tag: noai"),
        (["other-bot: none", "noai"], "", "X-Robots-Tag: noai"),
        (["unavailable_after: 25 Jun 2010 15:00:00 GMT"], "", ""),
        (["max-snippet: -1, noai"], "", "X-Robots-Tag: noai"),
        ([], '<meta name="robots" content="index, NOAI">', '<meta name="robots">: noai'),
        ([], '<META NAME="Robots" CONTENT="noimageai,noai">', '<meta name="Robots">: noimageai'),
        ([], '<meta name="trailer-ml" content="noai">', '<meta name="trailer-ml">: noai'),
        ([], '<meta name="other-bot" content="noai"><meta name="description" content="none">', ""),
        ([], '<meta name="robots"><meta content="noai">', ""),
    ],
)
def test_who_says_that_a_page_is_not_for_us(tags, head, found):
    assert find_opt_out(response_of(f"<head>{head}</head>", headers={"X-Robots-Tag": tags}), OURS) == found


def test_an_answer_that_is_no_page_says_it_in_its_header_only():
    url = "https://www.imdb.com/x"
    assert find_opt_out(Response(url, body=b'<meta name="robots" content="noai">'), OURS) == ""
    assert find_opt_out(Response(url, headers={"X-Robots-Tag": "noai"}), OURS) == "X-Robots-Tag: noai"
