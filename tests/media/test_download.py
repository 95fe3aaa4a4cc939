import datetime as dt
import hashlib
import os
import signal
import tempfile
from pathlib import Path

import pytest

from trailer_ml.catalog.again import try_again
from trailer_ml.errors import MissingObjectError
from trailer_ml.media import fetch
from trailer_ml.media.download import download_batch, download_videos
from trailer_ml.records import BatchRef, Quarantine, Receipt
from trailer_ml.storage import tombstone_key

PAST = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_batch_of_all_sorts(fault_site, media_settings, store, make_batch, videos, tmp_path, with_media, quarantined):
    site, good = fault_site, videos["normal"].read_bytes()
    page = f'<html><body><video src="{site.url}/behind.mp4"></video></body></html>'.encode()
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
    concat = f"ffconcat version 1.0\nfile '{videos['normal']}'\n".encode()
    elsewhere = site.url.replace("127.0.0.1", "localhost")
    urls = {
        "ok-direct": site.put("/ok.mp4", site.send(good)),
        "ok-page": site.put("/video/vi1/", site.send(page, content_type="text/html")),
        "ok-webm": site.put("/film.webm", site.send(videos["webm"].read_bytes(), content_type="video/webm")),
        "ok-503": site.put("/busy.mp4", site.send(b"", status=503), site.send(good)),
        "ok-429": site.put("/limited.mp4", *[site.send(b"", status=429, Retry_After="1")] * 2, site.send(good)),
        "gone": site.put("/gone.mp4", site.send(b"", status=410)),
        "lost": site.url + "/no-such-page",
        "html": site.put("/html.mp4", site.send(b"<html>Please log in</html>" * 9)),
        "list": site.put("/list.mp4", site.send(playlist)),
        "concat": site.put("/concat.mp4", site.send(concat)),
        "empty": site.put("/empty.mp4", site.send(b"")),
        "audio": site.put("/audio.mp4", site.send(videos["audio"].read_bytes())),
        "noise": site.put("/noise.mp4", site.send(good[:2000] + os.urandom(len(good) - 2000))),
        "half": site.put("/half.mp4", site.send(good[: len(good) // 2])),
        "inward": site.put("/inward.mp4", site.send(b"", status=302, Location=f"{elsewhere}/ok.mp4")),
        "file": site.put("/file.mp4", site.send(b"", status=302, Location="file:///etc/passwd")),
        "later": site.put("/later.mp4", site.send(b"", status=429, Retry_After="900")),
    }
    site.put("/behind.mp4", site.send(good))
    batch = make_batch(urls)
    summary = download_batch(batch, with_media(media_settings, max_loss_share=1.0), store)

    entries = quarantined(store)
    reasons = {trailer_id: entry.reason for trailer_id, entry in entries.items()}
    assert reasons == {
        "gone": "gone", "lost": "gone", "html": "not_a_video", "list": "not_a_video", "concat": "not_a_video",
        "empty": "broken_off", "audio": "no_video", "noise": "corrupt", "half": "corrupt",
        "inward": "refused_address", "file": "unsupported", "later": "rate_limited",
    }  # fmt: skip
    doubted = {"html", "list", "concat", "file"}  # a source that is being mended may say the same
    assert {name for name, entry in entries.items() if not entry.is_permanent} == {"empty", "later"} | doubted
    assert dt.timedelta(seconds=850) < entries["later"].retry_at - dt.datetime.now(dt.UTC) < dt.timedelta(seconds=1200)
    assert all(entry.detail and "\n" not in entry.detail for entry in entries.values())
    assert not [entry.detail for entry in entries.values() if str(tmp_path) in entry.detail]
    assert (summary.n_planned, summary.n_downloaded, summary.n_reused) == (17, 5, 0)
    assert sum(summary.rejected.values()) + sum(summary.waiting.values()) == 12
    assert site.seen["/gone.mp4"] == 1
    assert site.seen["/limited.mp4"] == 4  # twice told to wait, once looked at, once fetched

    receipt = Receipt.model_validate(store.read_json("media/ok-page.json"))
    assert store.read_bytes("media/ok-page.mp4") == good
    assert receipt.sha256 == hashlib.sha256(good).hexdigest()
    assert receipt.size_bytes == len(good)
    assert receipt.duration_s == pytest.approx(4, abs=0.2)
    assert receipt.downloader.startswith("yt-dlp 20")
    assert {(stream.kind, stream.codec) for stream in receipt.streams} == {("video", "h264"), ("audio", "aac")}
    assert store.read_bytes("media/ok-webm.mp4") == videos["webm"].read_bytes()
    assert len(list(store.list_keys("media/"))) == 10
    assert list(tmp_path.iterdir()) == []

    n_requests = site.seen.total()
    again = download_batch(batch, with_media(media_settings, max_loss_share=1.0), store)
    assert (again.n_downloaded, again.n_reused) == (0, 5)
    assert (again.rejected, again.waiting) == (summary.rejected, summary.waiting)
    assert site.seen.total() == n_requests


def test_a_broken_download_is_resumed(fault_site, media_settings, store, make_batch, videos):
    good = videos["long"].read_bytes()
    third = len(good) // 3
    url = fault_site.put(
        "/film.mp4",
        fault_site.send(good),
        fault_site.send_part(good, third),
        fault_site.send(good),
        fault_site.send(good),
    )
    assert download_batch(make_batch({"t": url}), media_settings, store).n_downloaded == 1
    assert store.read_bytes("media/t.mp4") == good
    *_, (_, wanted) = fault_site.ranges
    assert 0 < int(wanted.removeprefix("bytes=").removesuffix("-")) <= third


def test_a_partial_file_that_is_too_long_is_thrown_away(
    fault_site, media_settings, store, make_batch, videos, with_media
):
    good = videos["normal"].read_bytes()
    longer = videos["long"].read_bytes()
    url = fault_site.put(
        "/film.mp4", fault_site.send(longer), fault_site.send_part(longer, len(good) + 100), fault_site.send(good)
    )
    assert download_batch(make_batch({"t": url}), with_media(media_settings, attempts=4), store).n_downloaded == 1
    assert store.read_bytes("media/t.mp4") == good


def test_an_end_without_notice_is_found_and_fetched_again(fault_site, media_settings, store, make_batch, videos):
    good = videos["long"].read_bytes()
    part = fault_site.send_part(good, len(good) // 2, announce=False)
    url = fault_site.put("/film.mp4", part, part, fault_site.send(good))
    assert download_batch(make_batch({"t": url}), media_settings, store).n_downloaded == 1
    assert store.read_bytes("media/t.mp4") == good


def test_what_hangs_is_killed_and_the_rest_goes_on(
    fault_site, media_settings, store, make_batch, videos, tmp_path, with_media, quarantined
):
    good = videos["normal"].read_bytes()
    urls = {
        "stalls": fault_site.put("/stalls.mp4", fault_site.send_part(good, 5000, then=fault_site.stall)),
        "fine": fault_site.put("/fine.mp4", fault_site.send(good)),
    }
    summary = download_batch(make_batch(urls), with_media(media_settings, item_timeout_s=3.0), store)
    assert (summary.n_downloaded, summary.waiting) == (1, {"timeout": 1})
    assert quarantined(store)["stalls"].retry_at > dt.datetime.now(dt.UTC)
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_dies_is_started_again(fault_site, media_settings, store, make_batch, videos, quarantined):
    good = fault_site.send(videos["normal"].read_bytes())
    dies = fault_site.send_part(videos["normal"].read_bytes(), 5000, then=kill_child)
    urls = {
        "once": fault_site.put("/once.mp4", good, dies, good),
        "twice": fault_site.put("/twice.mp4", dies),
        "fine": fault_site.put("/fine.mp4", good),
    }
    summary = download_batch(make_batch(urls), media_settings, store)
    assert (summary.n_downloaded, summary.rejected, summary.waiting) == (2, {}, {"killed": 1})
    assert "SIGKILL" in quarantined(store)["twice"].detail
    assert quarantined(store)["twice"].attempts == 0  # a machine without memory says nothing about a trailer


def test_a_child_that_is_killed_just_before_it_is_asked(fault_site, media_settings, videos, tmp_path, monkeypatch):
    url = fault_site.put("/film.mp4", fault_site.send(videos["normal"].read_bytes()))
    send = fetch._Downloader._send

    def send_too_late(self, value):
        if "url" in value:
            monkeypatch.undo()
            self._child.process.kill()
            os.waitid(os.P_PID, self._child.process.pid, os.WEXITED | os.WNOWAIT)
        send(self, value)

    monkeypatch.setattr(fetch._Downloader, "_send", send_too_late)
    (outcome,) = download_videos([("t", url)], tmp_path, media_settings)
    assert outcome.path is not None


def kill_child():
    """Like the machine does when its memory is used up."""
    for path in Path("/proc/self/task").glob("*/children"):
        for pid in path.read_text().split():
            if b"ytdlp_child" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGKILL)


@pytest.mark.parametrize("announce", [True, False])
def test_what_is_too_large_is_given_up(fault_site, media_settings, store, make_batch, videos, announce, with_media):
    data = videos["long"].read_bytes()
    answer = fault_site.send(data) if announce else fault_site.send_part(data, len(data), announce=False)
    batch = make_batch({"t": fault_site.put("/film.mp4", answer)})
    summary = download_batch(batch, with_media(media_settings, max_size_bytes=100_000), store)
    assert summary.rejected == {"too_large": 1}
    assert list(store.list_keys("media/")) == []


@pytest.mark.parametrize(
    ("limits", "reason"), [({"min_duration_s": 5}, "too_short"), ({"max_duration_s": 3}, "too_long")]
)
def test_lengths_have_limits(fault_site, media_settings, store, make_batch, videos, limits, reason, with_media):
    batch = make_batch({"t": fault_site.put("/film.mp4", fault_site.send(videos["normal"].read_bytes()))})
    assert download_batch(batch, with_media(media_settings, **limits), store).rejected == {reason: 1}


def test_a_playlist_in_pieces_becomes_one_file(fault_site, media_settings, store, make_batch, videos, with_media):
    folder = videos["playlist"].parent
    for path in [videos["playlist"], *folder.glob("list*.ts")]:
        kind = "application/vnd.apple.mpegurl" if path.suffix == ".m3u8" else "video/mp2t"
        fault_site.put(f"/{path.name}", fault_site.send(path.read_bytes(), content_type=kind))
    assert download_batch(make_batch({"t": f"{fault_site.url}/list.m3u8"}), media_settings, store).n_downloaded == 1
    assert store.read_bytes("media/t.mp4")[4:8] == b"ftyp"
    fault_site.answers["/list1.ts"] = [fault_site.send(b"", status=404)]
    holed = make_batch({"holed": f"{fault_site.url}/list.m3u8"})
    assert download_batch(holed, with_media(media_settings, attempts=1), store).rejected == {"gone": 1}


def test_a_kill_after_the_receipt_leaves_nothing_that_waits(
    fault_site, media_settings, store, make_batch, videos, quarantined
):
    batch = make_batch({"t": fault_site.put("/film.mp4", fault_site.send(videos["normal"].read_bytes()))})
    download_batch(batch, media_settings, store)
    entry = Quarantine(id="t", stage="download", reason="timeout", is_permanent=False, retry_at=PAST)
    store.put_json("quarantine/download/t.json", entry.to_json())
    assert download_batch(batch, media_settings, store).n_reused == 1
    assert quarantined(store) == {}


def store_as_another_run(store, data):
    """The bytes and the receipt of a run that got other bytes at the same time."""
    receipt = Receipt(
        trailer_id="t", sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data), duration_s=4, streams=(),
        source_url="http://x.invalid", downloader="another",
    )  # fmt: skip
    store.put_bytes("media/t.mp4", data)
    store.create_json("media/t.json", receipt.to_json())


def receipt_holds(store):
    receipt = Receipt.model_validate(store.read_json("media/t.json"))
    return receipt.sha256 == hashlib.sha256(store.read_bytes("media/t.mp4")).hexdigest()


def test_bytes_that_have_their_receipt_are_not_replaced(fault_site, media_settings, store, make_batch, videos):
    good = fault_site.send(videos["normal"].read_bytes())

    def overtaken(handler):
        store_as_another_run(store, b"theirs")
        good(handler)

    download_batch(make_batch({"t": fault_site.put("/film.mp4", overtaken)}), media_settings, store)
    assert store.read_bytes("media/t.mp4") == b"theirs"
    assert receipt_holds(store)


@pytest.mark.parametrize("is_before", [True, False])
def test_two_runs_that_store_at_once_leave_a_receipt_that_holds(
    fault_site, media_settings, store, make_batch, videos, monkeypatch, is_before
):
    put_file = type(store).put_file

    def put_beside_another(self, key, path):
        monkeypatch.setattr(type(store), "put_file", put_file)
        if is_before:
            store_as_another_run(store, b"theirs")
        put_file(self, key, path)
        if not is_before:
            store_as_another_run(store, b"theirs")

    monkeypatch.setattr(type(store), "put_file", put_beside_another)
    url = fault_site.put("/film.mp4", fault_site.send(videos["normal"].read_bytes()))
    assert download_batch(make_batch({"t": url}), media_settings, store).n_downloaded == 1
    assert receipt_holds(store)


def test_commercials_come_without_a_store(fault_site, media_settings, videos, tmp_path):
    good = videos["silent"].read_bytes()
    url = fault_site.put("/ads/ad-horror.mp4", fault_site.send(good))
    came, failed = download_videos([("ad-horror", url), ("ad-x", f"{fault_site.url}/x")], tmp_path, media_settings)
    assert came.path == tmp_path / "ad-horror.mp4"
    assert came.path.read_bytes() == good
    assert [stream.kind for stream in came.probe.streams] == ["video"]
    assert (failed.path, failed.reason) == (None, "gone")
    assert [path.name for path in tmp_path.iterdir()] == ["ad-horror.mp4"]


def test_a_receipt_without_its_bytes_is_not_believed(fault_site, media_settings, store, make_batch, videos):
    url = fault_site.put("/film.mp4", fault_site.send(videos["normal"].read_bytes()))
    batch = make_batch({"t": url})
    download_batch(batch, media_settings, store)
    store.put_bytes("media/t.mp4", b"short")
    assert download_batch(batch, media_settings, store).n_downloaded == 1
    assert store.read_bytes("media/t.mp4") == videos["normal"].read_bytes()


def test_what_was_given_up_comes_after_all_when_a_person_wants_it_tried_again(
    fault_site, media_settings, store, make_batch, videos
):
    gone, there = fault_site.send(b"", status=410), fault_site.send(videos["normal"].read_bytes())
    batch = make_batch({"t": fault_site.put("/film.mp4", gone, there)})
    for _ in range(2):
        assert download_batch(batch, media_settings, store).rejected == {"gone": 1}
    assert try_again(["gone"], store).n_by_reason == {"gone": 1}
    assert download_batch(batch, media_settings, store).n_downloaded == 1


def test_a_trailer_that_was_taken_down_is_left_alone(fault_site, media_settings, store, make_batch):
    batch = make_batch({"t": f"{fault_site.url}/film.mp4"})
    store.put_json("tombstones/t.json", {})
    assert download_batch(batch, media_settings, store).n_planned == 0
    assert fault_site.seen.total() == 0


@pytest.mark.parametrize("status", [200, 404])
def test_a_trailer_that_is_taken_down_while_it_is_fetched_does_not_stay(
    fault_site, media_settings, store, make_batch, videos, status
):
    def answer(handler):
        store.create_json(tombstone_key("a"), {"trailer_id": "a"})
        fault_site.send(videos["normal"].read_bytes(), status=status)(handler)

    download_batch(make_batch({"a": fault_site.put("/a.mp4", answer)}), media_settings, store)
    assert fault_site.seen["/a.mp4"]
    assert [*store.list_keys("media/"), *store.list_keys("quarantine/")] == []


def test_a_batch_that_is_not_there_is_an_error(media_settings, store):
    with pytest.raises(MissingObjectError):
        download_batch(BatchRef(listed_on=dt.date(2026, 1, 1), number=7), media_settings, store)
