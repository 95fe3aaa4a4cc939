"""Who is given up, and when: a source's bad hour, a kill in the middle and a wait that says nothing are no verdicts."""

import datetime as dt
import signal
import tempfile

import pytest

from trailer_ml.errors import TooManyLossesError
from trailer_ml.media.download import download_batch, download_videos
from trailer_ml.records import BatchRef
from trailer_ml.storage import batch_key

PAST = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture(scope="session")
def let_time_pass(quarantined):
    """Whatever waits is due."""

    def let(store):
        for entry in quarantined(store).values():
            if entry.retry_at:
                due = entry.model_copy(update={"retry_at": PAST})
                store.put_json(f"quarantine/download/{entry.id}.json", due.to_json())

    return let


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def forbidden(site):
    return site.send(b"", status=403)


def maintenance(site):
    return site.send(b"<!doctype html><html><body>Back soon</body></html>", content_type="text/html")


def challenge(site):
    page = b"<!doctype html><html><script>window.gokuProps = {};</script></html>"
    return site.send(page, status=202, content_type="text/html", x_amzn_waf_action="challenge")


def missing(site):
    return site.send(b"", status=404)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [(forbidden, "forbidden"), (maintenance, "unsupported"), (challenge, "rate_limited"), (missing, "gone")],
)
def test_a_bad_hour_of_a_source_heals(
    fault_site, media_settings, store, make_batch, videos, *, bad, reason, with_media, quarantined, let_time_pass
):
    good = fault_site.send(videos["silent"].read_bytes())
    urls = {f"t{number}": fault_site.put(f"/{number}.mp4", bad(fault_site)) for number in range(4)}
    batch = make_batch(urls)
    for _ in range(2):  # it is still too much of the batch when its task is run again
        with pytest.raises(TooManyLossesError, match=rf"4 of 4 .*\({reason} 4\).*MAX_LOSS_SHARE"):
            download_batch(batch, with_media(media_settings, attempts=2), store)
    assert not [entry for entry in quarantined(store).values() if entry.is_permanent]
    let_time_pass(store)
    for number in range(4):
        fault_site.put(f"/{number}.mp4", good)
    assert download_batch(batch, media_settings, store).n_downloaded == 4
    assert quarantined(store) == {}


@pytest.mark.parametrize("bad", [forbidden, maintenance])
def test_a_bad_hour_spoils_no_small_batch_either(
    fault_site, media_settings, store, make_batch, bad, with_media, quarantined, let_time_pass
):
    batch = make_batch({"t": fault_site.put("/film.mp4", bad(fault_site))})
    for attempts in (1, 2):
        (reason,) = download_batch(batch, with_media(media_settings, give_up_after=3), store).waiting
        assert quarantined(store)["t"].attempts == attempts
        let_time_pass(store)
    assert download_batch(batch, with_media(media_settings, give_up_after=3), store).rejected == {reason: 1}


def test_a_batch_whose_losses_are_allowed_goes_on_without_them(
    fault_site, media_settings, store, make_batch, videos, with_media, let_time_pass
):
    urls = {f"t{number}": f"{fault_site.url}/none-{number}" for number in range(3)}
    urls["zz"] = fault_site.put("/fine.mp4", fault_site.send(videos["silent"].read_bytes()))
    batch = make_batch(urls)
    with pytest.raises(TooManyLossesError, match=r"3 of 4 .*gone 3.*MAX_LOSS_SHARE") as raised:
        download_batch(batch, media_settings, store)
    size_bytes = store.read_json("media/zz.json")["size_bytes"]
    assert (raised.value.lost, raised.value.n_kept, raised.value.size_bytes) == ({"gone": 3}, 1, size_bytes)
    assert store.exists("media/zz.json")
    let_time_pass(store)
    summary = download_batch(batch, with_media(media_settings, max_loss_share=1.0), store)
    assert (summary.n_reused, summary.rejected, summary.waiting) == (1, {"gone": 3}, {})
    n_requests = fault_site.seen.total()
    again = download_batch(batch, media_settings, store)  # what was given up is no news
    assert (again.n_reused, again.rejected) == (1, {"gone": 3})
    assert fault_site.seen.total() == n_requests


