"""Whether Annoy finds the vectors of a file on this machine: asked of each copy before anybody is answered from it.

In a process of its own: an Annoy that was built for another processor ends by SIGILL (Annoy #472, #492), and would take
a whole service with it.

Does not belong here: how much an index finds (see recall.py).
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from trailer_ml.errors import ChildFailedError, ChildKilledError, DataError
from trailer_ml.processes import limit_this_process, run_child

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_ROWS = 1000
_NEAREST = 10
_EQUAL = 0.01  # Annoy's distance, sqrt(2 - 2 cos), of a vector from itself or one just like it, float32 allowed for
_TIMEOUT_S = 300.0
_CRASHES = {-signal.SIGILL, -signal.SIGSEGV, -signal.SIGBUS}
"""Signals that are about the file or about Annoy; any other is about this machine at this moment."""
_NOT_FOUND = 3


def test_files(paths: Sequence[Path], dim: int, version: str) -> None:
    """Ask each Annoy file for the neighbours of some of its vectors, first of which each is itself.

    Args:
        paths: of the files of one index.
        dim: numbers of a vector.
        version: of the index, for the error.

    Raises:
        DataError: a vector is not found, or asking crashed.
        ChildKilledError: somebody else ended the process, for want of memory perhaps.
        ChildFailedError: it could not ask at all.
    """
    try:
        run_child([sys.executable, "-m", "trailer_ml.index.selftest", str(dim), *map(str, paths)], timeout_s=_TIMEOUT_S)
    except ChildKilledError as error:
        if error.returncode not in _CRASHES:
            raise
        raise DataError(
            f"index {version} fails its self-test on this machine: {error}. A SIGILL is an Annoy that was built for"
            " another processor: install it from source here (pip install --no-binary annoy annoy)"
        ) from error
    except ChildFailedError as error:
        if error.returncode != _NOT_FOUND:
            raise
        raise DataError(f"index {version} fails its self-test on this machine: {error.stderr_tail}") from error


def _test_file(name: str, dim: int) -> str:
    """What is wrong with a file; an empty text where nothing is."""
    from annoy import AnnoyIndex

    annoy = AnnoyIndex(dim, "angular")
    annoy.load(name)
    n = annoy.get_n_items()
    for row in range(0, n, max(1, n // _ROWS)):
        _, distances = annoy.get_nns_by_item(row, _NEAREST, include_distances=True)
        if min(distances, default=2.0) > _EQUAL:
            return f"row {row} of {n} does not find itself"
    return ""


if __name__ == "__main__":
    limit_this_process()
    found_wrong = next(filter(None, (_test_file(name, int(sys.argv[1])) for name in sys.argv[2:])), "")
    if found_wrong:
        sys.stderr.write(found_wrong)
        sys.exit(_NOT_FOUND)
