"""The process that looks at uploaded videos: one request a line, one answer a line.

    python -m trailer_ml.search.service.looker
    > {"path": "/a/video", "model_version": "m-1"}
    < {"reason": null, "vector": [0.1, ...]}

A process of its own, so that TensorFlow takes neither memory nor time of the one that answers. The video itself is
decoded in a child of this one, under the limits of the settings (features/pool.py).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trailer_ml.embeddings.embed import embed_features
from trailer_ml.errors import MediaError, ModelMismatchError, NoModelError, TrailerError
from trailer_ml.features.pool import extract_many
from trailer_ml.model.card import read_card
from trailer_ml.model.registry import load_encoder
from trailer_ml.processes import limit_this_process
from trailer_ml.search.service.looking import FAULT, NO_MODEL
from trailer_ml.settings import load_settings
from trailer_ml.storage import Store

if TYPE_CHECKING:
    from trailer_ml.model.encoder import Encoder
    from trailer_ml.settings import Settings


def main() -> None:
    """Answer requests until standard input ends."""
    limit_this_process()
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no answer
    settings = load_settings()
    look = _Looker(settings, Store(settings.store)).look
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = look(Path(request["path"]), request["model_version"])
        except (ModelMismatchError, NoModelError) as error:
            answer = {"reason": NO_MODEL, "message": str(error)}
        except TrailerError as error:
            answer = {"reason": FAULT, "message": str(error)}
        os.write(answers, json.dumps(answer).encode() + b"\n")


class _Looker:
    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._encoder: Encoder | None = None

    def look(self, path: Path, model_version: str) -> dict[str, Any]:
        """The answer for one video; what is none does not cost the model, nor TensorFlow."""
        card = read_card(model_version, self._store)
        as_trained = self._settings.features.model_copy(update=card.features.view)
        features = next(extract_many([path], as_trained))
        if isinstance(features, MediaError):
            return {"reason": features.reason, "message": str(features).removeprefix(f"{path.name}: ")}
        if self._encoder is None or self._encoder.version != model_version:
            self._encoder = load_encoder(self._store, model_version, self._settings.model.cache_folder)
        return {"reason": None, "vector": embed_features([features], self._encoder)[0].tolist()}


if __name__ == "__main__":
    main()
