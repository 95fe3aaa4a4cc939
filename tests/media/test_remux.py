"""Picture and sound that come apart, and pieces of a playlist, put together without ffmpeg."""

import errno
import resource
import shutil
import signal
import time

import av
import pytest

from trailer_ml.errors import LocalFaultError, MediaError
from trailer_ml.media.download import download_videos
from trailer_ml.media.fetch import _Downloader
from trailer_ml.media.remux import remux

HLS = "application/vnd.apple.mpegurl"


@pytest.fixture(scope="session")
def parts(videos, tmp_path_factory, run_ffmpeg):
    """A film that came apart, by container: (picture, sound)."""
    folder = tmp_path_factory.mktemp("parts")

    def part(name, source, *arguments):
        return run_ffmpeg("-i", videos[source], *arguments, to=folder / name)

    return {
        "mp4": (part("v.mp4", "normal", "-an", "-c", "copy"), part("a.mp4", "normal", "-vn", "-c", "copy")),
        "ts": (part("v.ts", "normal", "-an", "-c", "copy"), part("a.ts", "normal", "-vn", "-c", "copy")),
        "aac": (part("v2.ts", "normal", "-an", "-c", "copy"), part("a.aac", "normal", "-vn", "-c", "copy")),
        "webm": (part("v.webm", "webm", "-an", "-c", "copy"), part("a.webm", "webm", "-vn", "-c", "copy")),
        "mixed": (part("v3.mp4", "normal", "-an", "-c", "copy"), part("a2.webm", "webm", "-vn", "-c", "copy")),
    }


def ends_s(path):
    """By kind, from when to when."""
    ends = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.pts is not None:
                start = float(packet.pts * packet.time_base)
                first, last = ends.get(packet.stream.type, (start, start))
                ends[packet.stream.type] = (min(first, start), max(last, start))
        assert len(container.streams) == 2
    return ends


@pytest.mark.parametrize(
    ("kind", "container"), [("mp4", "mp4"), ("ts", "mp4"), ("aac", "mp4"), ("webm", "matroska"), ("mixed", "mp4")]
)
def test_picture_and_sound_become_one_file(parts, tmp_path, kind, container):
    target = tmp_path / "one"
    remux(parts[kind], target)
    with av.open(str(target)) as whole:
        assert container in whole.format.name
        assert len(list(whole.decode(video=0))) == 48
    for first, last in ends_s(target).values():
        assert first == pytest.approx(0, abs=0.15)
        assert last == pytest.approx(4, abs=0.15)


@pytest.mark.parametrize("from_s", ["0", "1.5"])
def test_pieces_whose_clocks_begin_anew_or_overlap(parts, run_ffmpeg, videos, tmp_path, from_s):
    """The second piece is at 0 again, or half a second before the end of the first."""
    first = run_ffmpeg("-i", videos["normal"], "-t", 2, "-c", "copy", "-muxdelay", 0, to=tmp_path / "1.ts")
    second = run_ffmpeg(
        "-i", videos["normal"], "-c", "copy", "-output_ts_offset", from_s, "-muxdelay", 0, to=tmp_path / "2.ts"
    )
    both, target = tmp_path / "both.ts", tmp_path / "one.mp4"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    remux([both], target)
    with av.open(str(target)) as whole:
        assert len(list(whole.decode(video=0))) == pytest.approx(24 + 48, abs=2)
    for start_s, end_s in ends_s(target).values():
        assert start_s == pytest.approx(0, abs=0.15)
        assert end_s == pytest.approx(2 + 4 if from_s == "0" else 1.5 + 4, abs=0.3)


def test_picture_and_sound_of_pieces_of_unequal_length_stay_together(parts, run_ffmpeg, videos, tmp_path):
    """The sound of each piece goes on for a second after its picture."""
    piece = run_ffmpeg(
        "-t", 2, "-i", videos["normal"], "-t", 3, "-i", videos["normal"], "-map", "0:v", "-map", "1:a", "-c", "copy",
        "-muxdelay", 0, to=tmp_path / "1.ts",
    )  # fmt: skip
    many, target = tmp_path / "many.ts", tmp_path / "one.mp4"
    many.write_bytes(piece.read_bytes() * 3)
    remux([many], target)
    with av.open(str(target)) as whole:
        times_s = [float(packet.pts * packet.time_base) for packet in whole.demux(video=0) if packet.pts is not None]
    for number in range(3):  # each picture begins with its sound
        assert min(abs(time_s - 3 * number) for time_s in times_s) < 0.15
    assert not [time_s for time_s in times_s if 2.3 < time_s % 3 < 2.7]