def test_what_is_lost_again_and_again_ends(
    fault_site, media_settings, store, make_batch, with_media, quarantined, let_time_pass
):
    patient = with_media(media_settings, attempts=1, give_up_after=2)
    batch = make_batch({f"t{number}": f"{fault_site.url}/none-{number}" for number in range(3)})
    for _ in range(2):
        with pytest.raises(TooManyLossesError):
            download_batch(batch, patient, store)
        let_time_pass(store)
    n_requests = fault_site.seen.total()
    assert download_batch(batch, patient, store).rejected == {"gone": 3}
    assert fault_site.seen.total() == n_requests
    assert all(entry.is_permanent for entry in quarantined(store).values())


def test_what_an_earlier_batch_lost_is_no_news(
    fault_site, media_settings, store, make_batch, with_media, let_time_pass
):
    """Else those that wait together would fail the night in which they are tried again, and every one after it."""
    busy = fault_site.send(b"", status=503)
    first = make_batch({f"t{number}": fault_site.put(f"/{number}.mp4", busy) for number in range(3)})
    once = with_media(media_settings, attempts=1)
    download_batch(first, with_media(once, max_loss_share=1.0), store)
    let_time_pass(store)
    second = BatchRef(listed_on=first.listed_on, number=1)
    store.create_json(batch_key(second), {"trailer_ids": ["t0", "t1", "t2"]})
    assert download_batch(second, once, store).waiting == {"unavailable": 3}


def test_a_kill_before_the_end_hides_no_losses(fault_site, media_settings, store, make_batch, start_download):
    stalls = fault_site.send_part(b"x" * 9000, 5000, then=fault_site.stall)
    urls = {f"t{number}": f"{fault_site.url}/none-{number}" for number in range(3)}
    urls["t9"] = fault_site.put("/stalls.mp4", stalls)
    batch = make_batch(urls)
    with start_download(batch) as process:
        fault_site.wait_for("/stalls.mp4", process)
        process.send_signal(signal.SIGKILL)
    fault_site.put("/stalls.mp4", fault_site.send(b"", status=404))
    with pytest.raises(TooManyLossesError, match="4 of 4"):
        download_batch(batch, media_settings, store)


def test_what_still_waits_is_a_loss_in_every_run(fault_site, media_settings, store, make_batch, with_media):
    busy = fault_site.send(b"", status=503)
    batch = make_batch({f"t{number}": fault_site.put(f"/{number}.mp4", busy) for number in range(3)})
    for _ in range(2):
        with pytest.raises(TooManyLossesError, match="unavailable 3"):
            download_batch(batch, with_media(media_settings, attempts=1), store)


@pytest.mark.parametrize(
    ("answer", "reason"), [({"status": 429, "Retry_After": "500"}, "rate_limited"), ({"status": 403}, "forbidden")]
)
def test_a_source_that_refuses_is_not_asked_for_the_rest(
    fault_site, media_settings, store, make_batch, answer, reason, with_media, quarantined
):
    refuses = fault_site.send(b"", **answer)
    urls = {f"t{number}": fault_site.put(f"/{number}.mp4", refuses) for number in range(6)}
    settings = with_media(media_settings, max_loss_share=1.0, give_up_after=1)
    summary = download_batch(make_batch(urls), settings, store)
    assert set(fault_site.seen) == {"/0.mp4", "/1.mp4", "/2.mp4"}
    assert summary.rejected.get(reason, 0) + summary.waiting.get(reason, 0) == 6
    entries = quarantined(store)
    assert {entries[f"t{number}"].attempts for number in (3, 4, 5)} == {0}
    assert not any(entries[f"t{number}"].is_permanent for number in (3, 4, 5))  # nobody asked for them
    if reason == "rate_limited":
        assert all(entry.retry_at - dt.datetime.now(dt.UTC) > dt.timedelta(seconds=400) for entry in entries.values())


def test_a_source_that_stalls_is_not_waited_for_by_all(fault_site, media_settings, store, make_batch, with_media):
    stalls = fault_site.send_part(b"x" * 9000, 5000, then=fault_site.stall)
    urls = {f"t{number}": fault_site.put(f"/{number}.mp4", stalls) for number in range(6)}
    settings = with_media(media_settings, max_loss_share=1.0, item_timeout_s=0.7)
    assert download_batch(make_batch(urls), settings, store).waiting == {"timeout": 6}
    assert set(fault_site.seen) <= {"/0.mp4", "/1.mp4", "/2.mp4"}


