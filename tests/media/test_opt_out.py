"""An answer, page or media, that is not for machines that learn: nobody learns from it, and it is not asked again."""

import pytest

from trailer_ml.catalog.opt_out import opts_out
from trailer_ml.media.download import download_batch, download_videos


@pytest.mark.parametrize(
    ("values", "is_out"),
    [
        (["noai"], True),
        (["noindex, NoImageAI"], True),
        (["none"], True),
        (["trailer-ml: noai"], True),
        (["Trailer-ML : noindex,none"], True),
        (["*: noai"], True),
        (["other: noindex, trailer-ml: noai"], True),
        (["other: noai", "none"], True),
        (["other: noai, none"], False),
        (["trailer-ml: noindex, other: noai"], False),
        (["noindex, nofollow"], False),
        (["unavailable_after: 25 Jun 2010 15:00:00 PST, noai"], True),
        (["max-image-preview: none"], False),
        (["noairplanes"], False),
        ([], False),
    ],
)
def test_who_is_meant_and_by_which_word(values, is_out):
    assert opts_out(values, "trailer-ml/0.1 (+https://example.org)") is is_out


def test_page_and_media_may_opt_out(fault_site, media_settings, store, make_batch, videos, with_media):
    site, good = fault_site, videos["silent"].read_bytes()
    page = '<html><head>{}</head><body><video src="{}"></video></body></html>'
    site.put("/behind.mp4", site.send(good, X_Robots_Tag="noindex, noai"))

    def lead(path, target, head="", **headers):
        body = page.format(head, site.url + target).encode()
        return site.put(path, site.send(body, content_type="text/html", **headers))

    urls = {
        "a-page": lead("/page", "/never.mp4", X_Robots_Tag="test-downloader: none"),
        "b-media": lead("/leads-there", "/behind.mp4"),
        "c-others": site.put("/fine.mp4", site.send(good, X_Robots_Tag="other-bot: noai, none")),
        "d-in-itself": lead("/in-itself", "/never.mp4", head='<meta content="index, NoAI" name="Robots">'),
        "e-to-others": lead("/to-others", "/fine.mp4", head='<meta name="other-bot" content="noai">'),
    }
    summary = download_batch(make_batch(urls), with_media(media_settings, max_loss_share=1.0), store)
    assert (summary.rejected, summary.n_downloaded, summary.waiting) == ({"opted_out": 3}, 2, {})
    entry = store.read_json("quarantine/download/b-media.json")
    assert "127.0.0.1 is not for machines that learn" in entry["detail"]
    assert entry["is_permanent"]
    assert "of its page says so" in store.read_json("quarantine/download/d-in-itself.json")["detail"]
    assert site.seen == {
        "/page": 1, "/leads-there": 1, "/behind.mp4": 1, "/in-itself": 1, "/to-others": 1, "/fine.mp4": 3,
    }  # fmt: skip


def test_one_header_of_several_is_enough(fault_site, media_settings, videos, tmp_path):
    """Put together they would say `other-bot: noai, none`, which is said to the other one only."""

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "video/mp4")
        handler.send_header("X-Robots-Tag", "other-bot: noai")
        handler.send_header("X-Robots-Tag", "none")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    (outcome,) = download_videos([("t", fault_site.put("/film.mp4", answer))], tmp_path, media_settings)
    assert (outcome.reason, outcome.wait_s, fault_site.seen["/film.mp4"]) == ("opted_out", None, 1)
