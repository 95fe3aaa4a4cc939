"""The picture of a trailer as one ffmpeg filter graph: scenes side by side in one large still, and a camera over it.

A still costs nothing to repeat, and a crop whose corner is an expression of time makes every cut and every movement:
so a trailer of half a minute takes half a second. Does not belong here: what the scenes show (scenes.py) and when
(timeline.py).
"""

from __future__ import annotations

import colorsys
import math
from typing import TYPE_CHECKING, NamedTuple

from trailer_ml.demo.expressions import chance, draw, piecewise
from trailer_ml.demo.grammar import GRAMMARS
from trailer_ml.demo.scenes import HEIGHT, WIDTH, draw_card, draw_scene
from trailer_ml.demo.timeline import FPS, times_of

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from trailer_ml.demo.grammar import Look
    from trailer_ml.demo.timeline import Shot

TILE_WIDTH, TILE_HEIGHT = 480, 270
"""Pixels of one scene in the large still."""
VIEW_WIDTH, VIEW_HEIGHT = 320, 200
"""The camera sees no more than this of it, which leaves it room to move."""
SCENES_PER_FILM = 5


class Scene(NamedTuple):
    """A filter chain without input that gives one still of TILE_WIDTH x TILE_HEIGHT."""

    chain: str
    genre: str | None
    """None: it belongs to none."""


def draw_scenes(genres: Sequence[str], look: Look, rng: random.Random) -> list[Scene]:
    """A film's scenes: some of each of its genres, a sky and, last, a title card."""
    n_each = math.ceil(SCENES_PER_FILM / len(genres))
    own = [Scene(_still(draw_scene(genre, rng), _palette(look, rng)), genre) for genre in genres for _ in range(n_each)]
    colours = ":".join(f"c{i}={_colour(rng)}" for i in range(3))
    kind = rng.choice(("linear", "radial", "spiral"))
    sky = f"gradients=s={TILE_WIDTH}x{TILE_HEIGHT}:r={FPS}:n=3:{colours}:seed={rng.randint(0, 10**6)}:type={kind}"
    card = _still(draw_card(rng), _palette(look, rng))
    return [*own, Scene(f"{sky},trim=end_frame=1", None), Scene(card, None)]


def picture_graph(
    scenes: Sequence[Scene],
    shots: Sequence[Shot],
    look: Look,
    size: tuple[int, int],
    rng: random.Random,
    *,
    overlays: Sequence[str] = (),
) -> str:
    """The filter graph that gives `[picture]`.

    Args:
        scenes: what the shots point to.
        shots: the timeline.
        look: the film's.
        size: width and height of the result.
        rng: draws what differs between two trailers of one film.
        overlays: filters that draw over everything.
    """
    view = _view(size)
    camera = _camera(shots, view, rng)
    n_blended = rng.randint(*GRAMMARS[shots[0].genre].dissolve_frames)
    gamma, grain_seed = draw(rng, 0.85, 1.2), rng.randint(0, 10**6)
    tone = f"contrast={look.contrast:.2f}:saturation={look.saturation:.2f}:gamma={gamma}"
    steps = [
        f"hstack=inputs={len(scenes)}",
        "format=yuv420p",
        "loop=-1:1",
        f"setpts=N/{FPS}/TB",
        f"crop=w={view[0]}:h={view[1]}:x='{camera.x}':y='{camera.y}'",
        f"scale={size[0]}:{size[1]}",
        "setsar=1",
        f"tmix=frames={n_blended}" if n_blended > 1 else "null",
        f"hue=h='{camera.hue_deg}'",
        f"eq={tone}:brightness='{look.light:.2f}+{camera.light}':eval=frame",
        *look.overlays,
        f"noise=alls={look.grain:.0f}:allf=t:all_seed={grain_seed}",
        *overlays,
        f"trim=end_frame={round(times_of(shots)[-1][1] * FPS)}",
    ]
    stills = ";".join(f"{scene.chain}[s{i}]" for i, scene in enumerate(scenes))
    inputs = "".join(f"[s{i}]" for i in range(len(scenes)))
    return f"{stills};{inputs}{','.join(steps)}[picture]"


