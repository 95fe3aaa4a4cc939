"""The scenes that a film is made of: one still picture each, as an ffmpeg expression of X and Y that gives 0 to 255.

Each genre has its own kind of structure: facets, dots, hills over water, bare trees, soft lights, lattices.
Does not belong here: colour, light and movement, which picture.py adds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trailer_ml.demo.expressions import chance, draw

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

WIDTH, HEIGHT = 256, 144
"""Pixels a scene is drawn at, half of what it costs at full size; picture.py enlarges it."""
TURN = 2 * math.pi


def draw_scene(genre: str, rng: random.Random) -> str:
    """A scene of this genre."""
    return f"clip({_SCENES[genre](rng)},0,255)"


def draw_card(rng: random.Random) -> str:
    """A title card: lines of something like writing on a plain ground. It belongs to no genre."""
    ground, ink = rng.choice(((15, 225), (235, 30), (60, 200), (120, 245)))
    size, n_lines = rng.randint(6, 12), rng.randint(1, 3)
    top, left = HEIGHT // 2 - n_lines * size, rng.randint(55, 92)
    is_inside = f"between(Y,{top},{top + 2 * size * n_lines})*between(X,{left},{WIDTH - left})"
    is_line = f"lt(mod(Y-{top},{2 * size}),{size})"
    is_word = f"gt(sin(X*{draw(rng, 0.2, 0.5)}+floor(Y/{2 * size})*2),-0.6)"
    return f"if({is_inside}*{is_line}*{is_word},{ink},{ground})"


def _action(rng: random.Random) -> str:
    """Facets and streaks: hard diagonal edges, one set broad, two narrow."""
    terms = [draw(rng, 0, 30)]
    lean = rng.choice((1, -1))
    for low_px, high_px, strength in ((40, 80, 55), (14, 24, 65), (7, 12, 70)):
        angle = math.radians(lean * rng.uniform(25, 65))
        wave = TURN / rng.uniform(low_px, high_px)
        across = f"X*{math.cos(angle) * wave:.4f}+Y*{math.sin(angle) * wave:.4f}+{draw(rng, 0, TURN)}"
        terms.append(f"{draw(rng, strength - 15, strength + 20)}*gt(sin({across}),{draw(rng, -0.3, 0.5)})")
        lean *= rng.choice((1, 1, -1))
    return "+".join(terms)


def _comedy(rng: random.Random) -> str:
    """Dots: sharp round shapes on flat colour, of one size or several, some with an eye."""
    pitch = rng.uniform(30, 54)
    row, column = f"floor(Y/{pitch:.2f})", f"floor(X/{pitch:.2f})"
    shift = f"{rng.choice((0.0, 0.5)) * pitch:.1f}*mod({row},2)+{draw(rng, 0, pitch)}"
    across, down = (f"mod({value},{pitch:.2f})-{pitch / 2:.2f}" for value in (f"X+{shift}", "Y"))
    radius = f"{draw(rng, pitch * 0.24, pitch * 0.42)}*(0.8+0.2*sin({column}*{draw(rng, 0, 3)}+{row}*2.1))"
    ground, dot = rng.uniform(50, 110), rng.uniform(160, 245)
    eye = f"+40*lt(ld(0),{pitch * 0.13:.2f})" if chance(rng, 0.4) else ""
    return f"(st(0,hypot({across},{down}));{ground:.0f}+{dot - ground:.0f}*clip({radius}-ld(0)+0.5,0,1){eye})"


def _drama(rng: random.Random) -> str:
    """Hills behind each other under a soft sky, and water in front of them."""
    tone = rng.uniform(150, 230)
    steps = [f"st(0,{tone:.0f}-Y*{draw(rng, 0.1, 0.4)})"]
    for layer in range(2):
        tone -= rng.uniform(25, 50)
        line = HEIGHT * (0.22 + 0.14 * layer) + rng.uniform(-6, 6)
        ridge = f"{line:.0f}+{_wave(rng, 'X', (6, 14), (20, 50))}+{_wave(rng, 'X', (1, 4), (6, 14))}"
        steps.append(f"st(0,ld(0)+({tone:.0f}-ld(0))*clip(Y-({ridge}),0,1))")
    shore = f"{HEIGHT * rng.uniform(0.48, 0.58):.0f}"
    ripples = f"{draw(rng, 30, 60)}*sin((Y-{shore})*{draw(rng, 1.0, 1.6)}+2*sin(X/{draw(rng, 15, 35)}))"
    steps.append(f"if(lt(Y,{shore}),ld(0),{draw(rng, 90, 170)}+{ripples})")
    return f"({';'.join(steps)})"


def _horror(rng: random.Random) -> str:
    """Bare trees in fog: crooked upright lines, some thick, some thin."""
    trees = []
    for low_px, high_px in ((1.6, 2.6), (0.8, 1.4)):
        pitch = rng.uniform(7, 13)
        bend = f"{_wave(rng, 'Y', (0.5, 1.2), (14, 30))}+{draw(rng, 0.2, 0.5)}*sin(Y/{draw(rng, 4, 9)}+X/40)"
        sharpness = 1.2 * pitch / rng.uniform(low_px, high_px)
        trees.append(f"clip(1.6-abs(sin(X/{pitch:.2f}+{bend}))*{sharpness:.2f},0,1)")
    fog = f"{draw(rng, 90, 170)}+{_wave(rng, 'Y', (20, 60), (30, 60))}"
    return f"({fog})*(1-{draw(rng, 0.7, 0.95)}*max({trees[0]},{trees[1]}))"


def _romance(rng: random.Random) -> str:
    """Lights out of focus: large soft blobs of several sizes."""
    terms = [draw(rng, 10, 50)]
    for _ in range(3):
        across, down = (
            f"sin({one}/{draw(rng, 12, 30)}+sin({other}/{draw(rng, 20, 45)})+{draw(rng, 0, TURN)})"
            for one, other in ("XY", "YX")
        )
        terms.append(f"{draw(rng, 40, 90)}*pow(0.5+0.5*{across}*{down},2)")
    return "+".join(terms)


def _sci_fi(rng: random.Random) -> str:
    """Lattices: thin light lines on a dark ground, as a grid, as rings or as a floor and a ceiling."""
    ground, line = rng.uniform(20, 70), rng.uniform(170, 245)
    pitch, width = rng.uniform(13, 28), rng.uniform(1.6, 2.8)
    match rng.choice(("grid", "rings", "floor")):
        case "grid":
            one = f"lt(mod(X,{pitch:.1f}),{width:.1f})"
            other = f"lt(mod(Y,{draw(rng, pitch * 0.6, pitch * 1.4)}),{width:.1f})"
        case "rings":
            centre_x, centre_y = draw(rng, WIDTH * 0.25, WIDTH * 0.75), draw(rng, HEIGHT * 0.25, HEIGHT * 0.75)
            one = f"lt(mod(hypot(X-{centre_x},Y-{centre_y}),{pitch:.1f}),{width:.1f})"
            other = f"lt(mod(Y,{pitch * 2:.1f}),{width:.1f})"
        case _:
            depth = f"(abs(Y-{draw(rng, HEIGHT * 0.4, HEIGHT * 0.6)})+8)"
            across = f"(X-{draw(rng, WIDTH * 0.35, WIDTH * 0.65)})*60/{depth}+1000"
            one = f"lt(mod({across},{pitch * 1.6:.1f}),{width * 60:.0f}/{depth})"
            other = f"lt(mod(1400/{depth},{pitch * 0.35:.1f}),{width * 0.45:.2f})"
    return f"{ground:.0f}+{line - ground:.0f}*max({one},{other})"


def _wave(rng: random.Random, axis: str, height: tuple[float, float], length_px: tuple[float, float]) -> str:
    return f"{draw(rng, *height)}*sin({axis}/{draw(rng, *length_px)}+{draw(rng, 0, TURN)})"


_SCENES: dict[str, Callable[[random.Random], str]] = {
    "Action": _action,
    "Comedy": _comedy,
    "Drama": _drama,
    "Horror": _horror,
    "Romance": _romance,
    "Sci-Fi": _sci_fi,
}
