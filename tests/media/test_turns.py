"""Hosts are asked in turn, by all workers together; a host that had enough is left alone by all."""

import json

import pytest

from trailer_ml.catalog.turns import Turns, host_of, take_turn
from trailer_ml.errors import LocalFaultError, SettingsError
from trailer_ml.media.download import download_batch, download_videos
from trailer_ml.records import HostTurns, Quarantine
from trailer_ml.storage import quarantine_key, turns_key


def _with(settings, **changes):
    return settings.model_copy(update={"media": settings.media.model_copy(update=changes)})


def _entry(store, trailer_id):
    return Quarantine.model_validate(store.read_json(quarantine_key("download", trailer_id)))


def test_a_host_that_had_enough_is_left_alone_by_every_other_batch(fault_site, media_settings, make_batch, store):
    settings = _with(media_settings, turn_every_s={"*": 0.01}, min_losses=99)
    refused = [fault_site.put(f"/{n}", fault_site.send(b"", status=429, Retry_After="600")) for n in range(3)]
    download_batch(make_batch({f"t{n}": url for n, url in enumerate(refused)}), settings, store)
    turns = HostTurns.model_validate(store.read_json(turns_key(host_of(refused[0]))))
    assert turns.blocked_until
    assert turns.reason.startswith("rate_limited")
    other = fault_site.put("/other", fault_site.send(b"never asked for"))
    summary = download_batch(make_batch({"u": other}), settings, store)
    assert summary.waiting == {"rate_limited": 1}
    assert "is left alone: rate_limited" in _entry(store, "u").detail
    assert fault_site.seen["/other"] == 0


def test_a_turn_too_far_off_is_not_waited_for(fault_site, media_settings, make_batch, store):
    url = fault_site.put("/a", fault_site.send(b""))
    settings = _with(media_settings, turn_every_s={"*": 3600.0}, batch_timeout_s=60.0, min_losses=99)
    take_turn(host_of(url), 3600.0, store)
    summary = download_batch(make_batch({"a": url}), settings, store)
    assert summary.waiting == {"out_of_time": 1}
    assert fault_site.seen["/a"] == 0


@pytest.mark.parametrize(
    ("url", "paced"),
    [("https://www.youtube.com/x", True), ("https://notyoutube.com/x", False), ("https://youtube.com/x", True)],
)
def test_a_name_stands_for_what_is_below_it(store, url, paced):
    turns = Turns({"youtube.com": 60.0, "*": 0.0}, store)
    assert turns.take(url) == 0.0
    assert (turns.take(url) > 0.0) is paced


def test_without_room_nothing_is_begun(fault_site, media_settings, make_batch, store):
    url = fault_site.put("/a", fault_site.send(b""))
    with pytest.raises(LocalFaultError, match="TRAILER_MEDIA_MIN_FREE_BYTES"):
        download_batch(make_batch({"a": url}), _with(media_settings, min_free_bytes=2**60), store)
    assert fault_site.seen["/a"] == 0


def test_cookies_are_sent_from_a_copy_and_the_persons_file_stays(fault_site, media_settings, videos, tmp_path):
    seen = []

    def answer(handler):
        seen.append(handler.headers.get("Cookie"))
        fault_site.send(videos["normal"].read_bytes())(handler)

    url = fault_site.put("/a.mp4", answer)
    jar = tmp_path / "cookies.txt"
    jar.write_text("# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tcanary\n")
    before = jar.read_bytes()
    folder = tmp_path / "out"
    folder.mkdir()
    [outcome] = download_videos([("a", url)], folder, _with(media_settings, cookies_path=str(jar)))
    assert outcome.path
    assert "session=canary" in json.dumps(seen)
    assert jar.read_bytes() == before
    with pytest.raises(SettingsError, match=r"TRAILER_MEDIA_COOKIES_PATH: .*none.txt cannot be read"):
        download_videos([("a", url)], folder, _with(media_settings, cookies_path=str(tmp_path / "none.txt")))
