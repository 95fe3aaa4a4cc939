"""Scores in words, for people who have to decide by them.

Does not belong here: computing scores.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trailer_ml.records import Neighbour

_ONE_SIDED = 0.6  # the part of a score from which on it is mostly picture or mostly sound
_WEAK = 0.2  # scores below this say little


def explain_answer(answer: Neighbour) -> str:
    """Where a score comes from: `mostly sound: 0.41 of 0.60`."""
    if answer.score < _WEAK:
        return f"hardly alike: {answer.score:.2f} of 1"
    side, share = _leading_share(answer.video_share, answer.audio_share)
    if share < _ONE_SIDED * answer.score:
        return f"picture and sound alike: {answer.video_share:.2f} and {answer.audio_share:.2f}"
    return f"mostly {side}: {share:.2f} of {answer.score:.2f}"


def explain_answers(answers: Sequence[Neighbour]) -> str:
    """What the answers have in common: where their scores come from, and the genre that most of them have."""
    if not answers:
        return "nothing to compare with"
    video = sum(answer.video_share for answer in answers)
    audio = sum(answer.audio_share for answer in answers)
    side, share = _leading_share(video, audio)
    words = f"mostly {side}" if share >= _ONE_SIDED * (video + audio) else "picture and sound alike"
    genre, n = _commonest_genre(answers)
    return f"{words}; {n} of {len(answers)} are {genre}" if genre else words


def mix_genres(answers: Sequence[Neighbour]) -> dict[str, float]:
    """The share of the answers that has each genre, largest first."""
    counts = Counter(genre for answer in answers for genre in answer.genres)
    return {genre: counts[genre] / len(answers) for genre in sorted(counts, key=lambda genre: (-counts[genre], genre))}


def _leading_share(video: float, audio: float) -> tuple[str, float]:
    return ("sound", audio) if audio > video else ("picture", video)


def _commonest_genre(answers: Sequence[Neighbour]) -> tuple[str, int]:
    """The genre that most answers have, of equals the first in the alphabet; nothing where there is none."""
    counts = Counter(genre for answer in answers for genre in answer.genres)
    genre = min(counts, key=lambda genre: (-counts[genre], genre), default="")
    return genre, counts[genre]
