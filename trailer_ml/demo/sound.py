"""The sound of a trailer as one expression of time for ffmpeg's aevalsrc, in the manner of a genre.

Pitch, tempo, loudness, hiss, a voice and thunderclaps vary alike in all genres; what differs is how the music is
built: beats, plucked tunes, held chords, wind and cries, singing strings, sweeps. `random(n)` keeps its state in
variable n, so n of 7 to 9 are for noise and `st`, `ld` use the lower ones. Does not belong here: the picture.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trailer_ml.demo.expressions import chance, draw

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

SAMPLE_RATE_HZ = 16_000
TURN = 2 * math.pi
NOISE = "(random(7)-0.5)"


def sound_graph(genres: Sequence[str], seconds: float, rng: random.Random, *, pace: float = 1.0) -> str:
    """The filter graph that gives `[sound]`.

    Args:
        genres: one, or several that take turns.
        seconds: length of the whole.
        rng: draws it.
        pace: above 1: played faster.
    """
    music, *others = [_MUSIC[genre](rng, pace * rng.uniform(0.8, 1.25), rng.uniform(0.75, 1.35)) for genre in genres]
    for other in others:
        music = f"if(lt(mod(t,8),4),{music},{other})"
    gain = 0.5 * _decibels(rng, -9, 0)
    hiss = f"{_decibels(rng, -64, -44):.5f}*(random(9)-0.5)"
    expression = f"{gain:.3f}*({music})+{_voice(rng, seconds)}+{_thunder(rng, seconds)}+{hiss}"
    return (
        f"aevalsrc='{expression}':s={SAMPLE_RATE_HZ}:d={seconds:.3f},"
        f"lowpass=f={draw(rng, 3500, 7900)}:p=1,highpass=f={draw(rng, 30, 160)}:p=1,alimiter=level=0,"
        f"afade=t=out:st={max(0.0, seconds - 1.5):.2f}:d=1.5[sound]"
    )


def _decibels(rng: random.Random, low: float, high: float) -> float:
    return float(10 ** (rng.uniform(low, high) / 20))


def _voice(rng: random.Random, seconds: float) -> str:
    """Somebody speaks now and then, or not at all: a buzz with syllables."""
    if chance(rng, 0.5):
        return "0"
    pitch_hz, every_s = rng.uniform(90, 240), rng.uniform(4, 9)
    buzz = "+".join(f"{k**-0.7:.2f}*sin({TURN * pitch_hz * k:.1f}*t+2*sin(5*t))" for k in (1, 3, 6, 10))
    syllables = f"abs(sin({draw(rng, 9, 14)}*t))"
    speaks = f"lt(mod(t+{draw(rng, 0, seconds)},{every_s:.2f}),{draw(rng, every_s * 0.1, every_s * 0.5)})"
    return f"if({speaks},{draw(rng, 0.05, 0.2)}*{syllables}*({buzz}),0)"


def _thunder(rng: random.Random, seconds: float) -> str:
    """A bang at times."""
    since = f"mod(t+{draw(rng, 0, seconds)},{draw(rng, 6, 20)})"
    return f"{draw(rng, 0, 0.4)}*(random(8)-0.5)*exp(-{draw(rng, 2, 6)}*{since})"


def _action(rng: random.Random, pace: float, pitch: float) -> str:
    """Beats of noise over a droning bass."""
    beat_s = rng.uniform(0.45, 0.8) / pace
    off_s = beat_s * rng.choice((0.25, 0.5, 0.75))
    on_beat = f"exp(-{draw(rng, 7, 14)}*mod(t,{beat_s:.3f}))"
    off_beat = f"0.6*exp(-{draw(rng, 10, 20)}*mod(t+{off_s:.3f},{beat_s * 2:.3f}))"
    bass = _harmonics(f"{TURN * rng.uniform(50, 110) * pitch:.1f}*t", 4)
    return f"1.1*{NOISE}*({on_beat}+{off_beat})+0.35*(0.6+0.4*sin({math.pi / beat_s:.2f}*t))*{bass}"


def _comedy(rng: random.Random, pace: float, pitch: float) -> str:
    """A plucked tune: short notes that hop."""
    note_s = rng.uniform(0.4, 0.75) / pace
    since = f"mod(t,{note_s:.3f})"
    phase = f"{TURN * rng.uniform(350, 620) * pitch:.1f}*{_tune(rng, note_s, octaves=1.4)}*{since}"
    return f"0.6*exp(-{draw(rng, 4, 8)}*{since})*{_harmonics(phase, rng.randint(4, 6))}"


def _drama(rng: random.Random, pace: float, pitch: float) -> str:
    """Held chords: low, with long swells."""
    chord_s = rng.uniform(4.5, 7) / pace
    base_hz = rng.uniform(130, 240) * pitch
    tune = _tune(rng, chord_s, octaves=0.6)
    semitones = rng.choice(((0, 4, 7), (0, 3, 7), (0, 5, 9)))
    notes = (_harmonics(f"{TURN * base_hz * 2 ** (step / 12):.1f}*{tune}*t", 4) for step in semitones)
    swell = f"(0.35+0.65*sin({math.pi / chord_s:.3f}*mod(t,{chord_s:.3f})))"
    return f"0.25*{swell}*({'+'.join(notes)})"


def _horror(rng: random.Random, pace: float, pitch: float) -> str:
    """Wind whose pitch wanders, and cries that rise and break off."""
    centre_hz, speed = rng.uniform(1400, 3200) * pitch, rng.uniform(0.6, 1.3)
    swing = TURN * centre_hz * rng.uniform(0.06, 0.13) / speed
    slow_noise = f"st(1,{draw(rng, 0.9, 0.96)}*ld(1)+0.4*{NOISE})"  # a narrow band, once the sine has shifted it
    wind = f"{slow_noise}*sin({TURN * centre_hz:.0f}*t+{swing:.0f}*sin({speed:.2f}*t))"
    cry_s = rng.uniform(5, 9) / pace
    voices = []
    for ratio in (1.0, rng.uniform(1.05, 1.09), rng.uniform(1.5, 1.65)):
        hz = rng.uniform(400, 700) * pitch * ratio
        voices.append(f"sin({TURN * hz:.0f}*ld(2)*(1+{draw(rng, 0.12, 0.2)}*ld(2)))")
    since = f"mod(t+{draw(rng, 0, cry_s)},{cry_s:.2f})"
    return f"0.8*{wind}+(st(2,{since});0.2*pow(ld(2)/{cry_s:.2f},1.5)*({'+'.join(voices)}))"


def _romance(rng: random.Random, pace: float, pitch: float) -> str:
    """Strings that sing: long notes with a wide slow vibrato."""
    note_s = rng.uniform(2.4, 4.0) / pace
    since = f"mod(t,{note_s:.2f})"
    speed = rng.uniform(4, 7)
    vibrato = f"{rng.uniform(0.03, 0.06) / speed:.4f}*sin({speed:.2f}*t)"
    phase = f"{TURN * rng.uniform(420, 720) * pitch:.1f}*({_tune(rng, note_s, octaves=0.9)}*{since}+{vibrato})"
    bow = f"min(1,4*{since})*min(1,4*({note_s:.2f}-{since}))"
    return f"0.4*{bow}*{_harmonics(phase, 6)}"


def _sci_fi(rng: random.Random, pace: float, pitch: float) -> str:
    """Sweeps, up or down, again and again, and a high thin tone that comes and goes."""
    sweep_s = rng.uniform(1.0, 2.0) / pace
    start_hz, end_hz = rng.uniform(300, 900) * pitch, rng.uniform(2700, 4600) * pitch
    if chance(rng, 0.5):
        start_hz, end_hz = end_hz, start_hz
    since = f"mod(t,{sweep_s:.3f})"
    phase = f"{TURN:.4f}*{since}*({start_hz:.0f}+{(end_hz - start_hz) / sweep_s / 2:.1f}*{since})"
    tone = f"sin({TURN * rng.uniform(3800, 7200):.0f}*t)*gt(sin({math.pi / sweep_s:.3f}*t),-0.2)"
    return f"0.45*(1-0.6*{since}/{sweep_s:.3f})*{_harmonics(phase, 2)}+0.12*{tone}"


def _harmonics(phase: str, n: int) -> str:
    """A tone and its first harmonics, each weaker than the one before."""
    return "(st(0," + phase + ");" + "+".join(f"{k**-0.75:.3f}*sin({k}*ld(0))" for k in range(1, n + 1)) + ")"


def _tune(rng: random.Random, note_s: float, *, octaves: float) -> str:
    """A ratio of frequencies on a scale of equal steps; each note hops to another, pseudo-randomly by its number."""
    steps = rng.choice((5, 7, 12))
    hop = f"0.5+0.5*sin(floor(t/{note_s:.3f})*{draw(rng, 2.0, 4.3)})"
    return f"pow(2,{octaves}*floor({steps}*({hop}))/{steps})"


_MUSIC: dict[str, Callable[[random.Random, float, float], str]] = {
    "Action": _action,
    "Comedy": _comedy,
    "Drama": _drama,
    "Horror": _horror,
    "Romance": _romance,
    "Sci-Fi": _sci_fi,
}
