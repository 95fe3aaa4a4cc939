"""Every way we know in which a download goes wrong: what it is called, what is done, and how often the server is asked.

All rows are one batch of one warm child, and a good trailer comes after each. A row says what is asked for in the whole
run, by path; each of the attempts (3 here) asks for the page or the video once to look and once to download.

Elsewhere: a stall in the middle of a file (test_download.py), a live playlist, a challenge, a page that is being mended
(test_patience.py), redirects and pieces that lead to files, programs and private addresses (test_addresses.py), what
yt-dlp says of age, country, DRM and the like (test_failures.py).
"""

import socket
import struct
import tempfile

import pytest

from trailer_ml.media.download import download_batch, download_videos
from trailer_ml.settings import CatalogSettings, MediaSettings, Settings
from trailer_ml.storage import Store, media_key, quarantine_key, receipt_key

GIVEN_UP, WAITS = "given up", "waits"
HLS = "application/vnd.apple.mpegurl"


class Faults:
    """The rows: for each name its URL, its reason, what is done, and how often each of its paths is asked for."""

    def __init__(self, site, good):
        self.site, self.good = site, good
        self.rows = {}

    def add(self, name, url, reason, done, asked):
        assert name not in self.rows
        self.rows[name] = (url, reason, done, asked)

    def direct(self, name, reason, done, n_asked, *answers):
        """The address itself answers so."""
        path = f"/{name}.mp4"
        self.add(name, self.site.put(path, *answers), reason, done, {path: n_asked})

    def behind(self, name, reason, done, n_asked, *answers, n_pages=None):
        """A page is well, and what it names answers so."""
        page = f'<html><body><video src="{self.site.url}/{name}.mp4"></video></body></html>'.encode()
        url = self.site.put(f"/{name}", self.site.send(page, content_type="text/html"))
        self.site.put(f"/{name}.mp4", *answers)
        self.add(name, url, reason, done, {f"/{name}": n_pages or n_asked, f"/{name}.mp4": n_asked})


def add_statuses(faults):
    for status, reason, done, n_asked in [
        (401, "forbidden", WAITS, 1),
        (403, "forbidden", WAITS, 2),
        (404, "gone", GIVEN_UP, 1),
        (410, "gone", GIVEN_UP, 1),
        (429, "rate_limited", WAITS, 3),
        (451, "geo_blocked", GIVEN_UP, 1),
        (500, "unavailable", WAITS, 3),
        (503, "unavailable", WAITS, 3),
    ]:
        answer = faults.site.send(b"", status=status)
        faults.direct(f"{status}-page", reason, done, n_asked, answer)
        faults.behind(f"{status}-media", reason, done, n_asked, answer)
    site, good = faults.site, faults.site.send(faults.good)
    busy = site.send(b"", status=503)
    faults.direct("503-503-200-page", "", "", 4, busy, busy, good)
    faults.behind("503-503-200-media", "", "", 3, busy, busy, good)
    waf = site.send(b"challenge!", status=202, content_type="text/html", x_amzn_waf_action="challenge")
    faults.direct("202-page", "rate_limited", WAITS, 3, waf)
    faults.behind("202-media", "rate_limited", WAITS, 3, waf)


