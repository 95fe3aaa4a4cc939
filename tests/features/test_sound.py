"""Sound of every kind: what its picture is, against ffmpeg's own program and against the formula of log_mel.py."""

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from trailer_ml.features.extract import Features, extract_features
from trailer_ml.features.log_mel import RATE_HZ, WINDOW, draw_log_mel
from trailer_ml.settings import FeatureSettings

DEMO = FeatureSettings(start_s=1.0, interval_s=2.0, n_frames=2, spectrogram_s=6.0)
LOG_MEL = DEMO.model_copy(update={"spectrogram": "log_mel"})
Make = Callable[..., Path]
Rgb = Callable[..., np.ndarray]

CHANNELS = {"mono": 1, "stereo": 2, "5.1": 6}
PCM = ("-c:a", "pcm_s16le")
AAC = ("-c:a", "aac", "-aac_pns", "0")
# Name, channels, samples a second, begin and length in seconds, codec.
SOUNDS = {
    "mono": ("a.mp4", "mono", 44100, 0, 8, AAC),
    "5.1": ("a.mp4", "5.1", 48000, 0, 8, AAC),
    "8 kHz": ("a.mov", "mono", 8000, 0, 8, PCM),
    "11 kHz": ("a.mp4", "stereo", 11025, 0, 8, AAC),
    "96 kHz": ("a.mov", "stereo", 96000, 0, 8, PCM),
    "starts late": ("a.mov", "stereo", 44100, 4, 4, PCM),
    "ends early": ("a.mov", "stereo", 44100, 0, 3, PCM),
}


@pytest.fixture(scope="module")
def make_film(make_video: Make, ffmpeg: Callable[..., bytes], tmp_path_factory: pytest.TempPathFactory) -> Make:
    """`make_film(name, channels, rate, begin_s, seconds, codec)`: 8 s of picture with this sound."""
    picture, folder = make_video("160x90", 8, sound=False), tmp_path_factory.mktemp("sounds")

    def make(name: str, layout: str, rate: int, begin_s: float, seconds: float, codec: tuple[str, ...]) -> Path:
        path = folder / f"{layout}-{rate}-{begin_s}-{seconds}-{name}"
        if not path.exists():
            tones = "|".join(f"0.3*sin({1500 + 900 * i}*t*(1+t/9))+0.02*random({i})" for i in range(CHANNELS[layout]))
            sound = f"aevalsrc={tones}:s={rate}:d={seconds}:c={layout}"
            ffmpeg(
                "-i", picture, "-itsoffset", begin_s, "-f", "lavfi", "-i", sound,
                "-map", "0:v", "-map", "1:a", "-c:v", "copy", *codec, path,
            )  # fmt: skip
        return path

    return make


@pytest.mark.parametrize("engine", ["pyav", "ffmpeg"])
@pytest.mark.parametrize("sound", SOUNDS)
def test_every_kind_of_sound_has_ffmpegs_picture(
    sound: str, engine: str, make_film: Make, ffmpeg_spectrogram: Rgb
) -> None:
    path = make_film(*SOUNDS[sound])
    features = extract_features(path, DEMO.model_copy(update={"engine": engine}))
    expected = ffmpeg_spectrogram(path, 1.0, 6.0)

    assert features.has_audio
    assert np.corrcoef(features.spectrogram.ravel(), expected.ravel())[0, 1] >= 0.999
    assert mean_difference(features.spectrogram, expected) <= 1


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.flv"])
def test_sound_that_starts_late_costs_no_trailer(name: str, make_film: Make) -> None:
    """Some demuxers refuse to seek to where there is nothing yet, if it is not among what opening has read."""
    codec = ("-c:a", "flac") if name == "a.mkv" else AAC
    settings = DEMO.model_copy(update={"engine": "pyav"})
    features = extract_features(make_film(name, "stereo", 44100, 6, 2, codec), settings)
    assert features.has_audio
    assert features.spectrogram[:, 0].any()  # its left edge is where the sound begins
    assert len(features.frames) == 2


