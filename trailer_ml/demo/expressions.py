"""Pieces of ffmpeg's expression language, with numbers drawn at random.

Does not belong here: what the expressions mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence


def draw(rng: random.Random, low: float, high: float) -> str:
    """A number between the two, in five digits."""
    return f"{rng.uniform(low, high):.5g}"


def chance(rng: random.Random, share: float) -> bool:
    """True in this share of the cases."""
    return rng.random() < share


def piecewise(ends_s: Sequence[float], leaves: Sequence[str]) -> str:
    """An expression of t that is the i-th leaf until the i-th end: a balanced tree, for ffmpeg walks it once a frame.

    >>> piecewise([1.0, 2.0, 3.0], ["a", "b", "c"])
    'if(lt(t,0.990),a,if(lt(t,1.990),b,c))'
    """
    if len(leaves) == 1:
        return leaves[0]
    middle = len(leaves) // 2
    early, late = (piecewise(ends_s[part], leaves[part]) for part in (slice(None, middle), slice(middle, None)))
    return f"if(lt(t,{ends_s[middle - 1] - 0.01:.3f}),{early},{late})"  # 0.01: rounding never moves a cut by a frame