def test_one_host_that_refuses_does_not_stop_the_others(fault_site, media_settings, videos, tmp_path, with_media):
    refused = [(f"a{number}", f"http://10.0.0.{number}/") for number in range(3)]
    limited = [(f"b{number}", fault_site.put(f"/{number}", fault_site.send(b"", status=429))) for number in range(4)]
    outcomes = download_videos([*limited, *refused], tmp_path, with_media(media_settings, attempts=1))
    assert [outcome.is_asked for outcome in outcomes] == [True, True, True, False, True, True, True]


def test_a_batch_has_a_clock(fault_site, media_settings, videos, tmp_path, with_media):
    good = fault_site.send(videos["silent"].read_bytes())
    items = [(f"t{number}", fault_site.put(f"/{number}.mp4", good)) for number in range(3)]
    outcomes = download_videos(items, tmp_path, with_media(media_settings, batch_timeout_s=1e-6))
    assert [(outcome.reason, outcome.is_asked) for outcome in outcomes] == [("out_of_time", False)] * 3
    assert all(outcome.wait_s for outcome in outcomes)


def test_waiting_for_a_source_that_limits_never_ends(
    fault_site, media_settings, store, make_batch, videos, with_media, let_time_pass
):
    limited, busy = fault_site.send(b"", status=429), fault_site.send(b"", status=503)
    batch = make_batch({"t": fault_site.put("/film.mp4", limited, limited, limited, busy, busy)})
    settings = with_media(media_settings, attempts=1, give_up_after=2)
    reasons = []
    for _ in range(5):
        summary = download_batch(batch, settings, store)
        reasons += [*summary.waiting, *(f"{reason} for ever" for reason in summary.rejected)]
        let_time_pass(store)
    assert reasons == ["rate_limited"] * 3 + ["unavailable", "unavailable for ever"]


def test_what_is_announced_is_waited_for_as_long(
    fault_site, media_settings, store, make_batch, with_media, quarantined, let_time_pass
):
    """yt-dlp says the name of what fails, so a name has to do for what YouTube says."""
    url = fault_site.put("/Premieres%20in%203%20days.mp4", fault_site.send(b"", status=500))
    batch = make_batch({"t": url})
    settings = with_media(media_settings, give_up_after=1)
    for _ in range(2):
        assert download_batch(batch, settings, store).waiting == {"not_yet": 1}
        entry = quarantined(store)["t"]
        assert dt.timedelta(days=2.9) < entry.retry_at - dt.datetime.now(dt.UTC) < dt.timedelta(days=3.1)
        assert entry.attempts == 0
        let_time_pass(store)


def test_live_streams_wait(fault_site, media_settings, store, make_batch, with_media):
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\npiece.ts\n"
    url = fault_site.put("/live.m3u8", fault_site.send(playlist, content_type="application/vnd.apple.mpegurl"))
    settings = with_media(media_settings, give_up_after=1)
    assert download_batch(make_batch({"t": url}), settings, store).waiting == {"live": 1}


def test_what_waited_is_tried_when_it_is_due_and_forgotten_when_it_comes(
    fault_site, media_settings, store, make_batch, videos, with_media, quarantined, let_time_pass
):
    busy, good = fault_site.send(b"", status=503), fault_site.send(videos["normal"].read_bytes())
    batch = make_batch({"t": fault_site.put("/film.mp4", busy, busy, good)})
    once = with_media(media_settings, attempts=1)
    for attempts in (1, 2):
        assert download_batch(batch, once, store).waiting == {"unavailable": 1}
        assert download_batch(batch, once, store).waiting == {"unavailable": 1}  # it is not due
        assert fault_site.seen.total() == quarantined(store)["t"].attempts == attempts
        let_time_pass(store)
    assert download_batch(batch, once, store).n_downloaded == 1
    assert quarantined(store) == {}


def test_nobody_is_waited_for_longer_than_a_week(fault_site, media_settings, store, make_batch, quarantined):
    limited = fault_site.send(b"", status=429, Retry_After="99999999999999")
    batch = make_batch({"t": fault_site.put("/film.mp4", limited)})
    assert download_batch(batch, media_settings, store).waiting == {"rate_limited": 1}
    assert quarantined(store)["t"].retry_at - dt.datetime.now(dt.UTC) < dt.timedelta(days=7, hours=1)


def test_what_waits_too_often_is_given_up(fault_site, media_settings, store, make_batch, with_media):
    batch = make_batch({"t": fault_site.put("/film.mp4", fault_site.send(b"", status=503))})
    assert download_batch(batch, with_media(media_settings, attempts=1, give_up_after=1), store).rejected == {
        "unavailable": 1
    }
