"""Finding ffmpeg.

Does not belong here: running it on trailers (features) or for them (ytdlp_child.py).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from trailer_ml.errors import SettingsError


def find_ffmpeg(path: str | None = None) -> str:
    """The ffmpeg program to use.

    Args:
        path: a program, by path or by a name on PATH; None: the static build that imageio-ffmpeg ships.

    Raises:
        SettingsError: there is none there.
    """
    if path is not None:
        found = shutil.which(str(Path(path).expanduser()))
        if found is None:
            raise SettingsError(f"there is no ffmpeg at {path!r} (TRAILER_FEATURES_FFMPEG_PATH)")
        return found
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise SettingsError(
            "imageio-ffmpeg has no ffmpeg for this machine: install ffmpeg and set TRAILER_FEATURES_FFMPEG_PATH"
        ) from error
