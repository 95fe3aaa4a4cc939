"""No file and no name makes ffmpeg call on an address: what would is put to each place where we hand it a file.

Those are the probe, the new container, the look at a file for its features, and the ffmpeg program; the first three are
ffmpeg inside of this process (PyAV).
"""

import json
import time
from pathlib import Path

import av
import pytest

from trailer_ml.errors import MediaError
from trailer_ml.features.container import Deadline, open_media
from trailer_ml.features.ffmpeg_engine import look_with_ffmpeg
from trailer_ml.media.probe import probe_media
from trailer_ml.media.remux import remux
from trailer_ml.settings import FeatureSettings, MediaSettings

TRICKS = json.loads((Path(__file__).parents[1] / "address_tricks.json").read_text(encoding="utf-8"))
HEAD = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:9\n"
FTYP = "\0\0\0\x18ftypmp42\0\0\0\0mp42isom"
KINDS = {  # each a file called film.mp4, with {} for an address
    "hls": HEAD + "#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
    "hls-variant": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000,RESOLUTION=160x120\n{}\n",
    "hls-key": HEAD + '#EXT-X-KEY:METHOD=AES-128,URI="{}"\n#EXTINF:9,\nfilm.ts\n#EXT-X-ENDLIST\n',
    "hls-map": HEAD + '#EXT-X-MAP:URI="{}"\n#EXTINF:9,\nfilm.ts\n#EXT-X-ENDLIST\n',
    "hls-behind-a-box": FTYP + HEAD + "#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT4S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
    'bandwidth="1000"><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\na=control:{}\nm=video 5000 RTP/AVP 96\n",
    "imf": '<?xml version="1.0"?><AssetMap xmlns="http://www.smpte-ra.org/schemas/429-9/2007/AM"><AssetList><Asset>'
    "<ChunkList><Chunk><Path>{}</Path></Chunk></ChunkList></Asset></AssetList></AssetMap>",
    "asx": '<asx version="3.0"><entry><ref href="{}"/></entry></asx>',
    "rtsp-redirect": "RTSPtextRTSP://{}",
}
PREFIXES = ("", "concat:", "async:", "cache:", "crypto:", "hls+", "subfile,,start,0,end,9,,:", "tee:", "lavfi:movie=")


def addresses(port):
    yield from (f"http://{host}:{port}/film.ts" for host in TRICKS["hosts"].values())
    yield from (f"{scheme}://127.0.0.1:{port}/film.ts" for scheme in ("tcp", "udp", "ftp", "rtmp", "rtsp", "gopher"))
    yield from ("/etc/hostname", "file:///etc/hostname", "data:video/mp4;base64,AAAA")


def open_for_features(path):
    with open_media(path, FeatureSettings(), Deadline(10)):
        pass


PLACES = {
    "probe": lambda path: probe_media(path, MediaSettings()),
    "remux": lambda path: remux([path], path.with_name("new.mp4")),
    "features": open_for_features,
}


def test_there_are_enough_of_them():
    assert len(list(addresses(1))) >= 40


@pytest.mark.parametrize("kind", ["hls", "concat"])
def test_unheld_it_would_call(kind, canary, tmp_path):
    path = tmp_path / "film.mp4"
    path.write_text(KINDS[kind].replace("{}", f"http://{canary.host}/film.ts"))
    options = {"protocol_whitelist": "file,http,tcp", "safe": "0"} if kind == "concat" else {}
    with pytest.raises(av.FFmpegError):
        av.open(str(path), format=kind, options={"protocol_whitelist": "file,http,tcp", **options})
    deadline = time.monotonic() + 60
    while not canary.n_connections:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_content_makes_it_call(kind, place, canary, tmp_path):
    path = tmp_path / "film.mp4"
    for address in addresses(canary.port):
        path.write_text(KINDS[kind].replace("{}", address))
        with pytest.raises(MediaError) as caught:
            PLACES[place](path)
        assert caught.value.reason in {"not_a_video", "corrupt", "no_video"}
    assert canary.n_connections == 0


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_no_name_makes_it_call(prefix, place, canary):
    for address in addresses(canary.port):
        with pytest.raises((MediaError, FileNotFoundError)):
            PLACES[place](Path(f"{prefix}{address}"))
    assert canary.n_connections == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_program_calls_nobody(kind, canary, videos, tmp_path):
    """It gets a file that was a video when PyAV looked at it."""
    path = tmp_path / "film.mp4"
    path.write_text(KINDS[kind].replace("{}", f"http://{canary.host}/film.ts"))
    settings = FeatureSettings()
    with open_media(videos["normal"], settings, Deadline(60)) as source, pytest.raises(MediaError) as caught:
        look_with_ffmpeg(source, path, [1.0], settings, Deadline(60))
    assert caught.value.reason == "corrupt"
    assert canary.n_connections == 0
