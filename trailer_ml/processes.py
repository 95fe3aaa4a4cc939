"""Running other programs so that none of them hangs, floods or outlives us.

Every child gets a session of its own, no standard input, its standard error in a file (a full pipe that nobody drains
hangs ffmpeg: ffmpeg-python #195), a wall clock, and a kill of the whole group at the end, however it ends.

Does not belong here: which programs, and what their output means.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from trailer_ml.errors import ChildFailedError, ChildTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TAIL_BYTES = 4096
_PR_SET_PDEATHSIG = 1
_PARENT_VARIABLE = "_TRAILER_ML_PARENT_PID"


class Finished(NamedTuple):
    """How a child ended well."""

    stdout: bytes
    stderr_tail: str


def run_child(
    arguments: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Finished:
    """Run a program to its end.

    Args:
        arguments: the program and its arguments; no shell sees them.
        timeout_s: wall clock after which the whole group is killed.
        env: its whole environment; None: ours.
        cwd: its folder; None: ours.

    Raises:
        ChildTimeoutError: it ran past `timeout_s`.
        ChildFailedError: it ended with anything but 0.
    """
    with tempfile.TemporaryFile() as stdout, start_child(arguments, stdout=stdout, env=env, cwd=cwd) as child:
        try:
            returncode = child.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ChildTimeoutError(
                f"{Path(arguments[0]).name} ran longer than {timeout_s:.0f} s and was killed",
                stderr_tail=child.stderr_tail(),
            ) from None
        if returncode:
            raise child.failure(arguments)
        stdout.seek(0)
        return Finished(stdout.read(), child.stderr_tail())


class Child:
    """A running child and the file its standard error goes to."""

    def __init__(self, process: subprocess.Popen[bytes], stderr: IO[bytes]) -> None:
        self.process = process
        self._stderr = stderr

    def stderr_tail(self) -> str:
        """Its last words so far."""
        number = self._stderr.fileno()
        start = max(0, os.fstat(number).st_size - TAIL_BYTES)  # read aside: the child writes where the file stands
        return os.pread(number, TAIL_BYTES, start).decode(errors="replace").strip()

    def failure(self, arguments: Sequence[str]) -> ChildFailedError:
        """The error that says how it ended."""
        returncode = self.process.wait()
        tail = self.stderr_tail()
        how = f"ended with {returncode}"
        if returncode < 0:
            how = f"was ended by {signal.Signals(-returncode).name}"
            if returncode == -signal.SIGKILL:
                how += " (by hand, or the machine ran out of memory)"
        last = tail.splitlines()[-1] if tail else "it said nothing"
        return ChildFailedError(f"{Path(arguments[0]).name} {how}: {last}", returncode=returncode, stderr_tail=tail)


@contextlib.contextmanager
def start_child(
    arguments: Sequence[str],
    *,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stdin: int = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[Child]:
    """A child that runs while the block runs; its group is killed when the block ends, in whichever way."""
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            list(arguments),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={**(os.environ if env is None else env), _PARENT_VARIABLE: str(os.getpid())},
            cwd=cwd,
            start_new_session=True,
        )
        try:
            yield Child(process, stderr)
        finally:
            kill_group(process.pid)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()


def clean_environment() -> dict[str, str]:
    """Our environment without its secrets and settings, for children that handle strangers' pages and files."""
    secret = ("AWS_", "AIRFLOW", "TRAILER_")
    return {name: value for name, value in os.environ.items() if not name.startswith(secret)}


def kill_group(pid: int) -> None:
    """SIGKILL to every process of the group that `pid` leads; it is no error when none is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def limit_this_process(*, memory_bytes: int | None = None, file_bytes: int | None = None) -> None:
    """Called by our own children as they start: die when the parent dies, and stay within limits.

    Args:
        memory_bytes: address space; more is a MemoryError in this process.
        file_bytes: the largest file it may write.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = os.environ.get(_PARENT_VARIABLE)
    if parent is not None and os.getppid() != int(parent):  # it was gone before the line above
        os._exit(1)
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    if file_bytes is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit is then an OSError
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
