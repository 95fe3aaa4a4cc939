"""Temporary folders that do not pile up: what a killed run left behind is removed by the next one.

Each folder is locked while its owner lives, and the system lets go of a lock however its owner ends; an unlocked folder
is a leftover, however young. Whatever opens one in TMPDIR removes the leftovers of every other use there, and so does
`trailer-ml doctor`; their names end in a way that no person's folder does.

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

_SUFFIX = ".trailer-ml-scratch"


@contextmanager
def scratch_folder(prefix: str, root: Path | None = None) -> Iterator[Path]:
    """A folder while the block runs; leftovers are removed first: of this use, and of any in TMPDIR.

    Args:
        prefix: begins the name of every folder of this use, and of no other.
        root: where it is made, and made itself if need be; None: the system's place for temporary files.
    """
    root = root or Path(tempfile.gettempdir())
    root.mkdir(parents=True, exist_ok=True)
    for leftover in root.glob(f"{prefix}*"):
        _remove_if_unowned(leftover)
    sweep_leftovers()
    folder, lock = _make(prefix, root)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep_leftovers() -> int:
    """Remove the folders in TMPDIR whose owner has ended, of whatever use; how many there were."""
    return sum(_remove_if_unowned(folder) for folder in Path(tempfile.gettempdir()).glob(f"*{_SUFFIX}"))


def _make(prefix: str, root: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(suffix=_SUFFIX, prefix=prefix, dir=root))
        # until it is locked, somebody may take it for a leftover: before it is opened, or before it is locked
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)


def _remove_if_unowned(folder: Path) -> bool:
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # gone already, or another user's
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()
    finally:
        os.close(lock)