@pytest.mark.parametrize("settings", [DEMO, LOG_MEL])
@pytest.mark.parametrize(("begin_s", "seconds"), [(0, 0.9), (7.2, 0.7)], ids=["over before", "not yet"])
def test_no_sound_within_the_span_is_silence(
    begin_s: float, seconds: float, settings: FeatureSettings, make_film: Make
) -> None:
    path = make_film("a.mov", "stereo", 44100, begin_s, seconds, PCM)
    for engine in ("pyav", "ffmpeg"):
        features = extract_features(path, settings.model_copy(update={"engine": engine}))
        assert not features.has_audio
        assert features.spectrogram.shape == (224, 224, 3)


@pytest.mark.parametrize("sound", ["mono", "5.1", "8 kHz", "96 kHz", "starts late", "ends early"])
def test_log_mel_is_the_same_from_both_engines(sound: str, make_film: Make) -> None:
    ours, theirs = (
        extract_features(make_film(*SOUNDS[sound]), LOG_MEL.model_copy(update={"engine": engine})).spectrogram
        for engine in ("pyav", "ffmpeg")
    )
    assert ours.any()
    assert mean_difference(ours, theirs) < 0.5


def test_log_mel_does_not_move_with_the_sample_rate(make_film: Make) -> None:
    low, high = (
        extract_features(make_film("a.mov", "mono", rate, 0, 8, PCM), LOG_MEL).spectrogram.astype(int)
        for rate in (32000, 96000)
    )
    loud = high > 150  # the tone; the noise is another one at another rate
    assert loud.any()
    assert np.abs(low - high)[loud].mean() < 3


def test_log_mel_is_its_formula() -> None:
    size, seconds = 16, 2.0
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    sound = (0.5 * np.sin(2 * np.pi * (300 * t + 400 * t**2)) + 0.01 * np.sin(50_000 * t)).astype(np.float32)
    np.testing.assert_allclose(draw_log_mel(sound, size)[..., 0], log_mel_by_hand(sound, size), atol=1)


