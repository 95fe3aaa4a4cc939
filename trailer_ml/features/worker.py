"""The process that pool.py starts and may kill: reads one request a line, answers one line.

    python -m trailer_ml.features.worker '{"sampler": "exact", ...}'
    > {"path": "/a/trailer.mp4", "output": "/a/temporary.npz"}
    < {"reason": null}

A request may name another engine than the settings.

Its start has to be light: nothing of storage, crawling or TensorFlow is imported here.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

from trailer_ml.errors import MediaError, SettingsError
from trailer_ml.processes import keep_freed_memory, limit_this_process
from trailer_ml.settings import FeatureSettings

READY = b"ready\n"
LOCAL_FAULT = "local_fault"
"""The reason when this machine is in the way and not the file: no room for what was extracted, no ffmpeg."""
_MAX_FILE_BYTES = 2**30


def main() -> None:
    """Answer requests until standard input ends."""
    settings = FeatureSettings.model_validate_json(sys.argv[1])
    limit_this_process(memory_bytes=settings.memory_bytes, file_bytes=_MAX_FILE_BYTES)
    keep_freed_memory()
    from trailer_ml.features.extract import extract_features

    gc.freeze()  # what the start has made is not looked through again
    os.write(sys.stdout.fileno(), READY)
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, str | None] = {"reason": None}
        chosen = settings.model_copy(update={"engine": request.get("engine", settings.engine)})
        try:
            extract_features(Path(request["path"]), chosen).save_npz(Path(request["output"]))
        except MediaError as error:
            answer = {"reason": error.reason, "message": str(error), "stderr_tail": error.stderr_tail}
        except MemoryError:  # of ours; ffmpeg's own comes as a MediaError
            answer = {"reason": "out_of_memory", "message": "it needs more memory than is allowed"}
        except (OSError, SettingsError) as error:  # of the file's own, each is a MediaError
            answer = {"reason": LOCAL_FAULT, "message": str(error)}
        os.write(sys.stdout.fileno(), json.dumps(answer).encode() + b"\n")
        gc.collect()  # a file that was open is a ring of objects, which holds on to buffers for pictures


if __name__ == "__main__":
    main()
