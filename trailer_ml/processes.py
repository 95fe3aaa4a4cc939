"""Running other programs so that none of them hangs, floods or outlives us.

Every child gets no standard input, its standard error in a file (a full pipe that nobody drains hangs ffmpeg:
ffmpeg-python #195), a wall clock, and a kill at the end, however it ends. It gets a session of its own and is killed
with its whole group; only what one of our own children starts stays in that child's session, for a kill from outside
has to reach it too.

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

from trailer_ml.errors import ChildFailedError, ChildKilledError, ChildTimeoutError, LocalFaultError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TAIL_BYTES = 4096
_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 2**30
_PARENT_VARIABLE = "_TRAILER_ML_PARENT_PID"
_END_S = 10.0
"""A child that has closed its output ends at once; one that has not by then hangs."""
_HARMLESS = frozenset({
    "PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "IMAGEIO_FFMPEG_EXE",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "PYTHONPATH", "PYTHONHOME", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONWARNINGS", "PYTHONHASHSEED",
    "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONFAULTHANDLER", "PYTHONMALLOC",
    "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "COVERAGE_FILE",
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS",
})  # fmt: skip
_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy"})  # in capitals too


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
        timeout_s: wall clock after which it is killed.
        env: its whole environment; None: ours.
        cwd: its folder; None: ours.

    Raises:
        ChildTimeoutError: it ran past `timeout_s`.
        ChildFailedError: it ended with anything but 0.
        ChildKilledError: a signal ended it.
        LocalFaultError: it could not even be started.
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
    """A running child and the file its standard error goes to.

    Args:
        process: the child.
        stderr: that file.
        is_leader: whether it has a group of its own.
    """

    def __init__(self, process: subprocess.Popen[bytes], stderr: IO[bytes], *, is_leader: bool) -> None:
        self.process = process
        self._stderr = stderr
        self._is_leader = is_leader

    def kill(self) -> None:
        """SIGKILL, to its whole group where it has one; it is no error when it has ended."""
        if self._is_leader:
            kill_group(self.process.pid)
        else:
            self.process.kill()

    def stderr_tail(self) -> str:
        """Its last words so far."""
        number = self._stderr.fileno()
        start = max(0, os.fstat(number).st_size - TAIL_BYTES)  # read aside: the child writes where the file stands
        return os.pread(number, TAIL_BYTES, start).decode(errors="replace").strip()

    def failure(self, arguments: Sequence[str]) -> ChildFailedError | ChildKilledError:
        """The error that says how it ended; a child that only seems to have ended is killed."""
        try:
            returncode = self.process.wait(_END_S)
            how = _describe_signal(-returncode) if returncode < 0 else f"ended with {returncode}"
        except subprocess.TimeoutExpired:
            self.kill()
            returncode = self.process.wait()
            how = f"said no more, did not end within {_END_S:g} s and was killed"
        tail = self.stderr_tail()
        last = tail.splitlines()[-1] if tail else "it said nothing"
        error = ChildKilledError if returncode < 0 else ChildFailedError
        return error(f"{Path(arguments[0]).name} {how}: {last}", returncode=returncode, stderr_tail=tail)


def _describe_signal(number: int) -> str:
    known = {each.value: each.name for each in signal.Signals}  # of the real-time ones two have a name
    name = known.get(number, f"signal {number}")
    return f"was ended by {name}" + (" (by hand, or the machine ran out of memory)" if name == "SIGKILL" else "")


@contextlib.contextmanager
def start_child(
    arguments: Sequence[str],
    *,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stdin: int = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[Child]:
    """A child that runs while the block runs; it is killed when the block ends, in whichever way.

    Raises:
        LocalFaultError: it could not be started.
    """
    is_leader = not _has_our_parent()
    with tempfile.TemporaryFile() as stderr:
        try:
            process = subprocess.Popen(
                list(arguments),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env={**(os.environ if env is None else env), _PARENT_VARIABLE: str(os.getpid())},
                cwd=cwd,
                start_new_session=is_leader,
            )
        except OSError as error:
            raise LocalFaultError(f"{Path(arguments[0]).name} cannot be started: {error}") from error
        child = Child(process, stderr, is_leader=is_leader)
        try:
            yield child
        finally:
            child.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()


def clean_environment() -> dict[str, str]:
    """Of our environment, what programs need to run, for children that handle strangers' pages and files.

    It is a list of what is kept: secrets have any name.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name in _HARMLESS or name.startswith("LC_") or name.lower() in _PROXIES
    }


def kill_group(pid: int) -> None:
    """SIGKILL to every process of the group that `pid` leads; it is no error when none is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def limit_this_process(
    *, memory_bytes: int | None = None, file_bytes: int | None = None, can_be_lifted: bool = False
) -> None:
    """Called by our own children as they start: die when the parent dies, and stay within limits.

    Args:
        memory_bytes: address space; more is a MemoryError in this process.
        can_be_lifted: whether a program that this one starts may lift that limit.
        file_bytes: the largest file it may write.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if _PARENT_VARIABLE in os.environ and not _has_our_parent():  # it was gone before the line above
        os._exit(1)
    if memory_bytes is not None:
        most = resource.getrlimit(resource.RLIMIT_AS)[1] if can_be_lifted else memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, most))
    if file_bytes is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit is then an OSError
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))


def keep_freed_memory() -> None:
    """Called by our own children that do the same again and again: what they free stays theirs and is used again.

    glibc gives large buffers back to the kernel at once and asks for others, each page of which is cleared and mapped
    anew: a seventh of the time of a trailer's keyframes. Peak memory is the same. Without glibc nothing changes.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _has_our_parent() -> bool:
    """Whether this process was started by `start_child`, and whoever did so still lives."""
    return os.environ.get(_PARENT_VARIABLE) == str(os.getppid())
