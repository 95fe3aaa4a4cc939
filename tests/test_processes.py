"""Children end when they should: at their end, at their time, with their group, and with us."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trailer_ml import processes
from trailer_ml.errors import ChildFailedError, ChildKilledError, ChildTimeoutError, LocalFaultError, RetryableError
from trailer_ml.processes import clean_environment, limit_this_process, run_child, start_child

PYTHON = sys.executable


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds=60.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_a_child_that_floods_its_standard_error_does_not_hang():
    code = "import sys; sys.stderr.write('x' * 5_000_000 + '\\nlast words'); print('out')"
    finished = run_child([PYTHON, "-c", code], timeout_s=60)
    assert finished.stdout == b"out\n"
    assert finished.stderr_tail.endswith("last words")
    assert len(finished.stderr_tail) <= 4096


def test_a_failure_says_how_and_why():
    with pytest.raises(ChildFailedError, match="ended with 3: it said nothing") as caught:
        run_child([PYTHON, "-c", "raise SystemExit(3)"], timeout_s=60)
    assert caught.value.returncode == 3


@pytest.mark.parametrize(
    ("number", "message"),
    [(9, r"was ended by SIGKILL .*out of memory"), (15, "was ended by SIGTERM:"), (35, "was ended by signal 35:")],
)
def test_an_end_by_a_signal_may_not_come_again(number, message):
    with pytest.raises(ChildKilledError, match=message) as caught:
        run_child(["/bin/sh", "-c", f"kill -{number} $$"], timeout_s=60)
    assert caught.value.returncode == -number
    assert isinstance(caught.value, RetryableError)


def test_a_program_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(LocalFaultError, match=r"^ffmpeg cannot be started: .*No such file"):
        run_child([str(tmp_path / "ffmpeg")], timeout_s=60)


def test_a_child_that_only_seems_to_have_ended_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(processes, "_END_S", 0.2)
    arguments = ["/bin/sh", "-c", "exec >&-; sleep 300"]
    with start_child(arguments, stdout=subprocess.PIPE) as child:
        assert child.process.stdout.read() == b""
        with pytest.raises(ChildKilledError, match=r"did not end within 0\.2 s and was killed"):
            raise child.failure(arguments)


def test_a_child_past_its_time_is_killed_with_its_group(tmp_path):
    pids = tmp_path / "pids"
    code = f"sleep 300 & echo $! > {pids}; echo $$ >> {pids}; wait"
    with pytest.raises(ChildTimeoutError, match="sh ran longer than 1 s"):
        run_child(["/bin/sh", "-c", code], timeout_s=1)
    for pid in pids.read_text().split():
        assert wait_until(lambda pid=pid: not is_running(int(pid)))


def test_a_child_ends_when_its_block_does():
    with start_child([PYTHON, "-c", "import time; time.sleep(300)"]) as child:
        assert is_running(child.process.pid)
    assert not is_running(child.process.pid)


def test_what_a_child_of_ours_starts_ends_with_it(tmp_path):
    pid_file = tmp_path / "pid"
    code = (
        "from trailer_ml.errors import ChildTimeoutError\n"
        "from trailer_ml.processes import limit_this_process, run_child\nlimit_this_process()\n"
        "try: run_child(['sleep', '300'], timeout_s=0.1)\nexcept ChildTimeoutError: pass\n"
        f"run_child(['/bin/sh', '-c', 'echo $$ > {pid_file}; exec sleep 300'], timeout_s=300)"
    )
    with start_child([PYTHON, "-c", code]) as child:
        assert wait_until(lambda: pid_file.exists() and pid_file.read_text().strip()), child.stderr_tail()
        pid = int(pid_file.read_text())
        assert is_running(pid)
    assert wait_until(lambda: not is_running(pid))


def test_a_child_dies_with_a_parent_that_was_killed(tmp_path):
    pid_file = tmp_path / "pid"
    child = (
        "import os, pathlib, time; from trailer_ml.processes import limit_this_process; limit_this_process();"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(300)"
    )
    parent = (
        "import sys; from trailer_ml.processes import run_child;"
        f"run_child([sys.executable, '-c', {child!r}], timeout_s=300)"
    )
    process = subprocess.Popen([PYTHON, "-c", parent])
    try:
        assert wait_until(lambda: pid_file.exists() and pid_file.read_text())
        pid = int(pid_file.read_text())
        assert is_running(pid)
        os.kill(process.pid, signal.SIGKILL)
        assert wait_until(lambda: not is_running(pid))
    finally:
        process.kill()
        process.wait()


def test_limits_hold():
    code = (
        "from trailer_ml.processes import limit_this_process; limit_this_process(memory_bytes=2**30, file_bytes=1000);"
        "\ntry: bytearray(2**31)\nexcept MemoryError: print('memory')"
        "\nimport tempfile\nfile = tempfile.TemporaryFile(buffering=0); file.write(b'x' * 1000)"
        "\ntry: file.write(b'x')"
        "\nexcept OSError: print('file')"
    )
    assert run_child([PYTHON, "-c", code], timeout_s=60).stdout == b"memory\nfile\n"
    assert callable(limit_this_process)


def test_strangers_get_what_programs_need_and_no_secret(monkeypatch):
    kept = {"LC_TIME": "C", "HTTPS_PROXY": "http://127.0.0.1:1", "no_proxy": "localhost", "SSL_CERT_FILE": "/c.pem"}
    dropped = ("AWS_SECRET_ACCESS_KEY", "POSTGRES_PASSWORD", "HF_TOKEN", "TF_TOKEN_app_terraform_io", "PYTHON_API_KEY")
    for name, value in kept.items() | {(name, "hidden") for name in dropped}:
        monkeypatch.setenv(name, value)
    environment = clean_environment()
    assert kept.items() <= environment.items()
    assert environment["PATH"] == os.environ["PATH"]
    assert "hidden" not in environment.values()
