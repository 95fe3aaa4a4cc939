"""Every way we know to make a downloader call on a private address, against a server that must not be called."""

import json
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from trailer_ml.catalog.guard import RefusedAddressError, check_url, guard_addresses
from trailer_ml.errors import LocalFaultError
from trailer_ml.media.fetch import fetch_each
from trailer_ml.settings import MediaSettings, Settings

TRICKS = json.loads((Path(__file__).parents[1] / "address_tricks.json").read_text(encoding="utf-8"))
"""Those that Scrapy is put through, too."""
REFUSED, BAD, CANNOT = "refused_address", "bad_url", "unsupported"


@dataclass
class Tricks:
    """URLs by name, each with the reason it is to be refused for; `secret` is the server that must not be called."""

    front: object
    secret: object
    items: dict[str, tuple[str, str]] = field(default_factory=dict)

    def ask(self, name, url, reason=REFUSED):
        assert name not in self.items
        self.items[name] = (url, reason)

    def lure(self, name, content, reason=REFUSED, *, content_type="text/html", path=None, **headers):
        """A page of the site that may be asked, with `{}` for an address of the server that may not."""
        body = content.replace("{}", f"{self.secret.url}/{name}.mp4").encode()
        headers = {key: value.replace("{}", f"{self.secret.url}/{name}.mp4") for key, value in headers.items()}
        status = 302 if headers else 200
        path = path or f"/{name}"
        self.ask(
            name,
            self.front.put(path, self.front.send(body, status=status, content_type=content_type, **headers)),
            reason,
        )


def literals(tricks, port):
    for name, host in TRICKS["hosts"].items():
        tricks.ask(name, f"http://{host}:{port}/{name}.mp4")
    tricks.ask("zeros-before-port", f"http://127.0.0.1:0{port}/zeros-before-port.mp4")
    tricks.ask("tls", f"https://127.0.0.1:{port}/tls.mp4")


def filled(kind, tricks):
    """Tricks by name, with the host that may be asked and the one that may not."""
    allowed, secret = tricks.front.host, tricks.secret.host
    for name, text in TRICKS[kind].items():
        port = secret.split(":")[1]
        yield name, text.replace("<allowed>", allowed).replace("<secret>", secret).replace("<port>", port)


def spellings(tricks, port):
    allowed, secret = tricks.front.host, f"127.0.0.1:{port}"
    for name, url in filled("spellings", tricks):
        tricks.ask(name, url, BAD)
    tricks.ask("backslash-path", f"http://127.0.0.1:{port}\\.example/backslash-path.mp4", BAD)
    tricks.ask("fragment", f"http://{secret}#@{allowed}/fragment.mp4")
    tricks.ask("query", f"http://{secret}?@{allowed}/query.mp4")


def pages(tricks):
    port = tricks.secret.host.split(":")[1]
    for name, location in filled("redirects", tricks):
        tricks.lure(name, "", Location=location)
    for name, location in {"to-file": "file:///etc/hostname", "to-data": "data:video/mp4,x"}.items():
        tricks.lure(name, "", CANNOT, Location=location)
    page = "<!doctype html><html><head>%s</head><body>%s</body></html>"
    tricks.lure("refresh", page % ('<meta http-equiv="refresh" content="0; url={}">', ""))
    tricks.lure("video", page % ("", '<video src="{}"></video>'))
    tricks.lure("source", page % ("", '<video><source src="{}" type="video/mp4"></video>'))
    tricks.lure("og-video", page % ('<meta property="og:video" content="{}">', ""))
    video = '{"@context": "http://schema.org", "@type": "VideoObject", "name": "a", "contentUrl": "{}"}'
    tricks.lure("json-ld", page % (f'<script type="application/ld+json">{video}</script>', ""))
    tricks.lure("jwplayer", page % ("", '<script>jwplayer("p").setup({"file": "{}"});</script>'))
    tricks.lure("iframe", page % ("", '<iframe src="{}"></iframe>'), CANNOT)
    rss = (
        '<rss version="2.0"><channel><title>a</title><item><title>b</title><enclosure url="{}"/></item></channel></rss>'
    )
    tricks.lure("rss", rss, content_type="application/rss+xml")
    for scheme in ("file:///etc/hostname", f"ftp://127.0.0.1:{port}/a.mp4", f"rtmp://127.0.0.1:{port}/a/b.mp4",
                   f"rtsp://127.0.0.1:{port}/a.mp4", f"mms://127.0.0.1:{port}/a.mp4", "data:video/mp4;base64,AAAA",
                   f"ws://127.0.0.1:{port}/a.mp4"):  # fmt: skip
        tricks.lure(f"video-{scheme.split(':')[0]}", page % ("", f'<video src="{scheme}"></video>'), CANNOT)