def spot_overlays(seconds: float, rng: random.Random) -> list[str]:
    """What makes a commercial of a trailer: a coloured frame all through, and the pack it sells at the end."""
    when = f"enable='gte(t,{seconds * 0.7:.2f})'"
    return [
        f"drawbox=t=9:color={_colour(rng)}",
        f"drawbox=x=iw*0.36:y=ih*0.2:w=iw*0.28:h=ih*0.62:t=fill:color=white:{when}",
        f"drawbox=x=iw*0.39:y=ih*0.34:w=iw*0.22:h=ih*0.3:t=fill:color={_colour(rng)}:{when}",
    ]


class _Camera(NamedTuple):
    """Expressions of t: the corner of what is seen, in pixels of the large still, and how it is lit."""

    x: str
    y: str
    hue_deg: str
    light: str


def _camera(shots: Sequence[Shot], view: tuple[int, int], rng: random.Random) -> _Camera:
    room_x, room_y = TILE_WIDTH - view[0], TILE_HEIGHT - view[1]
    leaves = []
    for shot, (start_s, _) in zip(shots, times_of(shots), strict=True):
        grammar = GRAMMARS[shot.genre]
        since = f"(t-{start_s:.3f})"
        sway = f"{draw(rng, *grammar.sway_px)}*sin({2 * math.pi * rng.uniform(*grammar.sway_hz):.2f}*t)"
        across = f"clip({shot.left * room_x:.0f}+{shot.pan_px_s[0]:.1f}*{since},0,{room_x})"
        leaves.append(
            _Camera(
                x=f"{shot.scene * TILE_WIDTH}+{across}",
                y=f"{shot.top * room_y:.0f}+{shot.pan_px_s[1]:.1f}*{since}+{sway}",
                hue_deg=f"{shot.hue_deg:.0f}",
                light=f"{shot.light:.3f}+{shot.flash:.2f}*exp(-6*{since})",
            )
        )
    ends_s = [end_s for _, end_s in times_of(shots)]
    return _Camera(*(piecewise(ends_s, column) for column in zip(*leaves, strict=True)))


def _view(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of what the camera sees: the shape of the result, in even numbers."""
    scale = min(1.0, VIEW_WIDTH / size[0], VIEW_HEIGHT / size[1])
    return round(size[0] * scale / 2) * 2, round(size[1] * scale / 2) * 2


def _still(grey: str, palette: str) -> str:
    drawn = f"color=s={WIDTH}x{HEIGHT}:r={FPS},trim=end_frame=1,format=gray,geq=lum='{grey}'"
    return f"{drawn},scale={TILE_WIDTH}:{TILE_HEIGHT},format=gbrp,{palette}"


def _palette(look: Look, rng: random.Random) -> str:
    """Three colours for dark, middle and light, near the film's hue, one in ten across from it."""
    points: dict[str, list[str]] = {"r": [], "g": [], "b": []}
    for grey, low, high in ((0.0, 0.0, 0.2), (0.5, 0.35, 0.65), (1.0, 0.75, 1.0)):
        hue_deg = look.hue_deg + rng.gauss(0, 22) + 180 * chance(rng, 0.1)
        colour = colorsys.hsv_to_rgb(hue_deg / 360 % 1, rng.uniform(0.1, 0.6), rng.uniform(low, high))
        for channel, level in zip("rgb", colour, strict=True):
            points[channel].append(f"{grey}/{level:.2f}")
    return "curves=" + ":".join(f"{channel}='{' '.join(levels)}'" for channel, levels in points.items())


def _colour(rng: random.Random) -> str:
    return f"0x{rng.getrandbits(24):06x}"
