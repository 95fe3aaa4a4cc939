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
    from av.video.plane import VideoPlane
    from av.video.reformatter import VideoReformatter
    from numpy.typing import NDArray

SEED_SIZE = 224
SEED_WIDTH = 560
SEED_X = 168
SEED_Y = 45
_MAX_ASPECT = 10.0  # of a pixel
_SEED_TOLERANCE = 0.01  # 854x480 and 426x240 are meant to be 16:9
_BOX_TOLERANCE = 0.02  # a bar's edge is known to half a small pixel; 1.85:1 is 4 % from 16:9
_LUMA_WIDTH = 160
_LIT = 24  # luma above which a pixel is not a black bar's; limited range has black at 16
_MIN_LIT_SHARE = 0.05
_MIN_BOX_SHARE = 0.3
_MIN_FRAMES_FOR_BARS = 3
_DARK_EDGE = 2  # so many small pixels are not a bar yet
_MARGIN = 4  # scaling looks at two pixels to either side, larger or smaller ones, and of colour at twice as many
_MEETING_TOLERANCE = 1 / 16  # of a stored pixel
_ONE_BYTE, _TWO_BYTES = 8, 16


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


class _Span(NamedTuple):
    """A part of one side of a picture, in pixels as stored, and the same part once it is scaled."""

    start: int
    stop: int
    scaled_start: int
    scaled_stop: int


def shape_of(frame: VideoFrame, sample_aspect_ratio: float) -> Shape:
    """The shape in which a decoded picture is shown; `sample_aspect_ratio` is that of its stored pixels.

    One that no film has is a forged or damaged header's, and counts as 1.
    """
    if not 1 / _MAX_ASPECT <= sample_aspect_ratio <= _MAX_ASPECT:
        sample_aspect_ratio = 1.0
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
    """The square that `crop` describes, upright; no more of the picture is scaled than it is made from.

    Returns:
        (size, size, 3) uint8, RGB.
    """
    turn = turn_of(frame)
    x = crop.width - crop.x - size if turn.mirrors_x else crop.x
    y = crop.height - crop.y - size if turn.mirrors_y else crop.y
    columns, rows = crop.width, crop.height
    if turn.swaps_axes:
        x, y, columns, rows = y, x, rows, columns
    # Neighbours share their colour, and where the last pixel has no neighbour, all colour is a little off.
    across = _plan_span(frame.width, columns, x, columns - x if columns % 2 else size)
    down = _plan_span(frame.height, rows, y, size)
    if _is_planar(frame):
        frame = _cut_out(frame, across, down)
    else:
        across, down = _Span(0, frame.width, 0, columns), _Span(0, frame.height, 0, rows)
    n_columns, n_rows = across.scaled_stop - across.scaled_start, down.scaled_stop - down.scaled_start
    scaled = _scale(frame, n_columns, n_rows, reformatter, pixel_format="rgb24", interpolation="BICUBIC")
    x, y = x - across.scaled_start, y - down.scaled_start
    return np.ascontiguousarray(_turn_upright(scaled[y : y + size, x : x + size], turn))


def find_box(frames: Sequence[VideoFrame], reformatter: VideoReformatter) -> Box:
    """What is left of the picture without its black bars.

    A row or column is a bar if it is dark in every frame. Too few frames, or hardly anything lit: the whole picture.
    """
    if len(frames) < _MIN_FRAMES_FOR_BARS:
        return Box()
    height = _luma_height(shape_of(frames[0], 1.0))
    luma = [_show_luma(frame, height, reformatter) for frame in frames]
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


def _show_luma(frame: VideoFrame, height: int, reformatter: VideoReformatter) -> NDArray[np.uint8]:
    """(height, _LUMA_WIDTH) uint8: how bright a picture is, upright."""
    turn = turn_of(frame)
    columns, rows = (height, _LUMA_WIDTH) if turn.swaps_axes else (_LUMA_WIDTH, height)
    return _turn_upright(
        _scale(frame, columns, rows, reformatter, pixel_format="gray", interpolation="AREA")[..., 0], turn
    )


