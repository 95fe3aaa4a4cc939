"""Local copies that do not pile up: of a kind, the newest few stay.

Does not belong here: making copies, and those of shards (shards/read.py), of which a training needs all there are.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

N_KEPT = 2
"""The one in use and the one before, as when a champion and its successor are compared."""


def keep_newest(path: Path) -> None:
    """Note that a copy is used now, and delete all but the newest beside it.

    Who has an older one open goes on reading it; that is how files are deleted here. What begins with a dot is being
    made and left alone.

    Args:
        path: a file or a folder, in a folder that holds copies of its kind only.
    """
    with contextlib.suppress(PermissionError):  # somebody else's copy, which may be read and no more
        os.utime(path)
    copies = [copy for copy in path.parent.iterdir() if not copy.name.startswith(".") and copy != path]
    for old in sorted(copies, key=_used_at, reverse=True)[N_KEPT - 1 :]:
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                old.unlink()


def _used_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # somebody else has just deleted it
        return 0
