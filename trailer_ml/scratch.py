"""Temporary folders that do not pile up: what a killed run left behind is removed by the next one.

Each folder is locked while its owner lives, and the system lets go of a lock however its owner ends; an unlocked folder
is a leftover.

Does not belong here: what is put into them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def scratch_folder(prefix: str, root: Path | None = None) -> Iterator[Path]:
    """A folder while the block runs; those with this prefix that nobody owns any longer are removed first.

    Args:
        prefix: begins the name of every folder of this use, and of no other.
        root: where it is made, and made itself if need be; None: the system's place for temporary files.
    """
    root = root or Path(tempfile.gettempdir())
    root.mkdir(parents=True, exist_ok=True)
    for leftover in root.glob(f"{prefix}*"):
        _remove_if_unowned(leftover)
    folder, lock = _make(prefix, root)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make(prefix: str, root: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
        # until it is locked, somebody may take it for a leftover: before it is opened, or before it is locked
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)


def _remove_if_unowned(folder: Path) -> None:
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # gone already, or another user's
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
