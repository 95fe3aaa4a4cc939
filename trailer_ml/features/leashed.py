"""Becomes another program that is killed when the process that started it dies, however that dies.

    python -I -S leashed.py 1234 /usr/bin/ffmpeg -i ...

1234 is the parent. A program that is not ours cannot ask for this itself, and a parent that is killed with SIGKILL can
do nothing for it any more. It costs 20 ms.

Does not belong here: imports of this package, for the sake of those 20 ms.
"""

import ctypes
import os
import signal
import sys

CANNOT_START = 126
"""What it ends with where there is no such program."""
_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent, program = int(sys.argv[1]), sys.argv[2]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before the line above
        sys.exit(CANNOT_START)
    try:
        os.execv(program, sys.argv[2:])  # noqa: S606 - no shell is what is wanted
    except OSError as error:
        sys.stderr.write(f"{program}: {error.strerror}\n")
        sys.exit(CANNOT_START)
