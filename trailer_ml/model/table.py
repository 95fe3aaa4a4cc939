"""The figures of a model side by side, as a person reads them in a terminal.

Does not belong here: measuring (evaluate.py), and the page (page.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trailer_ml.model.alterations import CHANGES
from trailer_ml.model.near_duplicates import ALL
from trailer_ml.model.page import MODELS
from trailer_ml.model.retrieval import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trailer_ml.model.card import ModelCard
    from trailer_ml.records import CopyFigures, Estimate, Evaluation

_LABELS = {"map": "mAP", "ndcg": "nDCG"}


def describe_evaluation(evaluation: Evaluation, card: ModelCard, page: str) -> str:
    """Two tables, retrieval and near-duplicates, and where the page is.

    Args:
        evaluation: what was measured last; its champion may be a later one than the card's.
        card: all figures of the model.
        page: the address of its page.
    """
    models = {name: words for name, words in MODELS.items() if name in card.figures}
    lines = [f"model {evaluation.version}: {evaluation.n_queries} held-out trailers asked, 95 % intervals over films"]
    if models:
        lines += ["", *_retrieval_table(card, models, evaluation.k)]
    if any(card.figures[name].copies for name in models):
        lines += ["", *_copies_table(card, models)]
    elif evaluation.copies is None:
        lines += [
            "",
            "no near-duplicates: no media of held-out trailers are kept, or they would be seen otherwise now",
        ]
    if evaluation.champion:
        lines += ["", f"beside the champion {evaluation.champion}: {_beside_champion(evaluation)}"]
    return "\n".join([*lines, "", f"page  {page}"])


def _retrieval_table(card: ModelCard, models: dict[str, str], k: int) -> list[str]:
    rows = [["", *(f"{_LABELS.get(metric, metric)}@{k}" for metric in METRICS)]]
    for name, words in models.items():
        rows.append([words, *(_interval(card.figures[name].retrieval[metric]) for metric in METRICS)])
    return _align(rows)


def _copies_table(card: ModelCard, models: dict[str, str]) -> list[str]:
    """Recall@1 by change."""
    rows = [["near-duplicates", "copies", *models.values()]]
    for change in (*CHANGES, ALL):
        found = {name: card.figures[name].copies.get(change) for name in models}
        if any(found.values()):
            n = next(copies.n for copies in found.values() if copies)
            rows.append([change, str(n), *(_recall(copies) for copies in found.values())])
    return _align(rows)


def _beside_champion(evaluation: Evaluation) -> str:
    theirs = evaluation.champion_map_at_k
    if theirs is None:
        return "it cannot be compared"
    told = f"mAP@{evaluation.k} {evaluation.map_at_k:.3f}, its {theirs:.3f}"
    gain = evaluation.champion_gain
    return f"{told}, {gain.value:+.3f}{_range(gain, '+')}" if gain else told


def _recall(copies: CopyFigures | None) -> str:
    return _interval(copies.recall_at_1) if copies else ""


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.3f}{_range(estimate)}"


def _range(estimate: Estimate, sign: str = "") -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    joint = " to " if sign else "-"
    return f" ({estimate.low:{sign}.3f}{joint}{estimate.high:{sign}.3f})"


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns, as wide as what is in them."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