def add_bodies(faults):
    site, good = faults.site, faults.good
    html = b"<!doctype html><html><body>Please log in</body></html>"
    faults.direct("html-as-html", "unsupported", WAITS, 1, site.send(html, content_type="text/html"))
    faults.behind("html-named-by-a-page", "not_a_video", WAITS, 1, site.send(html, content_type="text/html"))
    faults.direct("html-as-video", "not_a_video", WAITS, 2, site.send(html))
    faults.direct("garbage-as-video", "not_a_video", WAITS, 2, site.send(bytes(range(256)) * 20))
    faults.direct("nothing", "broken_off", WAITS, 6, site.send(b""))
    faults.behind("nothing-behind", "broken_off", WAITS, 3, site.send(b""))
    faults.direct("cut", "broken_off", WAITS, 6, send_too_little(good))
    faults.direct("cut-unannounced", "corrupt", GIVEN_UP, 4, site.send_part(good, len(good) // 2, announce=False))
    faults.direct("10-gb", "too_large", GIVEN_UP, 2, send_without_end(announce=True))
    faults.direct("10-gb-unannounced", "too_large", GIVEN_UP, 2, send_without_end(announce=False))


def add_connections(faults, dead_host):
    site = faults.site
    faults.direct("reset", "broken_off", WAITS, 3, reset)
    faults.behind("reset-behind", "broken_off", WAITS, 3, reset)
    faults.add("refused", f"http://{dead_host}/film.mp4", "broken_off", WAITS, {})
    # Longer than any name may be: no resolver has to be asked.
    faults.add("no-name", f"http://{'.'.join(['x' * 60] * 5)}.invalid/film.mp4", "broken_off", WAITS, {})
    loop = site.send(b"", status=302, Location="/loop.mp4")
    faults.direct("loop", "redirect_loop", WAITS, 11, loop)
    for name, where, reason, done in [
        ("to-file", "file:///etc/hostname", "unsupported", WAITS),
        ("to-ftp", "ftp://127.0.0.1/film.mp4", "refused_address", GIVEN_UP),
        ("to-loopback", "http://127.0.0.2:80/film.mp4", "refused_address", GIVEN_UP),
    ]:
        faults.direct(name, reason, done, 1, site.send(b"", status=302, Location=where))


def add_playlists(faults, folder):
    site = faults.site
    pieces = [f"#EXTINF:2,\n{piece}\n" for piece in ("/list0.ts", "/hole.ts", "/list1.ts")]
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n"
    for name in ("list0.ts", "list1.ts"):
        site.put(f"/{name}", site.send((folder / name).read_bytes(), content_type="video/mp2t"))
    site.put("/hole.ts", site.send(b"", status=404))
    holed = site.put("/holed.m3u8", site.send(f"{head}{''.join(pieces)}#EXT-X-ENDLIST\n".encode(), content_type=HLS))
    faults.add("holed", holed, "gone", GIVEN_UP, {"/holed.m3u8": 4, "/list0.ts": 1, "/hole.ts": 4, "/list1.ts": 0})
    endless = site.put("/endless.m3u8", site.send(f"{head}{pieces[0]}".encode(), content_type=HLS))
    faults.add("endless", endless, "live", WAITS, {"/endless.m3u8": 3})


def send_too_little(data):
    """Half of what is announced, and never the rest."""

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "video/mp4")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[: len(data) // 2])
        handler.close_connection = True

    return answer


def send_without_end(*, announce):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "video/mp4")
        handler.send_header(*(("Content-Length", str(10 * 10**9)) if announce else ("Connection", "close")))
        handler.end_headers()
        for _ in range(10**10 // 2**20):  # until nobody listens any more
            handler.wfile.write(b"\0" * 2**20)

    return answer


def reset(handler):
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.rfile.close()
    handler.connection.close()


def say_nothing(handler):
    """No header, no byte."""
    handler.server.site.stall()
    handler.close_connection = True


def trickle(handler):
    """A little now and then, for ever."""
    handler.send_response(200)
    handler.send_header("Content-Type", "video/mp4")
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    while not handler.server.site.stopped.wait(0.02):
        handler.wfile.write(b"\0" * 400)


def all_faults(site, good, folder, dead_host):
    faults = Faults(site, good)
    add_statuses(faults)
    add_bodies(faults)
    add_connections(faults, dead_host)
    add_playlists(faults, folder)
    return faults


@pytest.fixture(scope="module")
def dead_host():
    """A port that is taken, and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(scope="module")
def batch_of_faults(two_sites, videos, dead_host, store_settings, tmp_path_factory, put_batch):
    site, _ = two_sites
    good = videos["silent"].read_bytes()
    faults = all_faults(site, good, videos["playlist"].parent, dead_host)
    store = Store(store_settings.model_copy(update={"prefix": "test-faults/"}))
    urls = {}
    for name, (url, *_) in faults.rows.items():
        urls[name] = url
        urls[f"{name}-good"] = site.put(f"/{name}-good.mp4", site.send(good))
    media = MediaSettings(
        turn_every_s={}, min_free_bytes=0, allowed_private_hosts=(site.host, dead_host), max_loss_share=1.0,
        allowed_extractors=("generic", "html5"), backoff_s=0.01, attempts=3, max_size_bytes=5_000_000,
    )  # fmt: skip
    settings = Settings(store=store.settings, media=media, catalog=CatalogSettings(user_agent="test-downloader/1"))
    folder = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        download_batch(put_batch(store, urls, 10), settings, store)
    return faults, store, folder


class _Nowhere:
    """For the names of the rows, before there is a server."""

    url = ""
    put = staticmethod(lambda path, *_: path)
    send = send_part = staticmethod(lambda *_, **__: None)


class _NoFile:
    def __truediv__(self, _):
        return self

    read_bytes = staticmethod(bytes)


ROWS = all_faults(_Nowhere(), b"", _NoFile(), "").rows


@pytest.mark.parametrize("name", ROWS)
def test_what_it_is_called_and_what_is_done(batch_of_faults, name):
    faults, store, _ = batch_of_faults
    _, reason, done, asked = faults.rows[name]
    entry = store.read_json_or_none(quarantine_key("download", name))
    assert (entry["reason"] if entry else "") == reason, entry["detail"]
    if entry:
        assert (GIVEN_UP if entry["is_permanent"] else WAITS) == done
        assert (entry["retry_at"] is not None) == (done == WAITS)
        assert not store.exists(media_key(name))
    assert store.exists(receipt_key(name)) == (entry is None)
    assert {path: faults.site.seen[path] for path in asked} == asked
    assert store.exists(receipt_key(f"{name}-good"))


def test_no_file_is_left_behind(batch_of_faults):
    *_, folder = batch_of_faults
    assert list(folder.iterdir()) == []


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """Where temporary folders are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def _with(settings, **changes):
    return settings.model_copy(update={"media": settings.media.model_copy(update=changes)})


def test_what_never_begins_or_never_ends_is_killed(fault_site, media_settings, store, make_batch, videos, own_folder):
    good = fault_site.send(videos["silent"].read_bytes())
    urls = {
        "a-silent": fault_site.put("/silent.mp4", say_nothing),
        "b-good": fault_site.put("/b.mp4", good),
        "c-trickle": fault_site.put("/trickle.mp4", trickle),
        "d-good": fault_site.put("/d.mp4", good),
    }
    summary = download_batch(make_batch(urls), _with(media_settings, item_timeout_s=3.0), store)
    assert (summary.n_downloaded, summary.waiting, summary.rejected) == (2, {"timeout": 2}, {})
    assert fault_site.seen["/silent.mp4"] == 1
    assert list(own_folder.iterdir()) == []


@pytest.mark.parametrize("change", [{"allowed_extractors": ("youtube",)}, {"format": "no-such-format"}])
def test_no_extractor_and_no_format(fault_site, media_settings, videos, tmp_path, change):
    url = fault_site.put("/film.mp4", fault_site.send(videos["silent"].read_bytes()))
    (outcome,) = download_videos([("t", url)], tmp_path, _with(media_settings, **change))
    assert (outcome.reason, outcome.wait_s) == ("unsupported", None)
    assert fault_site.seen["/film.mp4"] == ("format" in change)
    assert list(tmp_path.iterdir()) == []