def _turn_upright(pixels: NDArray[np.uint8], turn: Turn) -> NDArray[np.uint8]:
    """(rows, columns, ...) as stored to what is shown."""
    if turn.swaps_axes:
        pixels = pixels.swapaxes(0, 1)
    return pixels[:: -1 if turn.mirrors_y else 1, :: -1 if turn.mirrors_x else 1]


def _plan_span(n: int, scaled_n: int, first: int, size: int) -> _Span:
    """What is needed of a side of `n` pixels for `size` of the `scaled_n` that it is scaled to, from `first` on.

    It ends at the picture's edge or where pixels before and after scaling meet, an even number of both.

    >>> _plan_span(1280, 560, 168, 224)
    _Span(start=352, stop=928, scaled_start=154, scaled_stop=406)
    >>> _plan_span(800, 224, 0, 224)
    _Span(start=0, stop=800, scaled_start=0, scaled_stop=224)
    """
    scale = n / scaled_n
    margin = math.ceil(_MARGIN * max(1.0, 1 / scale))

    def meets(scaled: int) -> bool:
        return abs(scaled * scale - 2 * round(scaled * scale / 2)) < _MEETING_TOLERANCE

    before = range((first - margin) // 2 * 2, 0, -2)
    after = range((first + size + margin + 1) // 2 * 2, scaled_n, 2)
    scaled_start, scaled_stop = next(filter(meets, before), 0), next(filter(meets, after), scaled_n)
    stop = n if scaled_stop == scaled_n else 2 * round(scaled_stop * scale / 2)
    return _Span(2 * round(scaled_start * scale / 2), stop, scaled_start, scaled_stop)


def _is_planar(frame: VideoFrame) -> bool:
    """Whether each component has a plane of its own, as large or half as large, with one or two bytes a sample."""
    components = frame.format.components
    return (
        len(frame.planes) == len(components)
        and all(component.bits <= _TWO_BYTES for component in components)
        and all(plane.width in (frame.width, frame.width / 2) for plane in frame.planes)
        and all(plane.height in (frame.height, frame.height / 2) for plane in frame.planes)
        and all(plane.line_size >= plane.width for plane in frame.planes)  # else bits, or upside down
    )


def _cut_out(frame: VideoFrame, across: _Span, down: _Span) -> VideoFrame:
    """A part of a planar picture; it does not say where colour lies between its pixels, as in ffmpeg's own program."""
    part = type(frame)(across.stop - across.start, down.stop - down.start, frame.format.name)
    part.colorspace, part.color_range = frame.colorspace, frame.color_range
    for component, source, target in zip(frame.format.components, frame.planes, part.planes, strict=True):
        n_bytes = 1 if component.bits <= _ONE_BYTE else 2
        x = across.start // (1 if source.width == frame.width else 2) * n_bytes
        y = down.start // (1 if source.height == frame.height else 2)
        _lines(target)[:, : target.width * n_bytes] = _lines(source)[
            y : y + target.height, x : x + target.width * n_bytes
        ]
    return part


def _scale(
    frame: VideoFrame, columns: int, rows: int, reformatter: VideoReformatter, *, pixel_format: str, interpolation: str
) -> NDArray[np.uint8]:
    """(rows, columns, channels) uint8, as stored."""
    scaled = reformatter.reformat(
        frame, width=columns, height=rows, format=pixel_format, interpolation=interpolation, threads=1
    )
    channels = 3 if pixel_format == "rgb24" else 1
    return _lines(scaled.planes[0])[:, : columns * channels].reshape(rows, columns, channels)


def _lines(plane: VideoPlane) -> NDArray[np.uint8]:
    """(height, bytes of a line) uint8: a plane as it lies in memory."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)


def _lit_span(profile: NDArray[np.float64]) -> tuple[float, float]:
    """First and last lit place of a profile in shares of its length, one place further in where there is a bar."""
    lit = np.flatnonzero(profile > _LIT)
    if not lit.size:
        return 0.0, 1.0
    n, first, end = len(profile), int(lit[0]), int(lit[-1]) + 1
    if first + (n - end) <= _DARK_EDGE:
        return 0.0, 1.0
    return (first + 1) / n if first else 0.0, (end - 1) / n if end < n else 1.0