@pytest.mark.parametrize(
    "hostile",
    [
        "ffconcat version 1.0\nfile 'inside.ts'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:4,\ninside.ts\n#EXT-X-ENDLIST\n",
        "<html></html>",
        "",
    ],
)
def test_a_part_that_would_read_another_file_is_not_opened(parts, tmp_path, hostile):
    shutil.copy(parts["ts"][1], tmp_path / "inside.ts")
    part = tmp_path / "a.mp4"
    part.write_text(hostile)
    with pytest.raises(MediaError) as caught:
        remux([parts["ts"][0], part], tmp_path / "one.mp4")
    assert caught.value.reason == "corrupt"


def test_a_disk_that_is_full_is_no_fault_of_the_trailer(parts, tmp_path, media_settings, videos, fault_site):
    with pytest.raises(LocalFaultError, match="No space left"):
        remux(parts["ts"], type(tmp_path)("/dev/full"))
    put_playlist(fault_site, videos)
    (tmp_path / "container.mp4").symlink_to("/dev/full")
    with _Downloader(media_settings, tmp_path) as downloader:
        job = {"url": f"{fault_site.url}/list.m3u8", "stem": str(tmp_path / "video")}
        answer = downloader.ask(job, time.monotonic() + 60)
    assert answer["reason"] == "local_fault"


def test_what_gets_larger_than_a_file_may_be_is_too_large(parts, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(MediaError) as caught:
            remux(parts["ts"], tmp_path / "one.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.reason == "too_large"
    assert caught.value.__cause__.errno == errno.EFBIG


def put_playlist(site, videos):
    folder = videos["playlist"].parent
    for path in [videos["playlist"], *folder.glob("list*.ts")]:
        kind = HLS if path.suffix == ".m3u8" else "video/mp2t"
        site.put(f"/{path.name}", site.send(path.read_bytes(), content_type=kind))


def put_apart(site, kind, parts):
    """A page of picture and sound that come apart; its URL."""
    picture, sound = (path.read_bytes() for path in parts)
    site.put("/v", site.send(picture))
    site.put("/a", site.send(sound))
    if kind == "dash":
        sets = "".join(
            f'<AdaptationSet mimeType="{mime}/mp4"><Representation id="{name}" bandwidth="1" codecs="{codec}" {size}>'
            f"<BaseURL>{site.url}/{name}</BaseURL></Representation></AdaptationSet>"
            for name, mime, codec, size in (
                ("v", "video", "avc1.4d401e", 'width="160" height="120"'),
                ("a", "audio", "mp4a.40.2", ""),
            )
        )
        head = '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT4S"><Period>'
        page = f'<?xml version="1.0"?>{head}{sets}</Period></MPD>'
        return site.put("/film.mpd", site.send(page.encode(), content_type="application/dash+xml"))
    for name in ("v", "a"):
        text = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:4,\n{site.url}/{name}\n#EXT-X-ENDLIST\n"
        site.put(f"/{name}.m3u8", site.send(text.encode(), content_type=HLS))
    master = (
        '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="sound",NAME="en",URI="a.m3u8"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=1000,RESOLUTION=160x120,CODECS="avc1.4d401e,mp4a.40.2",AUDIO="sound"\nv.m3u8\n'
    )
    return site.put("/film.m3u8", site.send(master.encode(), content_type=HLS))


@pytest.mark.parametrize(("kind", "container"), [("dash", "mp4"), ("hls", "ts"), ("hls", "aac")])
def test_a_download_in_two_parts(fault_site, media_settings, parts, tmp_path, monkeypatch, kind, container):
    log = tmp_path / "log"
    program = tmp_path / "ffmpeg"
    program.write_text(f'#!/bin/sh\necho "$*" >> {log}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    features = media_settings.features.model_copy(update={"ffmpeg_path": str(program)})
    settings = media_settings.model_copy(update={"features": features})
    url = put_apart(fault_site, kind, parts[container])
    (outcome,) = download_videos([("t", url)], tmp_path, settings)
    assert [stream.kind for stream in outcome.probe.streams] == ["video", "audio"], outcome.detail
    assert set(ends_s(outcome.path)) == {"video", "audio"}
    assert not log.exists()  # what ffmpeg opens nobody checks: it is not started at all
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ffmpeg", "t.mp4"]
