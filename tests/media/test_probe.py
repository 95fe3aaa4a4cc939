import shutil
import subprocess
import sys

import pytest

from trailer_ml.catalog.guard import is_public
from trailer_ml.errors import MediaError, SettingsError
from trailer_ml.media.ffmpeg import find_ffmpeg
from trailer_ml.media.probe import probe_media
from trailer_ml.settings import MediaSettings

LIMITS = MediaSettings(min_duration_s=1, max_duration_s=60)


def test_a_good_file(videos):
    duration_s, streams = probe_media(videos["normal"], LIMITS)
    assert duration_s == pytest.approx(4, abs=0.2)
    video, audio = streams
    assert (video.kind, video.codec, video.width, video.height, video.fps) == ("video", "h264", 160, 120, 12)
    assert (audio.kind, audio.codec, audio.sample_rate_hz, audio.n_channels) == ("audio", "aac", 44100, 1)


@pytest.mark.parametrize("name", ["h264-huge.mp4", "h264-huge.mkv", "mjpeg-huge.mp4", "mjpeg-huge.mkv"])
def test_pictures_that_would_take_gigabytes_are_refused_by_what_they_say(bombs, name):
    path, reason = bombs[name]
    with pytest.raises(MediaError, match="16000x16000" if reason == "too_large" else "decoded") as caught:
        probe_media(path, LIMITS)
    assert caught.value.reason == reason


def test_matroska_and_silence_are_fine(videos):
    assert [stream.codec for stream in probe_media(videos["webm"], LIMITS).streams] == ["vp8", "opus"]
    assert len(probe_media(videos["silent"], LIMITS).streams) == 1


def test_a_cover_picture_is_no_video(videos, run_ffmpeg, tmp_path):
    cover = run_ffmpeg("-i", videos["normal"], "-frames:v", "1", to=tmp_path / "cover.png")
    song = run_ffmpeg(
        "-i", videos["audio"], "-i", cover, "-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "attached_pic",
        to=tmp_path / "song.mp4",
    )  # fmt: skip
    with pytest.raises(MediaError) as caught:
        probe_media(song, LIMITS)
    assert caught.value.reason == "no_video"


@pytest.fixture(scope="module")
def long_videos(videos, run_ffmpeg, tmp_path_factory):
    """12 s in each container that is accepted."""
    folder = tmp_path_factory.mktemp("long")
    picture = ("-i", videos["long"], "-f", "lavfi", "-i", "sine=duration=12", "-shortest")
    return {
        "mp4": videos["long"],
        "webm": run_ffmpeg(*picture, "-c:v", "libvpx", "-cpu-used", 8, "-c:a", "libopus", to=folder / "long.webm"),
        "mkv": run_ffmpeg(*picture, "-c:v", "copy", "-c:a", "aac", to=folder / "long.mkv"),
        "silent.mkv": run_ffmpeg("-i", videos["long"], "-c:v", "copy", to=folder / "silent.mkv"),
        "unannounced.webm": run_ffmpeg(*picture, "-c:v", "copy", "-c:a", "aac", "-f", "matroska", "-live", 1,
                                       to=folder / "live.mkv"),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["mp4", "webm", "mkv", "silent.mkv", "unannounced.webm"])
def test_a_long_file_is_believed(long_videos, kind):
    assert probe_media(long_videos[kind], LIMITS).duration_s == pytest.approx(12, abs=0.2)


@pytest.mark.parametrize("kind", ["mp4", "webm", "mkv", "silent.mkv"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6])
def test_a_file_that_was_cut_off(long_videos, tmp_path, kind, share):
    data = long_videos[kind].read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(MediaError) as caught:
        probe_media(path, LIMITS)
    assert caught.value.reason == "corrupt"


def test_a_picture_may_be_held_to_the_end(run_ffmpeg, tmp_path):
    path = run_ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=s=160x120:r=1/10", "-t", 40, "-c:v", "libx264", to=tmp_path / "a.mp4"
    )
    assert probe_media(path, LIMITS).duration_s == pytest.approx(40, abs=0.2)


def test_sound_may_be_longer_than_the_picture(videos, run_ffmpeg, tmp_path):
    sound = ("-f", "lavfi", "-i", "sine=duration=12", "-c:v", "copy", "-c:a", "aac")
    path = run_ffmpeg("-i", videos["silent"], *sound, to=tmp_path / "a.mkv")
    assert probe_media(path, LIMITS).duration_s == pytest.approx(12, abs=0.2)


def test_a_tag_that_is_no_text_is_no_fault(videos, run_ffmpeg, tmp_path):
    path = run_ffmpeg("-i", videos["normal"], "-c", "copy", "-metadata", "comment=ABCDEFGH", to=tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes().replace(b"ABCDEFGH", b"\xff\xfe\xe9\xe8\xfc\xf6\xe4\x80"))
    assert len(probe_media(path, LIMITS).streams) == 2


def test_streams_that_nothing_decodes_do_not_count(videos, tmp_path):
    path = tmp_path / "a.mp4"
    data = videos["normal"].read_bytes()
    path.write_bytes(data.replace(b"avc1", b"zzzz"))
    with pytest.raises(MediaError) as caught:
        probe_media(path, LIMITS)
    assert caught.value.reason == "no_video"
    path.write_bytes(data.replace(b"mp4a", b"zzzz").replace(b"esds", b"zzzz"))
    assert [stream.kind for stream in probe_media(path, LIMITS).streams] == ["video"]


def test_a_file_whose_end_is_noise(videos, tmp_path):
    data = videos["long"].read_bytes()
    path = tmp_path / "noise.mp4"
    path.write_bytes(data[: len(data) * 3 // 4] + bytes(reversed(data))[: len(data) // 4])
    with pytest.raises(MediaError) as caught:
        probe_media(path, LIMITS)
    assert caught.value.reason == "corrupt"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<!doctype html><html></html>",
        b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        b"\x00\x00\x00\x18moof",
    ],
)
def test_what_is_no_video(tmp_path, data):
    path = tmp_path / "x.mp4"
    path.write_bytes(data)
    with pytest.raises(MediaError) as caught:
        probe_media(path, LIMITS)
    assert caught.value.reason == "not_a_video"


def test_a_playlist_behind_a_good_beginning_is_not_opened(videos, tmp_path):
    """The first bytes can be forged; which formats may be opened cannot."""
    path = tmp_path / "x.mp4"
    path.write_bytes(b"#EX\nftyp\nffconcat version 1.0\nfile '" + str(videos["normal"]).encode() + b"'\n")
    with pytest.raises(MediaError) as caught:
        probe_media(path, LIMITS)
    assert caught.value.reason == "corrupt"


def test_ffmpeg_is_found():
    assert subprocess.run([find_ffmpeg(), "-version"], capture_output=True, check=True).stdout.startswith(
        b"ffmpeg version"
    )
    assert find_ffmpeg(sys.executable) == shutil.which(sys.executable)
    with pytest.raises(SettingsError, match="no-such-ffmpeg"):
        find_ffmpeg("no-such-ffmpeg")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "169.254.169.254", "0.0.0.0", "::1", "fe80::1%eth0", "::ffff:10.0.0.1", "2002:7f00:1::",
     "64:ff9b::7f00:1", "224.0.0.1", "100.64.0.1", "fd00::1", "fec0::1", "::7f00:1", "64:ff9b:1::7f00:1",
     "::ffff:0:7f00:1", "5f00::1", "2001:0:7f00:1::1"],
)  # fmt: skip
def test_private_addresses(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_public_addresses(address):
    assert is_public(address)