def playlists(tricks, port):
    hls, dash = "application/vnd.apple.mpegurl", "application/dash+xml"
    head = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:9\n"
    piece = f"#EXTINF:9,\n{tricks.front.url}/piece.ts\n"
    tricks.front.put("/piece.ts", tricks.front.send(b"G" * 188, content_type="video/mp2t"))
    tricks.lure("piece", f"{head}#EXTINF:9,\n{{}}\n#EXT-X-ENDLIST\n", content_type=hls)
    tricks.lure("piece-file", f"{head}#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n", CANNOT, content_type=hls)
    tricks.lure("key", f'{head}#EXT-X-KEY:METHOD=AES-128,URI="{{}}"\n{piece}#EXT-X-ENDLIST\n', content_type=hls)
    tricks.lure("map", f'{head}#EXT-X-MAP:URI="{{}}"\n{piece}#EXT-X-ENDLIST\n', content_type=hls)
    tricks.lure("variant", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000,RESOLUTION=160x120\n{}\n", content_type=hls)
    tricks.lure("live", f"{head}#EXTINF:9,\n{{}}\n", "live", content_type=hls)
    tricks.lure("odd-key", f'{head}#EXT-X-KEY:METHOD=SAMPLE-AES,URI="{{}}"\n{piece}#EXT-X-ENDLIST\n', CANNOT,
                content_type=hls)  # fmt: skip
    mpd = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT4S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
        'bandwidth="1000" width="160" height="120" codecs="avc1.4d401e">%s</Representation></AdaptationSet>'
        "</Period></MPD>"
    )
    tricks.lure("dash-base", mpd % "<BaseURL>{}</BaseURL>", content_type=dash)
    segments = '<SegmentList duration="4"><Initialization sourceURL="{}"/><SegmentURL media="{}"/></SegmentList>'
    tricks.lure("dash-segment", mpd % segments, content_type=dash)
    template = (
        f'<SegmentTemplate media="http://127.0.0.1:{port}/dash-template.mp4?$Number$" duration="4" startNumber="1"/>'
    )
    tricks.lure("dash-template", mpd % template, content_type=dash)


def all_tricks(front, secret):
    tricks = Tricks(front, secret)
    port = int(secret.host.split(":")[1])
    literals(tricks, port)
    spellings(tricks, port)
    pages(tricks)
    playlists(tricks, port)
    return tricks


class _Nowhere:
    """For the names of the tricks, before there is a server."""

    host, url = "127.0.0.1:1", "http://127.0.0.1:1"
    put = staticmethod(lambda path, _: path)
    send = staticmethod(lambda *_, **__: None)


