"""Records as a person reads them in a terminal.

Does not belong here: printing.
"""

from __future__ import annotations

import itertools
import json
from functools import singledispatch
from typing import Any

from trailer_ml.records import (
    BatchRef,
    Check,
    DuplicateEvidence,
    DuplicateGroup,
    Neighbour,
    Record,
    SourceTerms,
    Status,
    VideoMatch,
)


class Text(Record):
    """What has its form already."""

    text: str


@singledispatch
def as_text(record: Record) -> str:
    """A record as one line or a few; one that has no form of its own as its fields."""
    return "  ".join(f"{name}={_brief(value)}" for name, value in record.to_json().items())


@as_text.register
def _text(record: Text) -> str:
    return record.text


@as_text.register
def _neighbour(record: Neighbour) -> str:
    genres = ", ".join(record.genres)
    also = f"  (also {', '.join(record.also)})" if record.also else ""
    return (
        f"{record.score:6.3f}  picture {record.video_share:6.3f}  sound {record.audio_share:6.3f}  "
        f"{record.trailer_id:<20}  {record.title} [{genres}]{also}"
    )


@as_text.register
def _match(record: VideoMatch) -> str:
    return "\n".join([record.video, *map(as_text, record.neighbours)])


@as_text.register
def _check(record: Check) -> str:
    fix = f"; fix: {record.fix}" if record.fix else ""
    return f"{'ok   ' if record.is_ok else 'wrong'}  {record.name:<10}  {record.detail}{fix}"


@as_text.register
def _source(record: SourceTerms) -> str:
    marks = ["asked"] * record.is_asked + ["its terms have to be accepted"] * (not record.is_allowed)
    return f"{record.name:<14} {', '.join(marks)}".rstrip() + f"\n    {record.terms}"


@as_text.register
def _duplicates(record: DuplicateGroup) -> str:
    titles = {trailer.trailer_id: f"{trailer.title} ({trailer.kind})" for trailer in record.trailers}
    lines = []
    for (a, b, score), evidence in itertools.zip_longest(record.pairs, record.evidence):
        lines.append(f"{score:6.3f}  {a}  {titles[a]}  =  {b}  {titles[b]}")
        if evidence:
            lines.append(f"        {_explain(evidence)}")
    return "\n".join(lines)


def _explain(evidence: DuplicateEvidence) -> str:
    if not evidence.is_confirmed:
        return "their frames could not be read: by the score alone"
    frames = [f"{pair.one_s:.1f} s = {pair.other_s:.1f} s ({pair.likeness:.2f})" for pair in evidence.frames]
    sound = [] if evidence.sound is None else [f"sound {evidence.sound:.2f}"]
    return "; ".join([*frames, *sound])


@as_text.register
def _status(record: Status) -> str:
    lines = [f"{number:8d}  {name}" for name, number in record.states.items()]
    lines.append(f"{record.n_listed:8d}  listed in the catalog = the sum of the states")
    for title, counts in (("rejected or waiting", record.reasons), ("titles set aside", record.titles_set_aside)):
        lines += [f"{number:8d}  {title}: {reason}" for reason, number in counts.items()]
    lines += [f"blocked   {source}: {why}" for source, why in record.blocked.items()]
    for kind, n in record.stored_trailers.items():
        if n:
            lines.append(f"stored    {kind}: {record.stored_bytes[kind] / n / 1e6:.2f} MB a trailer, {n} trailers")
    map_at_k = record.model_figures.get("map_at_k")
    lines.append(f"champion  {record.champion or 'none yet'}" + ("" if map_at_k is None else f", mAP {map_at_k:.3f}"))
    recall = "" if record.index_recall_at_10 is None else f", recall@10 {record.index_recall_at_10:.3f}"
    since = f", published {record.index_published_at:%Y-%m-%d %H:%M} UTC" if record.index_published_at else ""
    lines.append(f"index     {record.index_version or 'none yet'}{recall}{since}")
    return "\n".join(lines)


def _brief(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"listed_on", "number"}:
        return BatchRef.model_validate(value).path
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
