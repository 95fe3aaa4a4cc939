"""Pictures of other shapes than 16:9, against the same cut made by ffmpeg's own filters."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from trailer_ml.features.extract import extract_features
from trailer_ml.features.geometry import Box, Crop, Shape, crop_frame, is_seed_shape, plan_crop, shape_of
from trailer_ml.settings import FeatureSettings

DEMO = FeatureSettings(start_s=1.0, interval_s=1.5, n_frames=4, spectrogram_s=6.0)
Make = Callable[..., Path]
Rgb = Callable[..., np.ndarray]

MIDDLE = "scale={0}:flags=bicubic,crop=224:224"
X264 = ("-c:v", "libx264", "-preset", "ultrafast")
SHAPES = {
    "portrait": ({"size": "180x320"}, MIDDLE.format("224:398")),
    "2.39:1": ({"size": "478x200"}, MIDDLE.format("535:224")),
    "4:3": ({"size": "320x240"}, MIDDLE.format("299:224")),
    "wide pixels": ({"size": "240x240", "filters": "setsar=2"}, MIDDLE.format("448:224")),
    "16:9 by its pixels": ({"size": "180x180", "filters": "setsar=16/9"}, "scale=560:315,crop=224:224:168:45"),
    "black bars above and below": (
        {"size": "320x120", "filters": "pad=320:240:0:60"},
        "crop=320:116:0:62," + MIDDLE.format("618:224"),
    ),
    "black bars at the sides of a portrait picture": (
        {"size": "120x320", "filters": "pad=180:320:30:0"},
        "crop=116:320:32:0," + MIDDLE.format("224:618"),
    ),
}


@pytest.mark.parametrize("engine", ["pyav", "ffmpeg"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_middle_of_what_is_shown(shape: str, engine: str, make_video: Make, ffmpeg_frames: Rgb) -> None:
    arguments, chain = SHAPES[shape]
    path = make_video(seconds=8, sound=False, video=X264, **arguments)
    features = extract_features(path, DEMO.model_copy(update={"engine": engine}))

    expected = ffmpeg_frames(path, DEMO.instants_s, chain)
    assert features.frames.shape == expected.shape
    # The cut may be half a pixel or so from ffmpeg's: rounded at another place. Another cut differs by 30 and more.
    assert np.abs(features.frames.astype(int) - expected).mean() < (8 if "sides" in shape else 6)


SEED_CHAIN = "scale=560:315,crop=224:224:168:45"
TURNED = {
    "by 90": ((90,), {"size": "240x320"}, MIDDLE.format("299:224")),
    "by 180": ((180,), {"size": "240x320"}, MIDDLE.format("224:299")),
    "by 270": ((270,), {"size": "240x320"}, MIDDLE.format("299:224")),
    "by 90, and 16:9 then": ((90,), {"size": "180x320"}, SEED_CHAIN),
    "by 270, and 16:9 then": ((270,), {"size": "180x320"}, SEED_CHAIN),
    "by 90, and 16:9 no longer": ((90,), {"size": "320x180"}, MIDDLE.format("224:398")),
    "by 90, wide pixels": ((90,), {"size": "240x240", "filters": "setsar=1/2"}, MIDDLE.format("448:224")),
    "by 90, black bars": (
        (90,),
        {"size": "120x320", "filters": "pad=240:320:60:0"},
        "crop=320:116:0:62," + MIDDLE.format("618:224"),
    ),
    "mirrored": ((0, "-display_hflip"), {}, SEED_CHAIN),
    "upside down": ((0, "-display_vflip"), {}, SEED_CHAIN),
    "by 90 and mirrored": ((90, "-display_hflip"), {"size": "180x320"}, SEED_CHAIN),
    "by 90 and upside down": ((90, "-display_vflip"), {"size": "240x320"}, MIDDLE.format("299:224")),
}


@pytest.mark.parametrize("engine", ["pyav", "ffmpeg"])
@pytest.mark.parametrize("turned", TURNED)
def test_a_turned_or_mirrored_picture_is_upright(
    turned: str, engine: str, make_video: Make, ffmpeg: Callable[..., bytes], ffmpeg_frames: Rgb, tmp_path: Path
) -> None:
    (degrees, *mirror), arguments, chain = TURNED[turned]
    path = tmp_path / "turned.mp4"
    stored = make_video(seconds=8, sound=False, video=X264, **arguments)
    ffmpeg(*mirror, "-display_rotation", degrees, "-i", stored, "-c", "copy", path)
    features = extract_features(path, DEMO.model_copy(update={"engine": engine}))

    expected = ffmpeg_frames(path, DEMO.instants_s, chain)  # ffmpeg turns it by itself
    assert np.abs(features.frames.astype(int) - expected).mean() < 6


def test_black_bars_are_not_looked_for_in_a_dark_film(make_video: Make) -> None:
    """Nothing lit: the whole picture is taken, and none of it is refused."""
    path = make_video(size="320x240", seconds=8, sound=False, video=X264, filters="lutyuv=y=16:u=128:v=128")
    assert extract_features(path, DEMO).frames.max() < 10


def test_the_seeds_recipe_is_for_16_to_9_only() -> None:
    assert is_seed_shape(Shape(1920, 1080, 1.0))
    assert is_seed_shape(Shape(1440, 1080, 4 / 3))
    assert not is_seed_shape(Shape(1080, 1920, 1.0))
    assert not is_seed_shape(Shape(1920, 800, 1.0))


@pytest.mark.parametrize("bars", ["pad=320:240:0:30", "pad=320:320:0:70", "pad=480:180:80:0", "pad=400:300:40:60"])
def test_16_to_9_in_bars_is_cut_as_without_them(bars: str, make_video: Make) -> None:
    plain, barred = (
        extract_features(make_video(size="320x180", seconds=8, sound=False, video=X264, filters=filters), DEMO).frames
        for filters in ("null", bars)
    )
    # The edge of a bar is known to half a small pixel. The middle at full height differs by 40 and more.
    assert np.abs(plain.astype(int) - barred).mean() < 4


PLANAR = ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuva420p", "gbrp", "gray"]
NOT_PLANAR = ["nv12", "grayf32le", "yuv410p", "yuyv422", "rgb24", "pal8", "monow"]


@pytest.mark.parametrize("pixel_format", [*PLANAR, *NOT_PLANAR])
@pytest.mark.parametrize(
    "size", [(1280, 720), (854, 480), (240, 136), (641, 359), (360, 640), (320, 240), (640, 361), (957, 401)]
)
def test_only_what_is_needed_is_scaled(size: tuple[int, int], pixel_format: str) -> None:
    """The square is that of the whole picture, scaled and then cut."""
    width, height = size
    rng = np.random.default_rng(0)
    coarse = av.VideoFrame.from_ndarray(rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8), format="rgb24")
    planar = "gray" if pixel_format == "pal8" else pixel_format  # swscale makes no palettes
    frame = coarse.reformat(width=width, height=height, format=planar, interpolation="BICUBIC")
    if pixel_format == "pal8":
        palette = rng.integers(0, 256, (256, 4), np.uint8)
        frame = av.VideoFrame.from_ndarray((frame.to_ndarray(), palette), format="pal8")
    reformatter = VideoReformatter()
    crop = plan_crop(Shape(width, height, 1.0), 224, Box())
    got = crop_frame(frame, crop, 224, reformatter)

    whole = frame.to_ndarray(width=crop.width, height=crop.height, format="rgb24", interpolation="BICUBIC", threads=1)
    expected = whole[crop.y : crop.y + 224, crop.x : crop.x + 224]
    off = np.abs(got.astype(int) - expected)
    assert off.mean() < (
        0.5 if pixel_format in PLANAR else 1e-9
    )  # a pixel off is 3 and more; a plane of colour off, 20
    assert off.max() < 12  # at the edges too


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("mirror", [(), ("-display_hflip",), ("-display_vflip",)])
def test_what_is_needed_of_a_turned_picture(
    rotation: int, mirror: tuple[str, ...], make_video: Make, ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    path = tmp_path / "turned.mp4"
    ffmpeg(
        *mirror, "-display_rotation", rotation, "-i", make_video(seconds=8, sound=False, video=X264), "-c", "copy", path
    )
    with av.open(path) as container:
        frame = next(container.decode(video=0))
    shown = shape_of(frame, 1.0)
    whole, part = (
        crop_frame(frame, Crop(shown.width, shown.height, x, y), size, VideoReformatter())
        for x, y, size in ((0, 0, 180), (20, 30, 100))
    )
    assert np.abs(part.astype(int) - whole[30:130, 20:120]).mean() < 0.5


@pytest.mark.parametrize("size", [32, 96, 224, 300, 1024])
@pytest.mark.parametrize("width", [16, 179, 426, 480, 1920])
@pytest.mark.parametrize("height", [16, 240, 1080])
@pytest.mark.parametrize("box", [Box(), Box(0.1, 0.2, 0.95, 0.7)])
def test_the_square_lies_in_the_box(size: int, width: int, height: int, box: Box) -> None:
    shape = Shape(width, height, 1.0)
    crop = plan_crop(shape, size, box)

    assert 0 <= crop.x <= crop.width - size
    assert 0 <= crop.y <= crop.height - size
    if not is_seed_shape(shape):
        assert crop.x >= int(box.left * crop.width) - 1
        assert crop.x + size <= box.right * crop.width + 1
        assert crop.y >= int(box.top * crop.height) - 1
        assert crop.y + size <= box.bottom * crop.height + 1


def test_the_seeds_numbers() -> None:
    assert plan_crop(Shape(640, 360, 1.0), 224, Box()) == Crop(560, 315, 168, 45)
