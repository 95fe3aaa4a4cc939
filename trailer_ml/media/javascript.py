"""Finding the JavaScript runtime that yt-dlp needs for YouTube.

Does not belong here: what is run in it; that is yt-dlp's own.
"""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

from trailer_ml.errors import SettingsError


def find_deno() -> str:
    """The deno that came from PyPI, or else one on PATH.

    Raises:
        SettingsError: there is none.
    """
    own = Path(sysconfig.get_path("scripts"), "deno")
    if found := shutil.which(own) or shutil.which("deno"):
        return found
    raise SettingsError("there is no JavaScript runtime: YouTube's videos cannot be had")
