"""Files that are no trailers: each kind gets its own reason from both engines; none hangs or reads another file."""

import os
import random
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from trailer_ml.errors import MediaError
from trailer_ml.features.extract import Features, extract_features
from trailer_ml.features.pool import extract_many
from trailer_ml.settings import FeatureSettings

Make = Callable[..., Path]
Rgb = Callable[..., np.ndarray]
DEMO = FeatureSettings(start_s=1.0, interval_s=2.4, spectrogram_s=24.0, timeout_s=30.0)


def reason_for(path: Path, **settings: object) -> str:
    with pytest.raises(MediaError) as caught:
        extract_features(path, DEMO.model_copy(update=settings))
    assert "\n" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"<html>Sorry, this video is gone.</html>", "not_a_video"),
        (random.Random(4).randbytes(100_000), "not_a_video"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + random.Random(4).randbytes(100_000), "corrupt"),
    ],
)
def test_bytes_that_are_no_video(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert reason_for(path) == reason


def test_no_such_file(tmp_path: Path) -> None:
    assert reason_for(tmp_path / "a.mp4") == "missing"


def test_a_fifo_and_a_folder_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    assert reason_for(tmp_path / "a.mp4") == "not_a_file"
    assert reason_for(tmp_path) == "not_a_file"


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:30\n#EXTINF:27,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {secret}\n",
    ],
)
def test_a_playlist_named_mp4_reads_no_other_file(text: str, make_video: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text(text.format(secret=make_video()))
    assert reason_for(path) == "not_a_video"


def test_sound_only(make_video: Make, ffmpeg: Callable[..., bytes], tmp_path: Path) -> None:
    ffmpeg("-i", make_video(), "-vn", "-c", "copy", tmp_path / "a.mp4")
    assert reason_for(tmp_path / "a.mp4") == "no_video"


def test_cover_art_is_no_picture(make_video: Make, ffmpeg: Callable[..., bytes], tmp_path: Path) -> None:
    ffmpeg("-i", make_video(), "-frames:v", 1, tmp_path / "cover.png")
    ffmpeg(
        "-i", make_video(), "-i", tmp_path / "cover.png", "-map", "0:a", "-map", "1:v", "-c", "copy",
        "-disposition:v:0", "attached_pic", tmp_path / "a.mp4",
    )  # fmt: skip
    assert reason_for(tmp_path / "a.mp4") == "no_video"


@pytest.mark.parametrize("engine", ["pyav", "ffmpeg"])
@pytest.mark.parametrize("index", ["at the end", "at the start"])
def test_a_download_cut_in_half(
    index: str, engine: str, make_video: Make, ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    flags = ("-movflags", "+faststart") if index == "at the start" else ()
    ffmpeg("-i", make_video(), "-c", "copy", *flags, tmp_path / "whole.mp4")
    whole = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) // 2])

    assert reason_for(tmp_path / "a.mp4", engine=engine) == "corrupt"


@pytest.mark.parametrize("name", ["a.mkv", "a.flv"])
def test_a_download_cut_in_half_whose_streams_have_no_duration_of_their_own(
    name: str, make_video: Make, ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    ffmpeg("-i", make_video(), "-c", "copy", tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])

    assert reason_for(tmp_path / name) == "corrupt"


def test_bytes_overwritten_in_the_middle(make_video: Make, tmp_path: Path) -> None:
    data = bytearray(make_video().read_bytes())
    middle = slice(len(data) // 10, len(data) * 9 // 10)
    data[middle] = random.Random(4).randbytes(len(data[middle]))
    (tmp_path / "a.mp4").write_bytes(data)

    assert reason_for(tmp_path / "a.mp4") == "corrupt"


def test_a_header_that_asks_for_gigabytes_is_damaged(make_video: Make, tmp_path: Path) -> None:
    """FFmpeg calls it a lack of memory, as when there is none; a second try in another process would change nothing."""
    data = bytearray(make_video().read_bytes())
    count = data.index(b"stts") + 8
    data[count : count + 4] = b"\x7f\xff\xff\xff"
    (tmp_path / "a.mp4").write_bytes(data)

    assert reason_for(tmp_path / "a.mp4") == "corrupt"


def test_a_header_that_only_ffmpeg_finds_its_way_by(make_video: Make, tmp_path: Path) -> None:
    """The first pictures of an index without lengths of time cannot be sought, and can be read from the beginning."""
    good, path = make_video(), tmp_path / "a.mp4"
    data = bytearray(good.read_bytes())
    count = data.index(b"stts") + 12
    data[count : count + 4] = bytes(4)
    path.write_bytes(data)

    assert reason_for(path, engine="pyav") == "corrupt"
    features, expected = extract_features(path, DEMO), extract_features(good, DEMO)
    assert features.extractor_version == f"ffmpeg-{DEMO.extractor_version}"
    assert np.abs(features.frames.astype(int) - expected.frames).mean() < 3


def test_what_decodes_badly_is_not_left_to_ffmpeg(make_video: Make, tmp_path: Path) -> None:
    """It would show the damage, grey, and call it a picture."""
    data = bytearray(make_video().read_bytes())
    dice = random.Random(4)
    for at in range(len(data) // 20, len(data) * 9 // 10, 200):
        data[at] = dice.randrange(256)
    (tmp_path / "a.mp4").write_bytes(data)

    assert len(extract_features(tmp_path / "a.mp4", DEMO.model_copy(update={"engine": "ffmpeg"})).frames) == 10
    assert reason_for(tmp_path / "a.mp4") == "corrupt"


def test_a_few_wrong_bytes_do_not_cost_the_trailer(make_video: Make, ffmpeg_frames: Rgb, tmp_path: Path) -> None:
    data = bytearray(make_video().read_bytes())
    data[len(data) // 3] ^= 0xFF
    (tmp_path / "a.mp4").write_bytes(data)

    features = extract_features(tmp_path / "a.mp4", DEMO)
    assert len(features.frames) == 10
    assert difference_from(make_video(), features, ffmpeg_frames) <= 3


@pytest.mark.parametrize("number", [0, 4])
@pytest.mark.parametrize("at", [200, 1000])
@pytest.mark.parametrize("sampler", ["exact", "keyframe", "scene"])
def test_a_damaged_keyframe_is_not_shown_and_neither_is_what_is_made_from_it(
    sampler: str, at: int, number: int, make_video: Make, ffmpeg_frames: Rgb, tmp_path: Path
) -> None:
    """A decoder calls the keyframe damaged, and not the grey ones after it."""
    good, path = make_video(sound=False), tmp_path / "a.mp4"
    with av.open(good) as container:
        keyframes = [packet.pos for packet in container.demux(video=0) if packet.size and packet.is_keyframe]
    data = bytearray(good.read_bytes())
    place = keyframes[number] + (at if number else 700 + at)  # the first one begins with words about the encoder
    data[place : place + 3] = bytes(byte ^ 0xFF for byte in data[place : place + 3])
    path.write_bytes(data)

    features = extract_features(path, DEMO.model_copy(update={"sampler": sampler}))
    assert (len(features.frames), features.n_damaged > 0) == (10, True)
    assert features.extractor_version == f"pyav-{DEMO.extractor_version}"
    assert difference_from(good, features, ffmpeg_frames) <= 3


def difference_from(film: Path, features: Features, ffmpeg_frames: Rgb) -> float:
    """Of the frame that differs most from what an undamaged film shows at its time, on average."""
    times_s = sorted({round(t, 3) for t in features.frame_times_s})
    shown = ffmpeg_frames(film, tuple(times_s), "scale=560:-1,crop=224:224:168:45")
    expected = shown[np.searchsorted(times_s, np.round(features.frame_times_s, 3))]
    return float(np.abs(features.frames.astype(int) - expected).mean(axis=(1, 2, 3)).max())


def test_a_stream_that_comes_up_in_the_middle(make_video: Make, ffmpeg: Callable[..., bytes], tmp_path: Path) -> None:
    """An FLV file may begin without saying what is to come."""
    picture, sound = tmp_path / "picture.flv", tmp_path / "sound.flv"
    ffmpeg("-i", make_video(), "-c", "copy", "-an", "-flvflags", "no_sequence_end", picture)
    ffmpeg("-i", make_video(), "-c", "copy", "-vn", "-ar", "44100", sound)
    header_bytes = 13
    (tmp_path / "a.flv").write_bytes(picture.read_bytes() + sound.read_bytes()[header_bytes:])

    assert len(extract_features(tmp_path / "a.flv", DEMO).frames) == 10


@pytest.mark.parametrize("engine", ["pyav", "ffmpeg"])
def test_a_tag_that_is_no_text_does_not_cost_the_trailer(
    engine: str, make_video: Make, ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    path = tmp_path / "a.mp4"
    ffmpeg("-i", str(make_video()), "-c", "copy", "-metadata", "comment=ABCDEFGH", str(path))
    path.write_bytes(path.read_bytes().replace(b"ABCDEFGH", b"\xff\xfe\xe9\xe8\xfc\xf6\xe4\x80"))
    assert extract_features(path, DEMO.model_copy(update={"engine": engine})).has_audio


@pytest.mark.parametrize("engine", ["pyav", "ffmpeg"])
@pytest.mark.parametrize("forged", [(1, 2_000_000_000), (2_000_000_000, 1)])
def test_a_forged_shape_of_pixels_is_not_believed(
    forged: tuple[int, int], engine: str, make_video: Make, tmp_path: Path
) -> None:
    good, path = make_video(filters="setsar=1", seconds=4), tmp_path / "a.mp4"
    data = bytearray(good.read_bytes())
    struct.pack_into(">II", data, data.index(b"pasp") + 4, *forged)
    path.write_bytes(data)
    settings = DEMO.model_copy(update={"engine": engine})
    np.testing.assert_array_equal(extract_features(path, settings).frames, extract_features(good, settings).frames)


def test_a_file_that_may_not_be_read(make_video: Make) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, path, user = Path(name), Path(name, "a.mp4"), os.geteuid()
        shutil.copy(make_video(seconds=4), path)
        folder.chmod(0o755)
        path.chmod(0)
        os.seteuid(user or 65534)  # to whom all files are open becomes somebody else
        try:
            assert reason_for(path) == "unreadable"
        finally:
            os.seteuid(user)


def test_an_ffmpeg_that_cannot_be_started_changes_no_reason(make_video: Make, tmp_path: Path) -> None:
    """`auto` asks it once more for a file that is damaged; a machine without a good one loses nothing else by it."""
    program, path = tmp_path / "ffmpeg", tmp_path / "a.mp4"
    program.write_bytes(b"\x7fELF of another machine")
    program.chmod(0o755)
    whole = make_video().read_bytes()
    path.write_bytes(whole.replace(b"stts", b"stt_", 1))
    assert reason_for(path, ffmpeg_path=str(program)) == reason_for(path, engine="pyav") == "corrupt"


@pytest.mark.parametrize("engine", ["pyav", "ffmpeg"])
def test_more_pixels_than_allowed(engine: str, make_video: Make) -> None:
    assert reason_for(make_video(), engine=engine, max_pixels=320 * 180 - 1) == "too_large"


@pytest.mark.parametrize("engine", ["pyav", "ffmpeg"])
def test_a_wall_clock_that_is_over(engine: str, make_video: Make) -> None:
    assert reason_for(make_video(), engine=engine, timeout_s=1e-6) == "timeout"


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
@pytest.mark.parametrize("engine", ["pyav", "ffmpeg"])
def test_more_streams_than_allowed(
    name: str, engine: str, make_video: Make, ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    ffmpeg("-i", make_video(), *("-map", "0:a") * 32, "-map", "0:v", "-c", "copy", "-t", 1, tmp_path / name)
    assert reason_for(tmp_path / name, engine=engine) == "too_many_streams"


@pytest.mark.parametrize("engine", ["pyav", "ffmpeg"])
def test_as_many_streams_as_allowed(
    engine: str, make_video: Make, ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    path = tmp_path / "a.mp4"
    ffmpeg("-i", make_video(), *("-map", "0:a") * 31, "-map", "0:v", "-c", "copy", "-t", 2, path)
    assert len(extract_features(path, DEMO.model_copy(update={"engine": engine})).frames) == 1


def test_a_million_packets_with_nothing_in_them(make_video: Make, remux: Callable[..., Path]) -> None:
    path = remux(make_video(seconds=4), "a.flv")
    sound = b"\xaf\x01\0"
    tag = b"\x08" + len(sound).to_bytes(3, "big") + bytes(7) + sound
    with path.open("ab") as file:
        file.write((tag + len(tag).to_bytes(4, "big")) * 1_000_000)
    assert reason_for(path) == "too_many_packets"


def test_a_name_that_looks_like_an_address(make_video: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = Path("concat:a|http:b -i ü.mp4")
    name.write_bytes(make_video().read_bytes())
    assert len(extract_features(name, DEMO).frames) == 10
    assert len(extract_features(name, DEMO.model_copy(update={"engine": "ffmpeg"})).frames) == 10


@pytest.mark.parametrize("sampler", ["exact", "keyframe"])
def test_pictures_that_would_take_gigabytes_are_refused_by_what_they_say(bombs, sampler: str) -> None:
    """In a process that may have 1 GiB: of 16,000 x 16,000 points one picture more than fills it."""
    settings = DEMO.model_copy(update={"sampler": sampler, "memory_bytes": 2**30})
    outcomes = extract_many([path for path, _ in bombs.values()], settings, 1)
    reasons = [outcome.reason if isinstance(outcome, MediaError) else "kept" for outcome in outcomes]
    assert dict(zip(bombs, reasons, strict=True)) == {name: reason for name, (_, reason) in bombs.items()}
