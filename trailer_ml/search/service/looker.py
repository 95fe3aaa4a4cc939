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
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trailer_ml.errors import MediaError, ModelMismatchError, NoModelError, TrailerError
from trailer_ml.processes import limit_this_process
from trailer_ml.settings import load_settings
from trailer_ml.storage import Store

if TYPE_CHECKING:
    from trailer_ml.model.encoder import Encoder
    from trailer_ml.settings import Settings

FAULT, NO_MODEL = "fault", "no_model"
"""Reasons that are not the video's."""


def main() -> None:
    """Answer requests until standard input ends."""
    limit_this_process()
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no answer
    settings = load_settings()
    store = Store(settings.store)

    @lru_cache(1)
    def load(version: str) -> Encoder:
        from trailer_ml.model.registry import load_encoder

        return load_encoder(store, version, settings.model.cache_folder)

    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _look(Path(request["path"]), load(request["model_version"]), settings)
        except (ModelMismatchError, NoModelError) as error:
            answer = {"reason": NO_MODEL, "message": str(error)}
        except TrailerError as error:
            answer = {"reason": FAULT, "message": str(error)}
        os.write(answers, json.dumps(answer).encode() + b"\n")


def _look(path: Path, encoder: Encoder, settings: Settings) -> dict[str, Any]:
    from trailer_ml.search.match import look_at

    seen = next(look_at([path], encoder, settings))
    if isinstance(seen, MediaError):
        return {"reason": seen.reason, "message": str(seen).removeprefix(f"{path.name}: ")}
    return {"reason": None, "vector": seen[1].tolist()}


if __name__ == "__main__":
    main()