NAMES = list(all_tricks(_Nowhere(), _Nowhere()).items)


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Programs that would connect, first on the PATH; the file says which of them were started."""
    folder = tmp_path_factory.mktemp("programs")
    started = folder / "started"
    started.touch()
    for name in ("ffmpeg", "ffprobe", "rtmpdump", "mplayer", "mpv", "curl", "wget", "aria2c", "axel", "http"):
        program = folder / name
        program.write_text(f'#!/bin/sh\necho "$0 $*" >> {started}\necho "{name} version 9"\n')
        program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        yield started


@pytest.fixture(scope="module")
def outcomes(two_sites, videos, programs, tmp_path_factory):
    """What became of every trick, in one warm child."""
    front, secret = two_sites
    tricks = all_tricks(front, secret)
    for name in tricks.items:
        secret.put(f"/{name}.mp4", secret.send(videos["normal"].read_bytes()))
    items = [(name, url) for name, (url, _) in tricks.items.items()]
    came = fetch(items, tmp_path_factory.mktemp("tricks"), allowed_private_hosts=(front.host,))
    return tricks, came, secret


def fetch(items, folder, **changes):
    media = MediaSettings(
        allowed_extractors=("generic", "html5"), attempts=1, backoff_s=0.01, min_free_bytes=0, **changes
    )
    return {outcome.item_id: outcome for outcome in fetch_each(items, folder, Settings(media=media))}


@pytest.mark.parametrize("name", NAMES)
def test_a_private_address_is_never_called(outcomes, name):
    tricks, came, secret = outcomes
    assert came[name].path is None
    assert came[name].reason == tricks.items[name][1], came[name].detail
    assert secret.seen[f"/{name}.mp4"] == 0


def test_nothing_else_was_called_and_no_program_started(outcomes, programs):
    _, _, secret = outcomes
    assert secret.seen.total() == 0
    assert programs.read_text() == ""


@pytest.mark.parametrize("answers", [["10.0.0.1"], ["93.184.215.14", "127.0.0.1"], ["fe80::1%eth0"]])
def test_a_name_that_leads_inside_is_refused(monkeypatch, answers):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (answer, 80)) for answer in answers])
    guard_addresses(("printer.example:80",))
    with pytest.raises(RefusedAddressError):
        socket.getaddrinfo("films.example", 80)
    with pytest.raises(RefusedAddressError):
        socket.getaddrinfo(b"printer.example", 8080)
    assert socket.getaddrinfo("printer.example", 80)


def test_the_proxies_of_the_environment_are_not_used(two_sites, videos, tmp_path, monkeypatch):
    """A proxy that may be connected to would fetch private addresses; one that may not would make all refused."""
    proxy, site = two_sites
    proxy.seen.clear()
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
    url = site.put("/film.mp4", site.send(videos["normal"].read_bytes()))
    items = [("inside", "http://10.0.0.1/film.mp4"), ("listed", url)]
    came = fetch(items, tmp_path, allowed_private_hosts=(proxy.host, site.host))
    assert (came["inside"].reason, came["listed"].reason) == (REFUSED, "")
    assert proxy.seen.total() == 0


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_proxy_that_is_set_gets_names_but_no_private_addresses(two_sites, videos, tmp_path, scheme):
    proxy, _ = two_sites
    proxy.seen.clear()
    outside = "http://films.example"
    proxy.answers[f"{outside}/film.mp4"] = [proxy.send(videos["normal"].read_bytes())]
    literal = ["10.0.0.1", "2130706433", "0x7f.1", "localhost", "[::1]", "%31%32%37.0.0.1", "127.0.0.1.", proxy.host]
    items = [(f"t{number}", f"http://{host}/film.mp4") for number, host in enumerate(literal)]
    for number, host in enumerate(literal):
        proxy.answers[f"{outside}/{number}"] = [proxy.send(b"", status=302, Location=f"http://{host}/film.mp4")]
        items.append((f"r{number}", f"{outside}/{number}"))
    came = fetch([("fine", f"{outside}/film.mp4"), *items], tmp_path, proxy=f"{scheme}user:secret@{proxy.host}")
    assert came.pop("fine").reason == ""
    assert {outcome.reason for outcome in came.values()} == {REFUSED}
    assert not [path for path in proxy.seen if not path.startswith(outside)]


def test_a_proxy_that_does_not_answer_is_no_fault_of_the_trailers(tmp_path):
    with pytest.raises(LocalFaultError, match="proxy"):
        fetch([("t", "http://films.example/film.mp4")], tmp_path, proxy="http://user:secret@127.0.0.1:1")


@pytest.mark.parametrize(
    "host", ["[2606:4700:4700::1111]", "1.1.1.1", "films.example", "127.0.0.1:81", "localhost.example"]
)
def test_what_may_be_asked(host):
    check_url(f"http://{host}/film.mp4", ("127.0.0.1:81",))
