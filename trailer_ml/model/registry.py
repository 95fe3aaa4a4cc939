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
    from trailer_ml.records import Evaluation
    from trailer_ml.settings import Settings
    from trailer_ml.storage import Store

logger = logging.getLogger(__name__)


def read_champion(store: Store) -> str | None:
    """The version in use; None where none has been promoted yet."""
    pointer = store.read_pointer(CHAMPION_KEY)
    return str(pointer.value["version"]) if pointer else None


def promote_model(evaluation: Evaluation, settings: Settings, store: Store) -> Promotion:
    """Put a model into use if it is better than the one that is.

    Only a comparison with the model that is in use now counts: an old evaluation, tried again after others were
    promoted, would bring a worse model back.

    Raises:
        NoModelError: the model that was evaluated is not in the store.
        ConflictError: somebody else promoted a model at the same time.
    """
    version = evaluation.version
    read_card(version, store)
    seen = store.read_pointer(CHAMPION_KEY)
    champion = str(seen.value["version"]) if seen else None
    if champion == version:
        return Promotion(version=version, is_promoted=False, champion=champion, reason="it is the champion already")
    if champion is not None and evaluation.champion != champion:
        reason = (
            f"it was measured against {evaluation.champion or 'no champion'}, not against {champion}: evaluate it again"
        )
        logger.info("model %s is not promoted: %s", version, reason)
        return Promotion(version=version, is_promoted=False, champion=champion, reason=reason)
    is_better, reason = judge(evaluation, champion, _champion_figure(evaluation, champion, store), settings.model)
    if is_better:
        store.swap_pointer(CHAMPION_KEY, {"version": version, "map_at_k": evaluation.map_at_k, "k": evaluation.k}, seen)
    logger.info("model %s %s: %s", version, "is the champion now" if is_better else "is not promoted", reason)
    return Promotion(version=version, is_promoted=is_better, champion=version if is_better else champion, reason=reason)


def judge(
    evaluation: Evaluation, champion: str | None, champion_map: float | None, settings: ModelSettings
) -> tuple[bool, str]:
    """Whether a model should be put into use, and why or why not.

    Args:
        evaluation: its figures.
        champion: the version in use, if any.
        champion_map: the champion's mAP@k, if any.
        settings: by how much a model has to beat what needs no training.

    Returns:
        The verdict and its reason, in words.
    """
    ours, at = evaluation.map_at_k, f"mAP@{evaluation.k}"
    for name, theirs in (
        ("chance", evaluation.chance_map_at_k),
        ("the untrained model", evaluation.untrained_map_at_k),
    ):
        if ours < theirs + settings.min_gain:
            return False, f"{at} {ours:.3f} is not {settings.min_gain} above {name} ({theirs:.3f})"
    if champion is None or champion_map is None:
        return True, f"{at} {ours:.3f}, and there was no champion"
    if ours <= champion_map:
        return False, f"{at} {ours:.3f} is not better than {champion_map:.3f} of the champion {champion}"
    return True, f"{at} {ours:.3f} is better than {champion_map:.3f} of {champion}"


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

    return Encoder.from_file(path, version, card.features)


def _champion_figure(evaluation: Evaluation, champion: str | None, store: Store) -> float | None:
    """The champion's figure on the same queries; where it could not be had, the one of its own card."""
    if champion is None:
        return None
    if evaluation.champion_map_at_k is not None:
        return evaluation.champion_map_at_k
    return read_card(champion, store).evaluation.map_at_k
