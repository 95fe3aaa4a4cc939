"""Nothing of the demo outlives it, however it ends: kill -9 included.

The caller stays behind as a guard and the demo runs in a child of it. When the child is gone, in whichever way, the
guard kills what is left below it: as a "subreaper" it inherits every orphan, also those that made a session of their
own. When the guard itself is killed, the child gets SIGTERM, ends in good order and does the same for itself.

Does not belong here: ending in good order. That is each server's own business.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PR_SET_PDEATHSIG = 1
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_PR_SET_CHILD_SUBREAPER = 36


class Stopped(BaseException):
    """Somebody wants the demo to end: Ctrl-C or SIGTERM. Raised once; what comes after is ignored."""


def run_guarded(body: Callable[[], int]) -> int:
    """Run `body` in a child and leave no process behind.

    Args:
        body: the work; what it returns is the exit code. `Stopped` is raised in it when a signal asks it to end.

    Returns:
        Its exit code; 128 + n when signal n ended it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    guard = os.getpid()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # not inherited
        os._exit(1 if os.getppid() != guard else _run_child(body))
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # a terminal's keys, and its end, reach the child as well
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    status = _wait_for(child)
    kill_descendants()
    return status


def kill_descendants() -> None:
    """SIGKILL to everything below this process, until nothing is left there."""
    while below := list(_descendants(os.getpid())):
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)


def _run_child(body: Callable[[], int]) -> int:
    def stop(*_: object) -> None:
        for number in _ENDS:
            signal.signal(number, signal.SIG_IGN)
        raise Stopped

    for number in _ENDS:
        signal.signal(number, stop)
    try:
        return body()
    except BaseException:  # noqa: BLE001 - the end of a process: what is raised here is shown
        import traceback

        traceback.print_exc()
        return 1
    finally:
        kill_descendants()
        sys.stdout.flush()
        sys.stderr.flush()


def _wait_for(child: int) -> int:
    """Reap until `child` is among the reaped; a subreaper gets strangers too."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code


def _descendants(root: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            if fields[0] != "Z":
                children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    queue = list(children.get(root, []))
    while queue:
        pid = queue.pop()
        yield pid
        queue += children.get(pid, [])
