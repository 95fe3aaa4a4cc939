"""Which model is in use, whether a new one takes its place, and opening one.

Does not belong here: measuring a model (evaluate.py). Only `load_encoder` loads Keras.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from trailer_ml.errors import MissingObjectError, ModelMismatchError, NoModelError
from trailer_ml.model.card import read_card
from trailer_ml.model.copies import keep_newest
from trailer_ml.records import Promotion
from trailer_ml.settings import ModelSettings
from trailer_ml.storage import CHAMPION_KEY, model_key, sha256_of_file

if TYPE_CHECKING:
    from pathlib import Path

    from trailer_ml.model.encoder import Encoder
    from trailer_ml.records import Estimate, Evaluation
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store, Versioned

logger = logging.getLogger(__name__)

_N_PREVIOUS = 10
"""So many champions can be gone back to."""


def read_champion(store: Store) -> str | None:
    """The version in use; None where none has been promoted yet."""
    pointer = store.read_pointer(CHAMPION_KEY)
    return str(pointer.value["version"]) if pointer else None


def promote_model(evaluation: Evaluation, settings: Settings, store: Store, *, is_forced: bool = False) -> Promotion:
    """Put a model into use if it is better than the one that is.

    Only a comparison with the model that is in use now counts: an old evaluation, tried again after others were
    promoted, would bring a worse model back.

    Args:
        evaluation: its figures.
        settings: what it takes.
        store: where models are.
        is_forced: a person wants it, whatever the figures say.

    Raises:
        NoModelError: the model that was evaluated is not in the store.
        ConflictError: somebody else promoted a model at the same time.
    """
    version = evaluation.version
    read_card(version, store)
    is_judged = False
    seen = store.read_pointer(CHAMPION_KEY)
    champion = str(seen.value["version"]) if seen else None
    if champion == version:
        return Promotion(version=version, is_promoted=False, champion=champion, reason="it is the champion already")
    if seen and version in seen.value.get("gone_back_from", ()):
        is_better, reason = False, "it was gone back from"
    elif champion is not None and evaluation.champion != champion:
        measured_against = evaluation.champion or "no champion"
        is_better, reason = (
            False,
            f"it was measured against {measured_against}, not against {champion}: evaluate it again",
        )
    else:
        champion_map = _champion_figure(evaluation, champion, store)
        is_judged = True
        is_better, reason = judge(evaluation, champion, champion_map, settings)
    if is_forced and not is_better:
        is_better, reason = True, f"by hand, although {reason}"
    if is_better:
        _point_to(evaluation, seen, store)
    logger.info("model %s %s: %s", version, "is the champion now" if is_better else "is not promoted", reason)
    return Promotion(
        version=version,
        is_promoted=is_better,
        champion=version if is_better else champion,
        reason=reason,
        is_worse=is_judged and not is_better,
    )


def rollback_model(store: Store) -> Promotion:
    """Put the champion before the present one back into use, by hand; once more goes one further back.

    What is left by this comes back by hand only.

    Raises:
        NoModelError: there is none before it, or it is not in the store any more.
        ConflictError: somebody else promoted a model at the same time.
    """
    seen = store.read_pointer(CHAMPION_KEY)
    earlier = list(seen.value.get("previous", ())) if seen else []
    if seen is None or not earlier:
        raise NoModelError("there is no champion before this one to go back to")
    version, left = str(earlier[0]), str(seen.value["version"])
    measured = read_card(version, store).evaluation
    if not store.exists(model_key(version, "encoder.keras")):
        raise NoModelError(f"model {version} has a card and no encoder any more: it cannot be gone back to")
    _swap(measured, earlier[1:], {*seen.value.get("gone_back_from", ()), left}, seen, store)
    logger.info("model %s is the champion again, in place of %s", version, left)
    return Promotion(version=version, is_promoted=True, champion=version, reason=f"by hand, back from {left}")


def judge(
    evaluation: Evaluation, champion: str | None, champion_map: float | None, settings: Settings
) -> tuple[bool, str]:
    """Whether a model should be put into use, and why or why not.

    Args:
        evaluation: its figures.
        champion: the version in use, if any.
        champion_map: the champion's mAP@k, if any.
        settings: by how much a model has to beat what needs no training, and what it may lose.

    Returns:
        The verdict and its reason, in words.
    """
    ours, at, gain = evaluation.map_at_k, f"mAP@{evaluation.k}", settings.model.min_gain
    for name, theirs in (
        ("chance", evaluation.chance_map_at_k),
        ("the untrained model", evaluation.untrained_map_at_k),
        ("the frozen backbone alone", evaluation.mean_pooled_map_at_k),
    ):
        if theirs is not None and ours < theirs + gain:
            return False, f"{at} {ours:.3f} is not {gain} above {name} ({theirs:.3f})"
    if champion is None or champion_map is None:
        return True, f"{at} {_with_interval(ours, evaluation.map_interval)}, and there was no champion"
    if ours <= champion_map:
        return False, f"{at} {ours:.3f} is not better than {champion_map:.3f} of the champion {champion}"
    if reason := _lost_copies(evaluation, settings.evaluation.max_copies_loss):
        return False, f"{reason} of the champion {champion}, though its {at} {ours:.3f} is better"
    return True, f"{at} {ours:.3f} is better than {champion_map:.3f} of {champion}{_told(evaluation.champion_gain)}"


def _lost_copies(evaluation: Evaluation, allowed: float) -> str:
    """In words, that it finds fewer near-duplicates than the champion; empty where it does not, or nobody knows."""
    ours, theirs = evaluation.copies, evaluation.champion_copies
    if ours is None or theirs is None or ours.recall_at_1.value >= theirs.recall_at_1.value - allowed:
        return ""
    told = _told(evaluation.champion_copies_gain)
    return (
        f"recall@1 of near-duplicates {ours.recall_at_1.value:.3f} is more than {allowed} below "
        f"{theirs.recall_at_1.value:.3f}{told}"
    )


def _with_interval(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.3f}" if interval is None else f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def _told(gain: Estimate | None) -> str:
    """A difference in words, and whether another choice of films might have turned it round."""
    if gain is None:
        return ""
    if gain.low is None or gain.high is None:
        return f", by {gain.value:+.3f}"
    doubt = ", so it may be chance" if gain.low <= 0 <= gain.high else ""
    return f", by {gain.value:+.3f} (95 % interval {gain.low:+.3f} to {gain.high:+.3f}{doubt})"


def _point_to(evaluation: Evaluation, seen: Versioned | None, store: Store) -> None:
    """Make it the champion, the present one being what a rollback goes back to."""
    value = seen.value if seen else {}
    earlier = [value["version"], *value.get("previous", ())] if value else []
    others = [version for version in earlier if version != evaluation.version]
    _swap(evaluation, others, set(value.get("gone_back_from", ())) - {evaluation.version}, seen, store)


def _swap(
    evaluation: Evaluation, previous: list[str], gone_back_from: set[str], seen: Versioned | None, store: Store
) -> None:
    pointer = {
        "version": evaluation.version,
        "map_at_k": evaluation.map_at_k,
        "k": evaluation.k,
        "previous": previous[:_N_PREVIOUS],
        "gone_back_from": sorted(gone_back_from),
    }
    store.swap_pointer(CHAMPION_KEY, pointer, seen)


def load_encoder(store: Store, version: str | None = None, cache_folder: Path | None = None) -> Encoder:
    """A model, from a local copy that is checked against its card.

    Args:
        store: where models are.
        version: which; None: the champion.
        cache_folder: for the copies; None: the default of the settings.

    Raises:
        NoModelError: there is no such model, or no champion yet.
        ModelMismatchError: its bytes are not what its card says, or this code cannot load them.
    """
    version = version or read_champion(store)
    if version is None:
        raise NoModelError("no model has been promoted yet: `trailer-ml train` makes one, `trailer-ml promote` uses it")
    card = read_card(version, store)
    folder = (cache_folder or ModelSettings().cache_folder).expanduser() / "encoders"
    path = folder / f"{card.encoder_sha256}.keras"
    if not path.exists() or sha256_of_file(path) != card.encoder_sha256:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            store.read_file(model_key(version, "encoder.keras"), path)
        except MissingObjectError as error:
            raise NoModelError(f"model {version} has a card and no encoder any more: train another") from error
        if sha256_of_file(path) != card.encoder_sha256:
            path.unlink()
            raise ModelMismatchError(f"models/{version}/encoder.keras is damaged: its bytes are not what its card says")
    keep_newest(path)
    from trailer_ml.model.encoder import Encoder

    encoder = Encoder.from_file(path, version, card.features)
    if (encoder.video_dim, encoder.audio_dim) != (card.video_dim, card.audio_dim):
        raise ModelMismatchError(
            f"model {version} makes vectors of {encoder.video_dim} + {encoder.audio_dim} numbers, and its card says "
            f"{card.video_dim} + {card.audio_dim}"
        )
    return encoder


def _champion_figure(evaluation: Evaluation, champion: str | None, store: Store) -> float | None:
    """The champion's figure on the same queries; where it could not be had, the one of its own card."""
    if champion is None:
        return None
    if evaluation.champion_map_at_k is not None:
        return evaluation.champion_map_at_k
    return read_card(champion, store).evaluation.map_at_k