def log_mel_by_hand(sound: np.ndarray, size: int) -> np.ndarray:
    """(size, size) grey values, one after the other and in double precision."""
    hann = np.array([0.5 - 0.5 * math.cos(2 * math.pi * i / WINDOW) for i in range(WINDOW)])
    mels = [2595 * math.log10(1 + RATE_HZ / 2 / 700) * i / (size + 1) for i in range(size + 2)]
    edges_hz = [700 * (10 ** (mel / 2595) - 1) for mel in mels]
    grey = np.zeros((size, size))
    for column in range(size):
        length = len(sound) / size
        n = math.ceil(length / (WINDOW / 2))
        powers = []
        for i in range(n):
            start = min(max(0, int((column + (i + 0.5) / n) * length) - WINDOW // 2), len(sound) - WINDOW)
            powers.append(np.abs(np.fft.rfft(sound[start : start + WINDOW].astype(float) * hann)) ** 2)
        power = sum(powers) / n * (2 / hann.sum()) ** 2
        for band in range(size):
            below, centre, above = edges_hz[band : band + 3]
            energy = 0.0
            for number, value in enumerate(power):
                off_hz = number * RATE_HZ / WINDOW - centre
                width_hz = max(above - centre if off_hz > 0 else centre - below, RATE_HZ / WINDOW)
                energy += max(0.0, 1 - abs(off_hz) / width_hz) * value
            level_db = 10 * math.log10(max(energy, 1e-8))
            grey[size - 1 - band, column] = min(255, round((1 + level_db / 80) * 255))
    return grey


@pytest.mark.parametrize(("amplitude", "grey"), [(1.0, 255), (0.1, 255 * 60 / 80), (1e-5, 0)])
def test_log_mel_shows_decibels(amplitude: float, grey: float) -> None:
    t = np.arange(3 * RATE_HZ) / RATE_HZ
    picture = draw_log_mel((amplitude * np.sin(2 * np.pi * 1000 * t)).astype(np.float32), 224)
    assert picture.max() == pytest.approx(grey, abs=6)  # a band adds up the bins of the tone: up to 2 dB


@pytest.mark.parametrize("n_samples", [1, 100, WINDOW - 1, WINDOW, 3 * WINDOW + 1])
def test_log_mel_of_hardly_any_sound(n_samples: int) -> None:
    picture = draw_log_mel(np.ones(n_samples, np.float32), 64)
    assert picture.shape == (64, 64, 3)
    assert (picture == picture[:, :1]).all() or n_samples > WINDOW


# Width, height, pixels, channels, samples a second.
SEGMENTS = (
    (320, 180, "yuv420p", "mono", 44100),
    (640, 480, "yuv444p", "stereo", 48000),
    (180, 320, "yuv420p", "5.1", 44100),
)


@pytest.mark.parametrize("kind", ["showspectrumpic", "log_mel"])
def test_a_film_that_changes_on_the_way(kind: str, tmp_path: Path) -> None:
    """Picture and sound of another size and kind every 3 s, as broadcasts have it: all of it is seen and heard."""
    write_changing(tmp_path / "a.ts", seconds=3)
    settings = DEMO.model_copy(update={"n_frames": 4, "spectrogram_s": 7.5, "spectrogram": kind, "engine": "pyav"})
    features = extract_features(tmp_path / "a.ts", settings)

    reds = features.frames.mean(axis=(1, 2))[:, 0]  # (n,)
    np.testing.assert_allclose(reds, [20, 90, 90, 160], atol=8)  # at 1, 3, 5, 7 s
    rows = [loudest_row(features, column) for column in (20, 112, 210)]
    np.testing.assert_allclose(rows, [224 * (1 - place_of(hz, kind)) for hz in (2000, 5000, 8000)], atol=3)


def place_of(hz: float, kind: str) -> float:
    """How far up in the picture a tone is: 0 to 1."""
    if kind == "log_mel":
        return math.log10(1 + hz / 700) / math.log10(1 + RATE_HZ / 2 / 700)
    return hz / (44100 / 2)


def loudest_row(features: Features, column: int) -> int:
    return int(features.spectrogram[:, column].max(axis=1).argmax())


def write_changing(path: Path, seconds: int, fps: int = 10) -> None:
    """ffmpeg's own program would bring all of it into one shape."""
    with av.open(path, "w") as container:
        picture = container.add_stream("libx264", rate=fps, width=320, height=180, pix_fmt="yuv420p")
        sound = container.add_stream("ac3", rate=44100, layout="mono")
        for number, (width, height, pixels, layout, rate) in enumerate(SEGMENTS):
            video, audio = av.CodecContext.create("libx264", "w"), av.CodecContext.create("ac3", "w")
            video.width, video.height, video.pix_fmt, video.max_b_frames = width, height, pixels, 0
            video.framerate, video.time_base = fps, Fraction(1, fps)
            audio.sample_rate, audio.layout, audio.format, audio.time_base = rate, layout, "fltp", Fraction(1, rate)
            packets = []
            for codec, stream, frames in (
                (video, picture, plain_frames(number, width, height, seconds * fps)),
                (audio, sound, tone_frames(number, layout, rate, seconds * rate)),
            ):
                for packet in (packet for frame in (*frames, None) for packet in codec.encode(frame)):
                    packet.stream = stream
                    packets.append(packet)
            for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
                container.mux(packet)


def plain_frames(number: int, width: int, height: int, n: int) -> list[av.VideoFrame]:
    frames = []
    for i in range(n):
        pixels = np.full((height, width, 3), (20 + 70 * number, 100, 100), np.uint8)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=SEGMENTS[number][2])
        frame.pts = i + number * n
        frames.append(frame)
    return frames


def tone_frames(number: int, layout: str, rate: int, n: int) -> list[av.AudioFrame]:
    frames = []
    tone = 0.4 * np.sin(2 * np.pi * (2000 + 3000 * number) * np.arange(n) / rate)
    for start in range(0, n - 1535, 1536):
        channels = np.tile(tone[start : start + 1536].astype(np.float32), (CHANNELS[layout], 1))
        frame = av.AudioFrame.from_ndarray(channels, format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, start + number * n
        frames.append(frame)
    return frames


def mean_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours.astype(int) - theirs).mean())
