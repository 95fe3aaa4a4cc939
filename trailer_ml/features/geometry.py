"""From a decoded picture of any shape to a square of RGB.

A picture is judged and cut as it is shown: sample aspect ratio applied, turned and mirrored as its container asks.
16:9 gets the seed article's recipe, so that figures compare: scaled to 560 wide, 224 x 224 cut out at x=168, y=45 (all
in proportion to the size asked for), and so does 16:9 in black bars. Any other shape: the short side, black bars left
out, is scaled to the size, and the middle is cut out.

Does not belong here: which pictures, and decoding them.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from av.sidedata.sidedata import Type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av import VideoFrame
    from av.video.reformatter import VideoReformatter
    from numpy.typing import NDArray

SEED_SIZE = 224
SEED_WIDTH = 560
SEED_X = 168
SEED_Y = 45
_SEED_TOLERANCE = 0.01  # 854x480 and 426x240 are meant to be 16:9
_BOX_TOLERANCE = 0.02  # a bar's edge is known to half a small pixel; 1.85:1 is 4 % from 16:9
_LUMA_WIDTH = 160
_LIT = 24  # luma above which a pixel is not a black bar's; limited range has black at 16
_MIN_LIT_SHARE = 0.05
_MIN_BOX_SHARE = 0.3
_MIN_FRAMES_FOR_BARS = 3
_DARK_EDGE = 2  # so many small pixels are not a bar yet


class Shape(NamedTuple):
    """The pixels of a picture as it is shown, upright."""

    width: int
    height: int
    sample_aspect_ratio: float
    """Width of a pixel as shown, over its height."""


class Turn(NamedTuple):
    """From a stored picture to an upright one: rows and columns swapped or not, then mirrored."""

    swaps_axes: bool = False
    mirrors_x: bool = False
    mirrors_y: bool = False


class Box(NamedTuple):
    """The part of an upright picture that is not black bars, in shares of its width and height."""

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0


class Crop(NamedTuple):
    """Scale the picture to `width` x `height`, upright, then cut the square whose corner is at `x`, `y`."""

    width: int
    height: int
    x: int
    y: int


def shape_of(frame: VideoFrame, sample_aspect_ratio: float) -> Shape:
    """The shape in which a decoded picture is shown; `sample_aspect_ratio` is that of its stored pixels."""
    if turn_of(frame).swaps_axes:
        return Shape(frame.height, frame.width, 1 / sample_aspect_ratio)
    return Shape(frame.width, frame.height, sample_aspect_ratio)


def turn_of(frame: VideoFrame) -> Turn:
    """What the display matrix of a decoded picture asks for, to the nearest quarter turn.

    The angle alone would not do: a mirrored picture has that of one turned by 180 degrees.
    """
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return Turn()
    # (x, y) is shown at (a x + c y, b x + d y)
    a, b, _, c, d = struct.unpack_from("=5i", bytes(matrix))
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Turn(mirrors_x=a < 0, mirrors_y=d < 0)
    return Turn(swaps_axes=True, mirrors_x=c < 0, mirrors_y=b < 0)


def is_seed_shape(shape: Shape) -> bool:
    """Whether the seed article's recipe fits: shown as 16:9.

    >>> is_seed_shape(Shape(854, 480, 1.0)), is_seed_shape(Shape(480, 854, 1.0))
    (True, False)
    """
    shown = shape.width * shape.sample_aspect_ratio / shape.height
    return abs(shown / (16 / 9) - 1) < _SEED_TOLERANCE


def plan_crop(shape: Shape, size: int, box: Box) -> Crop:
    """How to get a square of `size` out of a picture.

    >>> plan_crop(Shape(1280, 720, 1.0), 224, Box())
    Crop(width=560, height=315, x=168, y=45)
    >>> plan_crop(Shape(360, 640, 1.0), 224, Box())
    Crop(width=224, height=398, x=0, y=87)
    """
    if is_seed_shape(shape):
        width = round(SEED_WIDTH * size / SEED_SIZE)
        height = max(size, math.floor(width * shape.height / (shape.width * shape.sample_aspect_ratio) + 0.5))
        return Crop(width, height, round(SEED_X * size / SEED_SIZE), min(SEED_Y * size // SEED_SIZE, height - size))
    across, down = box.right - box.left, box.bottom - box.top
    scale = size / min(across * shape.width * shape.sample_aspect_ratio, down * shape.height)
    if (width_in_bars := _seed_width_in_bars(shape, box)) is not None:
        scale = SEED_WIDTH * size / SEED_SIZE / width_in_bars  # its middle is what the recipe cuts out
    # Rounding may not leave the box narrower than the square, or a bar would show.
    width = max(round(shape.width * shape.sample_aspect_ratio * scale), math.ceil(size / across))
    height = max(round(shape.height * scale), math.ceil(size / down))
    return Crop(
        width,
        height,
        x=min(max(0, int((box.left + box.right) / 2 * width - size / 2)), width - size),
        y=min(max(0, int((box.top + box.bottom) / 2 * height - size / 2)), height - size),
    )


def crop_frame(frame: VideoFrame, crop: Crop, size: int, reformatter: VideoReformatter) -> NDArray[np.uint8]:
    """The square that `crop` describes, upright.

    Returns:
        (size, size, 3) uint8, RGB.
    """
    shown = _scale_upright(frame, crop.width, crop.height, reformatter, pixel_format="rgb24", interpolation="BICUBIC")
    return np.ascontiguousarray(shown[crop.y : crop.y + size, crop.x : crop.x + size])


def find_box(frames: Sequence[VideoFrame], reformatter: VideoReformatter) -> Box:
    """What is left of the picture without its black bars.

    A row or column is a bar if it is dark in every frame. Too few frames, or hardly anything lit: the whole picture.
    """
    if len(frames) < _MIN_FRAMES_FOR_BARS:
        return Box()
    height = _luma_height(shape_of(frames[0], 1.0))
    luma = [
        _scale_upright(frame, _LUMA_WIDTH, height, reformatter, pixel_format="gray", interpolation="AREA")[..., 0]
        for frame in frames
    ]
    brightest = np.maximum.reduce(luma)  # (h, w)
    if (brightest > _LIT).mean() < _MIN_LIT_SHARE:
        return Box()
    top, bottom = _lit_span(np.percentile(brightest, 95, axis=1))
    left, right = _lit_span(np.percentile(brightest, 95, axis=0))
    if (bottom - top) * (right - left) < _MIN_BOX_SHARE:
        return Box()
    return Box(left, top, right, bottom)


def _seed_width_in_bars(shape: Shape, box: Box) -> float | None:
    """How wide a 16:9 picture in bars is shown, in pixels of its height; None if it is of another shape.

    `_lit_span` leaves out one small pixel where a bar ends; half of it is the likeliest to be lit.
    """
    half_x, half_y = 0.5 / _LUMA_WIDTH, 0.5 / _luma_height(shape)
    across = box.right - box.left + half_x * ((box.left > 0) + (box.right < 1))
    down = box.bottom - box.top + half_y * ((box.top > 0) + (box.bottom < 1))
    width = across * shape.width * shape.sample_aspect_ratio
    return width if abs(width / (down * shape.height) / (16 / 9) - 1) < _BOX_TOLERANCE else None


def _luma_height(shape: Shape) -> int:
    return max(16, round(_LUMA_WIDTH * shape.height / shape.width))


def _scale_upright(
    frame: VideoFrame, width: int, height: int, reformatter: VideoReformatter, *, pixel_format: str, interpolation: str
) -> NDArray[np.uint8]:
    """(height, width, channels) uint8: what is shown, at this size."""
    turn = turn_of(frame)
    columns, rows = (height, width) if turn.swaps_axes else (width, height)
    scaled = reformatter.reformat(
        frame, width=columns, height=rows, format=pixel_format, interpolation=interpolation, threads=1
    )
    plane = scaled.planes[0]
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(rows, plane.line_size)
    channels = 3 if pixel_format == "rgb24" else 1
    pixels = lines[:, : columns * channels].reshape(rows, columns, channels)
    if turn.swaps_axes:
        pixels = pixels.swapaxes(0, 1)
    return pixels[:: -1 if turn.mirrors_y else 1, :: -1 if turn.mirrors_x else 1]


def _lit_span(profile: NDArray[np.float64]) -> tuple[float, float]:
    """First and last lit place of a profile in shares of its length, one place further in where there is a bar."""
    lit = np.flatnonzero(profile > _LIT)
    if not lit.size:
        return 0.0, 1.0
    n, first, end = len(profile), int(lit[0]), int(lit[-1]) + 1
    if first + (n - end) <= _DARK_EDGE:
        return 0.0, 1.0
    return (first + 1) / n if first else 0.0, (end - 1) / n if end < n else 1.0
